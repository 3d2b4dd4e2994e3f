/**
 * Numbers and flags of the Linux system calls that the wasm sandboxer makes, for the machine it
 * runs on. Sources: asm/unistd.h, fcntl.h, linux/openat2.h, linux/mount.h.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";

/** The system calls whose numbers are known here. */
export type SyscallName =
  | "capget"
  | "capset"
  | "chroot"
  | "close"
  | "fchdir"
  | "fcntl"
  | "fsconfig"
  | "fsmount"
  | "fsopen"
  | "getdents64"
  | "ioctl"
  | "madvise"
  | "mkdirat"
  | "mknodat"
  | "memfdCreate"
  | "mount"
  | "mountSetattr"
  | "moveMount"
  | "openat2"
  | "openTree"
  | "pipe2"
  | "ppoll"
  | "prctl"
  | "pread64"
  | "prlimit64"
  | "read"
  | "setgroups"
  | "setns"
  | "setpriority"
  | "setresgid"
  | "setresuid"
  | "statx"
  | "umask"
  | "umount2"
  | "unlinkat"
  | "unshare"
  | "write";

const X86_64: Readonly<Record<SyscallName, bigint>> = {
  read: 0n,
  write: 1n,
  close: 3n,
  ioctl: 16n,
  pread64: 17n,
  madvise: 28n,
  fcntl: 72n,
  fchdir: 81n,
  umask: 95n,
  setgroups: 116n,
  setresuid: 117n,
  setresgid: 119n,
  capget: 125n,
  capset: 126n,
  setpriority: 141n,
  prctl: 157n,
  chroot: 161n,
  mount: 165n,
  umount2: 166n,
  getdents64: 217n,
  mkdirat: 258n,
  mknodat: 259n,
  unlinkat: 263n,
  ppoll: 271n,
  unshare: 272n,
  pipe2: 293n,
  prlimit64: 302n,
  setns: 308n,
  memfdCreate: 319n,
  statx: 332n,
  openTree: 428n,
  moveMount: 429n,
  fsopen: 430n,
  fsconfig: 431n,
  fsmount: 432n,
  openat2: 437n,
  mountSetattr: 442n,
};

const AARCH64: Readonly<Record<SyscallName, bigint>> = {
  fcntl: 25n,
  ioctl: 29n,
  mknodat: 33n,
  mkdirat: 34n,
  unlinkat: 35n,
  umount2: 39n,
  mount: 40n,
  fchdir: 50n,
  chroot: 51n,
  close: 57n,
  pipe2: 59n,
  getdents64: 61n,
  read: 63n,
  write: 64n,
  pread64: 67n,
  ppoll: 73n,
  capget: 90n,
  capset: 91n,
  unshare: 97n,
  setpriority: 140n,
  setresuid: 147n,
  setresgid: 149n,
  setgroups: 159n,
  umask: 166n,
  prctl: 167n,
  madvise: 233n,
  prlimit64: 261n,
  setns: 268n,
  memfdCreate: 279n,
  statx: 291n,
  openTree: 428n,
  moveMount: 429n,
  fsopen: 430n,
  fsconfig: 431n,
  fsmount: 432n,
  openat2: 437n,
  mountSetattr: 442n,
};

/** The numbers on this machine. */
export const SYSCALL: Readonly<Record<SyscallName, bigint>> = Deno.build.arch === "aarch64"
  ? AARCH64
  : X86_64;

/** Flags of open(2). O_DIRECTORY and O_NOFOLLOW differ between the two machines. */
export const OPEN: Readonly<
  Record<
    | "readOnly"
    | "readWrite"
    | "writeOnly"
    | "noTerminal"
    | "append"
    | "nonblocking"
    | "directory"
    | "closeOnExec"
    | "create"
    | "path",
    number
  >
> = {
  readOnly: 0,
  writeOnly: 0o1,
  readWrite: 0o2,
  create: 0o100,
  noTerminal: 0o400,
  append: 0o2000,
  nonblocking: 0o4000,
  directory: Deno.build.arch === "aarch64" ? 0o40000 : 0o200000,
  closeOnExec: 0o2000000,
  path: 0o10000000,
};

/** openat2(2): resolve a path as if the directory were the root, links included. */
export const RESOLVE_IN_ROOT = 0x10;
/** openat2(2): refuse magic links such as /proc/self/fd/3. */
export const RESOLVE_NO_MAGICLINKS = 0x02;
/** The directory descriptor that stands for the working directory. */
export const AT_FDCWD: number = -100;
/** setns(2), unshare(2): the network namespace. */
export const CLONE_NEWNET = 0x40000000;
/** unshare(2): root directory, working directory and umask of a thread of its own. */
export const CLONE_FS = 0x200;

/**
 * Refuses machines that the tables do not cover.
 *
 * @throws {SandboxError} `Unimplemented` on anything but Linux on x86-64 and aarch64.
 */
export function assertSupportedMachine(): void {
  if (Deno.build.os === "linux") return;
  throw new SandboxError(
    "Unimplemented",
    `cannot run wasm guests on ${Deno.build.os}: only Linux is supported`,
  );
}
