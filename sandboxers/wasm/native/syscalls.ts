/**
 * Numbers and flags of the Linux system calls that the wasm sandboxer makes, for the machine it
 * runs on. Sources: asm/unistd.h, fcntl.h, linux/openat2.h, linux/mount.h.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";

/** The system calls whose numbers are known here. */
export type SyscallName =
  | "close"
  | "fcntl"
  | "fsconfig"
  | "fsmount"
  | "fsopen"
  | "ioctl"
  | "madvise"
  | "mount"
  | "moveMount"
  | "openat2"
  | "pipe2"
  | "ppoll"
  | "pread64"
  | "prlimit64"
  | "read"
  | "setgroups"
  | "setns"
  | "setpriority"
  | "setresgid"
  | "setresuid"
  | "statx"
  | "umount2"
  | "write";

const X86_64: Readonly<Record<SyscallName, bigint>> = {
  read: 0n,
  write: 1n,
  close: 3n,
  ioctl: 16n,
  madvise: 28n,
  pread64: 17n,
  fcntl: 72n,
  setgroups: 116n,
  setresuid: 117n,
  setresgid: 119n,
  setpriority: 141n,
  mount: 165n,
  umount2: 166n,
  ppoll: 271n,
  pipe2: 293n,
  prlimit64: 302n,
  setns: 308n,
  statx: 332n,
  moveMount: 429n,
  fsopen: 430n,
  fsconfig: 431n,
  fsmount: 432n,
  openat2: 437n,
};

const AARCH64: Readonly<Record<SyscallName, bigint>> = {
  fcntl: 25n,
  ioctl: 29n,
  umount2: 39n,
  mount: 40n,
  close: 57n,
  pipe2: 59n,
  read: 63n,
  write: 64n,
  pread64: 67n,
  ppoll: 73n,
  setpriority: 140n,
  setresuid: 147n,
  setresgid: 149n,
  setgroups: 159n,
  prlimit64: 261n,
  setns: 268n,
  madvise: 233n,
  statx: 291n,
  moveMount: 429n,
  fsopen: 430n,
  fsconfig: 431n,
  fsmount: 432n,
  openat2: 437n,
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
    | "path",
    number
  >
> = {
  readOnly: 0,
  writeOnly: 0o1,
  readWrite: 0o2,
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
