/**
 * The user that a guest acts as. Linux keeps ids per thread, so the guest's thread takes them on
 * and the rest of the process stays who it is. Files that the guest opens are checked, and files
 * that it makes are owned, as they are for a process of that user.
 *
 * @module
 */

import type { ProcessSpec } from "../lifecycle/spec.ts";
import { SYSCALL } from "./native/syscalls.ts";
import type { ThreadStep } from "./native/thread_spec.ts";

/**
 * The steps by which a thread becomes a user. They come after all that needs privileges.
 *
 * @param user The user of a process.
 * @returns None for root with root's group: the thread is that already.
 */
export function userSteps(user: ProcessSpec["user"]): readonly ThreadStep[] {
  const { uid, gid, additionalGids } = user;
  if (uid === 0 && gid === 0) return [];
  const groups = new Uint8Array(new Uint32Array(additionalGids).buffer);
  // The system calls themselves: the C library's functions of these names change all threads.
  return [
    {
      label: "taking on the additional groups",
      number: SYSCALL.setgroups,
      args: [additionalGids.length, groups],
    },
    { label: "taking on the group", number: SYSCALL.setresgid, args: [gid, gid, gid] },
    { label: "taking on the user", number: SYSCALL.setresuid, args: [uid, uid, uid] },
  ];
}
