/**
 * What a guest's thread gives up before it runs the guest, as one ordered list of system calls.
 * Linux keeps all of it per thread, so the guest is confined and the rest of the process stays as it
 * is. Before these come the namespaces and cgroups, which need privileges; after them, in C, come
 * no_new_privs and the system call filters.
 *
 * @module
 */

import type { ProcessSpec } from "../lifecycle/spec.ts";
import type { FileCalls } from "./files.ts";
import { CLONE_FS, SYSCALL } from "./native/syscalls.ts";
import { cString } from "./native/system.ts";
import type { ThreadStep } from "./native/thread_spec.ts";

const PR_SET_SECUREBITS = 28;
/**
 * capabilities(7): uid 0 has no capabilities by itself, a change of ids neither gives nor takes any,
 * none is kept over it and none can be made ambient; all of that locked.
 */
const SECUREBITS = 0xef;
const UMASK = 0o022;
/** linux/capability.h: version 3, and 0 for the calling thread. */
const CAPABILITY_HEADER = bytesOf([0x20080522, 0]);
/** Effective, permitted and inheritable sets of 64 capabilities: none. */
const NO_CAPABILITIES = bytesOf([0, 0, 0, 0, 0, 0]);

/**
 * The steps that confine a thread. The system calls themselves are made: the C library's functions
 * of some of these names change all threads.
 *
 * @param root Descriptor of the directory that becomes its root; used when the thread starts.
 * @param user Who it acts as; files are checked for, and made for, that user.
 */
export function confinementSteps(root: number, user: ProcessSpec["user"]): readonly ThreadStep[] {
  const { uid, gid, additionalGids } = user;
  const groups = bytesOf(additionalGids);
  // deno-fmt-ignore
  return [
    step("parting from the others' root directory", SYSCALL.unshare, CLONE_FS),
    step("entering the root file system", SYSCALL.fchdir, root),
    step("taking it as the root directory", SYSCALL.chroot, cString(".")),
    step("setting the mask of file permissions", SYSCALL.umask, UMASK),
    step("taking on the additional groups", SYSCALL.setgroups, additionalGids.length, groups),
    step("taking on the group", SYSCALL.setresgid, gid, gid, gid),
    step("locking the way back to capabilities", SYSCALL.prctl, PR_SET_SECUREBITS, SECUREBITS, 0, 0, 0),
    step("taking on the user", SYSCALL.setresuid, uid, uid, uid),
    step("giving up all capabilities", SYSCALL.capset, CAPABILITY_HEADER, NO_CAPABILITIES),
  ];
}

/**
 * The steps for a guest where this process may have no privileges: then there are none to give up,
 * and the guest acts as the user of this process.
 *
 * @param calls Whether there are privileges.
 * @param root See {@link confinementSteps}.
 * @param user See {@link confinementSteps}; with an id that this process has not, the start fails.
 */
export function guestSteps(
  { trees }: Pick<FileCalls, "trees">,
  root: number,
  user: ProcessSpec["user"],
): readonly ThreadStep[] {
  const asItself = user.uid === 0 && user.gid === 0;
  return trees === undefined && asItself ? [] : confinementSteps(root, user);
}

function step(label: string, number: bigint, ...args: ThreadStep["args"]): ThreadStep {
  return { label, number, args };
}

function bytesOf(words: readonly number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new Uint32Array(words).buffer);
}
