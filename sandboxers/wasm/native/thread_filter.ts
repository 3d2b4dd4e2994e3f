/**
 * The caller's part of a guest thread's seccomp filter: what may be in it. The C side puts it behind
 * its own part, which is always there (filter.c).
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";

/** Bytes of `struct sock_filter`: code (16 bits), jt, jf (8 bits each), k (32 bits). */
const INSTRUCTION_BYTES = 8;
/** BPF_MAXINSNS less the part that is always there. */
const INSTRUCTIONS_MAX = 3_846;

/** linux/bpf_common.h: the class of an instruction, and where a return takes its value from. */
const BPF_CLASS_MASK = 0x07;
const BPF_LD = 0x00;
const BPF_RET = 0x06;
const BPF_RVAL_MASK = 0x18;
const BPF_K = 0x00;

/** linux/seccomp.h: SECCOMP_RET_ACTION_FULL and the actions that a filter may answer with. */
const ACTION_MASK = 0xffff_0000;
const ACTIONS: ReadonlyMap<number, string> = new Map([
  [0x7fff_0000, "SECCOMP_RET_ALLOW"],
  [0x7ffc_0000, "SECCOMP_RET_LOG"],
  [0x0005_0000, "SECCOMP_RET_ERRNO"],
]);

/** Filters that were found good: many guests share one. */
const checked = new WeakSet<Uint8Array>();

/**
 * Checks a filter: whole instructions, not too many, a load first, and no answers but those that let
 * a call through or fail it. A filter that kills or waits for a tracer would hurt all guests of the
 * process. Whether its jumps are sound is for the kernel to say, when the thread is started.
 *
 * @param filter Array of `struct sock_filter`; not to be changed afterwards.
 * @throws {SandboxError} `InvalidArgument` with what is wrong.
 */
export function assertFilter(filter: Uint8Array): void {
  if (checked.has(filter)) return;
  const count = filter.length / INSTRUCTION_BYTES;
  if (!Number.isInteger(count) || count === 0) {
    throw refusal(`it has ${filter.length} bytes, expected a multiple of ${INSTRUCTION_BYTES}`);
  }
  if (count > INSTRUCTIONS_MAX) {
    throw refusal(`it has ${count} instructions, the most is ${INSTRUCTIONS_MAX}`);
  }
  const view = new DataView(filter.buffer, filter.byteOffset, filter.byteLength);
  if ((view.getUint16(0, true) & BPF_CLASS_MASK) !== BPF_LD) {
    throw refusal("its first instruction is no load: it must begin by loading what it looks at");
  }
  for (let at = 0; at < filter.length; at += INSTRUCTION_BYTES) {
    const code = view.getUint16(at, true);
    if ((code & BPF_CLASS_MASK) === BPF_RET) assertReturn(code, view.getUint32(at + 4, true), at);
  }
  checked.add(filter);
}

function assertReturn(code: number, value: number, at: number): void {
  if ((code & BPF_RVAL_MASK) === BPF_K && ACTIONS.has((value & ACTION_MASK) >>> 0)) return;
  const found = (code & BPF_RVAL_MASK) === BPF_K ? `0x${value.toString(16)}` : "a computed value";
  throw refusal(
    `instruction ${at / INSTRUCTION_BYTES} returns ${found}, ` +
      `expected one of ${[...ACTIONS.values()].join(", ")}`,
  );
}

function refusal(why: string): SandboxError {
  return new SandboxError("InvalidArgument", `cannot use the seccomp filter of a guest: ${why}`);
}
