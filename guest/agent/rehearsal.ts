/**
 * Walks through what the start of a pod does, in a guest that waits for its pod: an emulated machine
 * translates code when it runs for the first time, and what was translated stays with the machine.
 * Nothing of it is left in the guest.
 *
 * @module
 */

import { cgroupEmptied, cgroupsPath, killCgroup, removeCgroup, watchOom } from "./cgroups.ts";
import { callCrun, forgetContainer } from "./crun.ts";
import { makeDirectory, removeTree, writeText } from "./files.ts";
import { log } from "./log.ts";
import { rehearseNetwork } from "./network.ts";
import { crunConfig } from "./oci.ts";
import { watchChild } from "./processes.ts";
import { mountOverlay, unmountOverlay } from "./rootfs.ts";
import { rehearseSetup } from "./setup.ts";

/** The name of the container that is made. */
const NAME = "quasaur-rehearsal";
const IMAGE = "/run/rehearsal";

/** What a container of containerd has mounted. */
const MOUNTS = [
  { destination: "/proc", type: "proc", source: "proc" },
  { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["mode=755"] },
  { destination: "/dev/pts", type: "devpts", source: "devpts", options: ["newinstance"] },
  { destination: "/dev/mqueue", type: "mqueue", source: "mqueue" },
  { destination: "/sys", type: "sysfs", source: "sysfs", options: ["ro"] },
  { destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["ro"] },
];

/**
 * Rehearses.
 *
 * @param withContainer Whether a container is made as well, and taken away before it runs; that
 *   costs some memory of the host.
 */
export async function rehearse(withContainer: boolean): Promise<void> {
  rehearseSetup();
  rehearseNetwork();
  if (withContainer) await rehearseContainer();
}

async function rehearseContainer(): Promise<void> {
  const notes: (string | undefined)[] = [];
  try {
    makeDirectory(IMAGE);
    // Something that could be executed; it never is.
    writeText(`${IMAGE}/program`, "", 0o755);
    const rootfs = mountOverlay(IMAGE, NAME);
    const pid = await callCrun({
      action: "cannot rehearse a container",
      verb: "create",
      container: NAME,
      document: crunConfig(configuration(), {
        rootfs,
        mounts: [],
        cgroupsPath: cgroupsPath(NAME),
        pidNamespace: undefined,
        terminal: undefined,
        device: () => undefined,
        hasHugePages: () => false,
      }),
      program: "/program",
      stdio: {
        childFds: [-1, -1, -1],
        hasTerminal: false,
        closeChildEnds: () => {},
        attachTerminal: () => {},
      },
    });
    watchChild(pid, () => {});
    watchOom(NAME, () => {}).stop();
  } finally {
    killCgroup(NAME);
    await cgroupEmptied(NAME);
    notes.push(forgetContainer(NAME), await removeCgroup(NAME));
    notes.push(...unmountOverlay(NAME), removeTree(IMAGE));
    for (const note of notes) if (note !== undefined) log("warn", `rehearsal: ${note}`);
  }
}

function configuration() {
  const capabilities = ["CAP_CHOWN", "CAP_KILL"];
  return {
    ociVersion: "1.2.0",
    process: {
      args: ["/program"],
      cwd: "/",
      env: ["PATH=/bin"],
      user: { uid: 0, gid: 0 },
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      noNewPrivileges: true,
    },
    root: { readonly: false },
    mounts: MOUNTS,
    linux: {
      maskedPaths: ["/proc/kcore"],
      readonlyPaths: ["/proc/sys"],
      seccomp: {
        defaultAction: "SCMP_ACT_ALLOW",
        syscalls: [{ names: ["kexec_load"], action: "SCMP_ACT_ERRNO" }],
      },
      resources: {
        devices: [{ allow: false, access: "rwm" }],
        memory: { limit: 32 << 20 },
        cpu: { shares: 1024, quota: 100_000, period: 100_000 },
        pids: { limit: 100 },
      },
    },
  };
}
