/**
 * What the guest's first process does before it talks to the host: leaves the kernel's own root,
 * mounts what every Linux system has, loads the kernel modules of the initrd and switches loopback
 * on. It runs in every cold boot, so it does nothing that a later request can do.
 *
 * @module
 */

import { enableControllers } from "./cgroups.ts";
import { CRUN } from "./crun.ts";
import { systemError } from "./errno.ts";
import { listDirectory, makeLink } from "./files.ts";
import {
  MS_BIND,
  MS_MOVE,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_REMOUNT,
  RB_DISABLE_CAD,
  RLIMIT_NOFILE,
} from "./linux.ts";
import { switchDevicesOn } from "./network.ts";
import * as sys from "./sys.js";

const QUIET = MS_NOSUID | MS_NODEV | MS_NOEXEC;

/** Source, target, type, flags, options. */
const MOUNTS: readonly (readonly [string, string, string, number, string | null])[] = [
  ["proc", "/proc", "proc", QUIET, null],
  ["sysfs", "/sys", "sysfs", QUIET, null],
  ["devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755"],
  ["devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "ptmxmode=0666,mode=0620,gid=5"],
  ["tmpfs", "/dev/shm", "tmpfs", QUIET, "mode=1777"],
  ["mqueue", "/dev/mqueue", "mqueue", QUIET, null],
  ["tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755"],
  ["tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"],
  ["cgroup2", "/sys/fs/cgroup", "cgroup2", QUIET, "nsdelegate,memory_recursiveprot"],
];

const DEVICE_LINKS: readonly (readonly [string, string])[] = [
  ["/proc/self/fd", "/dev/fd"],
  ["/proc/self/fd/0", "/dev/stdin"],
  ["/proc/self/fd/1", "/dev/stdout"],
  ["/proc/self/fd/2", "/dev/stderr"],
];

/**
 * Kernel settings beside the kernel's own defaults. The pod's addresses are those that the host
 * gives, so nothing is learnt from routers; the others are what a kubelet or Debian sets on a node.
 */
const SYSCTLS: readonly (readonly [string, string])[] = [
  ["/proc/sys/net/ipv6/conf/default/accept_ra", "0"],
  ["/proc/sys/net/ipv6/conf/default/accept_dad", "0"],
  // No addresses out of the MAC address: a clone gets another one.
  ["/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1"],
  ["/proc/sys/fs/protected_hardlinks", "1"],
  ["/proc/sys/fs/protected_symlinks", "1"],
  ["/proc/sys/vm/overcommit_memory", "1"],
];

/** Open files of the agent; its containers get limits of their own. */
const OPEN_FILES = { soft: 65_536, hard: 1_048_576 };

/**
 * Brings the guest up.
 *
 * @returns What went wrong and was survived; empty where all is well.
 */
export function bringUp(): readonly string[] {
  const warnings: string[] = [];
  /** Notes a step that failed; the guest goes on, as the host can only be told over the agent. */
  const check = (action: string, answer: number): void => {
    if (answer < 0) warnings.push(systemError(action, answer).message);
  };
  leaveKernelRoot(check);
  for (const [source, target, type, flags, options] of MOUNTS) {
    sys.mkdir(target, 0o755);
    check(`cannot mount "${target}"`, sys.mount(source, target, type, flags, options));
  }
  for (const [path, value] of SYSCTLS) check(`cannot set "${path}"`, sys.writeFile(path, value));
  check(
    "cannot raise the limit of open files",
    sys.setrlimit(RLIMIT_NOFILE, OPEN_FILES.soft, OPEN_FILES.hard),
  );
  check("cannot take Ctrl-Alt-Del over", sys.reboot(RB_DISABLE_CAD));
  for (const name of listDirectory("/modules")) {
    check(`cannot load the module "${name}"`, sys.loadModule(`/modules/${name}`, ""));
  }
  protectRuntime(check);
  attempt(warnings, () => DEVICE_LINKS.forEach(([target, path]) => makeLink(target, path)));
  attempt(warnings, switchDevicesOn);
  attempt(warnings, () => enableControllers());
  return warnings;
}

/**
 * Gives the guest a root that pivot_root(2) accepts: the initrd's root is bound to a directory,
 * which is moved over it.
 */
function leaveKernelRoot(check: (action: string, answer: number) => void): void {
  sys.mkdir("/mnt", 0o755);
  check("cannot bind the root", sys.mount("/", "/mnt", null, MS_BIND, null));
  check("cannot enter the new root", sys.chdir("/mnt"));
  check("cannot move the root", sys.mount(".", "/", null, MS_MOVE, null));
  check("cannot change the root", sys.chroot("."));
  check("cannot enter the root", sys.chdir("/"));
}

/**
 * Makes the container runtime a file that cannot be written to. Otherwise crun copies and executes
 * itself anew at every call, lest a container overwrites it (CVE-2019-5736).
 */
function protectRuntime(check: (action: string, answer: number) => void): void {
  const action = `cannot protect "${CRUN}"`;
  check(action, sys.mount(CRUN, CRUN, null, MS_BIND, null));
  check(action, sys.mount(null, CRUN, null, MS_BIND | MS_REMOUNT | MS_RDONLY, null));
}

function attempt(warnings: string[], step: () => void): void {
  try {
    step();
  } catch (thrown) {
    warnings.push(thrown instanceof Error ? thrown.message : String(thrown));
  }
}
