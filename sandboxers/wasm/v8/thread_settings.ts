/**
 * The settings of a guest's thread, made by the thread itself as raw system calls: Linux keeps
 * namespaces, ids and filters per thread.
 *
 * @module
 */

import { type Address, openLibrary } from "../native/library.ts";
import type { ThreadStep } from "../native/thread_spec.ts";

const SYMBOLS = {
  quasaur_syscall: {
    parameters: ["i64", "u64", "u64", "u64", "u64", "u64", "u64"],
    result: "i64",
  },
  malloc: { parameters: ["usize"], result: "u64" },
  free: { parameters: ["u64"], result: "void" },
  memcpy: { parameters: ["u64", "buffer", "usize"], result: "u64" },
} as const;

const AARCH64 = Deno.build.arch === "aarch64";
const PRCTL = AARCH64 ? 167n : 157n;
const SETPRIORITY = AARCH64 ? 140n : 141n;
const SECCOMP = AARCH64 ? 277n : 317n;
const PR_SET_NAME = 15n;
const PR_SET_NO_NEW_PRIVS = 38n;
const SECCOMP_SET_MODE_FILTER = 1n;
const ENOMEM = 12;
/** Bytes of `struct sock_filter`. */
const FILTER_BYTES = 8;
const NAME_BYTES_MAX = 15;
/** Errors that setpriority(2) answers with where a process may not lower the value; it is kept. */
const NICE_REFUSED: ReadonlySet<bigint> = new Set([-1n, -13n]);

/** What a thread is to be. */
export interface ThreadSettings {
  /** Its name, cut to 15 bytes. */
  readonly name: string;
  /** Its nice value. */
  readonly nice: number;
  /** Settings of the caller, in order. */
  readonly steps: readonly ThreadStep[];
  /** A seccomp filter that comes last. */
  readonly filter: Uint8Array<ArrayBuffer> | undefined;
}

/** A setting that failed. */
export interface FailedSetting {
  /** What it does. */
  readonly label: string;
  /** The positive error number. */
  readonly errno: number;
}

/**
 * Makes the settings on the calling thread.
 *
 * @param libraryPath See {@link openLibrary}.
 * @returns The first that failed; undefined when all are made.
 */
export function applySettings(
  libraryPath: string,
  settings: ThreadSettings,
): FailedSetting | undefined {
  using memory = new HeapMemory(libraryPath);
  const call = (number: bigint, ...args: readonly bigint[]): bigint => memory.call(number, args);
  call(PRCTL, PR_SET_NAME, memory.copy(threadName(settings.name)));
  const nice = call(SETPRIORITY, 0n, 0n, BigInt.asUintN(64, BigInt(settings.nice)));
  if (nice < 0n && !NICE_REFUSED.has(nice)) return failed("setting the nice value", nice);
  for (const { label, number, args } of settings.steps) {
    const values = args.map((arg) =>
      arg instanceof Uint8Array ? memory.copy(arg) : BigInt.asUintN(64, BigInt(arg))
    );
    const result = call(number, ...values);
    if (result < 0n && result >= -4095n) return failed(label, result);
  }
  const privileges = call(PRCTL, PR_SET_NO_NEW_PRIVS, 1n);
  if (privileges < 0n) return failed("giving up new privileges", privileges);
  if (settings.filter === undefined) return undefined;
  const program = new BigUint64Array([
    BigInt(settings.filter.length / FILTER_BYTES),
    memory.copy(settings.filter),
  ]);
  const address = memory.copy(new Uint8Array(program.buffer));
  const filtered = call(SECCOMP, SECCOMP_SET_MODE_FILTER, 0n, address);
  return filtered < 0n ? failed("setting the filter of system calls", filtered) : undefined;
}

function failed(label: string, result: bigint): FailedSetting {
  return { label, errno: Number(-result) };
}

function threadName(name: string): Uint8Array {
  const bytes = new Uint8Array(NAME_BYTES_MAX + 1);
  new TextEncoder().encodeInto(name, bytes.subarray(0, NAME_BYTES_MAX));
  return bytes;
}

/** Copies on the C heap for the length of some calls. */
class HeapMemory implements Disposable {
  readonly #c: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
  readonly #blocks: Address[] = [];

  constructor(libraryPath: string) {
    this.#c = openLibrary(libraryPath, SYMBOLS);
  }

  /** A system call: its result, or a negative error number. */
  call(number: bigint, args: readonly bigint[]): bigint {
    const [a = 0n, b = 0n, c = 0n, d = 0n, e = 0n, f = 0n] = args;
    // SAFETY: addresses among the arguments are of copies made here, which live until disposal; what
    // the call does with them is the caller's to know.
    return this.#c.quasaur_syscall(number, a, b, c, d, e, f);
  }

  /** A copy of some bytes, NUL-terminated, in case they are a string. */
  copy(bytes: Uint8Array): Address {
    const copy = new Uint8Array(bytes.length + 1);
    copy.set(bytes);
    const address = this.#c.malloc(BigInt(copy.length));
    if (address === 0n) throw new Error(`errno ${ENOMEM}`);
    this.#blocks.push(address);
    // SAFETY: the block has as many bytes as are copied.
    this.#c.memcpy(address, copy, BigInt(copy.length));
    return address;
  }

  [Symbol.dispose](): void {
    for (const block of this.#blocks) this.#c.free(block);
  }
}
