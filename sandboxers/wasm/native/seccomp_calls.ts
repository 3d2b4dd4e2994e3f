/**
 * libseccomp by FFI: a list of rules in, a program for the kernel out. The program comes out through
 * a file in memory, which every version of the library can write to.
 *
 * Source: seccomp.h of libseccomp 2.5.
 *
 * @module
 */

import type { SeccompAction, SeccompArgument } from "../../lifecycle/spec.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { systemError } from "./errno.ts";
import { type Address, openLibrary } from "./library.ts";
import { cString, type System } from "./system.ts";

const SECCOMP_SYMBOLS = {
  seccomp_init: { parameters: ["u32"], result: "u64" },
  seccomp_release: { parameters: ["u64"], result: "void" },
  seccomp_attr_set: { parameters: ["u64", "i32", "u32"], result: "i32" },
  seccomp_rule_add_array: { parameters: ["u64", "u32", "i32", "u32", "buffer"], result: "i32" },
  seccomp_syscall_resolve_name: { parameters: ["buffer"], result: "i32" },
  seccomp_export_bpf: { parameters: ["u64", "i32"], result: "i32" },
} as const;

const SCMP_ACT_ALLOW = 0x7fff0000;
const SCMP_ACT_ERRNO = 0x00050000;
const SCMP_FLTATR_ACT_BADARCH = 2;
const SCMP_FLTATR_CTL_OPTIMIZE = 8;
/** Level 2: a binary tree instead of one long list. */
const OPTIMIZE_TREE = 2;
/** What a name that the library does not know resolves to. */
const NR_SCMP_ERROR = -1;
/** Bytes of struct scmp_arg_cmp: argument, operator, two 64-bit numbers. */
const ARGUMENT_BYTES = 24;
/** Most bytes of a program: 4,096 instructions of 8 bytes. */
const PROGRAM_BYTES_MAX = 32_768;
const EPERM = 1;
const EEXIST = 17;

/** enum scmp_compare. */
const OPERATORS: Readonly<Record<SeccompArgument["operator"], number>> = {
  "ne": 1,
  "lt": 2,
  "le": 3,
  "eq": 4,
  "ge": 5,
  "gt": 6,
  "masked-eq": 7,
};

/** Makes filters. */
export class SeccompCalls {
  readonly #c: Deno.DynamicLibrary<typeof SECCOMP_SYMBOLS>["symbols"];
  readonly #system: System;

  /**
   * Binds the functions.
   *
   * @param system Its library is the one that the functions are looked for in.
   */
  constructor(system: System) {
    this.#c = openLibrary(system.libraryPath, SECCOMP_SYMBOLS);
    this.#system = system;
  }

  /**
   * Begins a filter for this machine.
   *
   * @param defaultAction What happens at calls that no rule names.
   * @throws {SandboxError} `Internal` where libseccomp does not do it.
   */
  begin(defaultAction: SeccompAction): SeccompBuilder {
    const filter = this.#c.seccomp_init(toNumber(defaultAction));
    if (filter === 0n) {
      throw new SandboxError("Internal", "cannot make a seccomp filter: libseccomp refuses");
    }
    const builder = new SeccompBuilder(this.#c, this.#system, filter, defaultAction);
    // By default calls of other machines (32-bit ones) would end the thread.
    builder.setAttribute(SCMP_FLTATR_ACT_BADARCH, (SCMP_ACT_ERRNO | EPERM) >>> 0);
    builder.setAttribute(SCMP_FLTATR_CTL_OPTIMIZE, OPTIMIZE_TREE);
    return builder;
  }
}

/** A filter under construction. Disposing of it frees it. */
export class SeccompBuilder implements Disposable {
  readonly #c: Deno.DynamicLibrary<typeof SECCOMP_SYMBOLS>["symbols"];
  readonly #system: System;
  readonly #filter: Address;
  readonly #default: number;

  /** Wraps a filter; {@link SeccompCalls.begin} makes them. */
  constructor(
    c: Deno.DynamicLibrary<typeof SECCOMP_SYMBOLS>["symbols"],
    system: System,
    filter: Address,
    defaultAction: SeccompAction,
  ) {
    this.#c = c;
    this.#system = system;
    this.#filter = filter;
    this.#default = toNumber(defaultAction);
  }

  /**
   * Sets an attribute of the filter.
   *
   * @param attribute enum scmp_filter_attr.
   * @throws {SandboxError} `Internal` where libseccomp refuses.
   */
  setAttribute(attribute: number, value: number): void {
    // SAFETY: integers only; the filter lives until this is disposed of.
    const error = -this.#c.seccomp_attr_set(this.#filter, attribute, value);
    if (error !== 0) throw systemError("cannot set up a seccomp filter", error);
  }

  /**
   * Adds a rule. One for a call that has the same conditions as an earlier one does nothing, nor does
   * one for a call that does not exist on this machine.
   *
   * @param name The system call's name.
   * @param action What happens at it.
   * @param args Conditions, all of which hold; at most one for each argument.
   * @throws {SandboxError} `InvalidArgument` where libseccomp refuses.
   */
  add(name: string, action: SeccompAction, args: readonly SeccompArgument[]): void {
    const wanted = toNumber(action);
    // libseccomp refuses rules that say what is so anyway.
    if (wanted === this.#default) return;
    // SAFETY: a C string, only read.
    const number = this.#c.seccomp_syscall_resolve_name(cString(name));
    if (number === NR_SCMP_ERROR) return;
    const conditions = args.length === 0 ? null : encodeArguments(args);
    // SAFETY: `conditions` holds as many struct scmp_arg_cmp as are told; they are only read.
    const error = -this.#c.seccomp_rule_add_array(
      this.#filter,
      wanted,
      number,
      args.length,
      conditions,
    );
    if (error === 0 || error === EEXIST) return;
    throw systemError(
      `cannot use the seccomp rule for "${name}"`,
      error,
      "InvalidArgument",
    );
  }

  /**
   * The finished program.
   *
   * @returns An array of `struct sock_filter`.
   * @throws {SandboxError} `InvalidArgument` when it is larger than the kernel takes.
   */
  async export(): Promise<Uint8Array<ArrayBuffer>> {
    const file = this.#system.memoryFile("quasaur-seccomp");
    try {
      // SAFETY: a valid filter and an open descriptor.
      const error = -this.#c.seccomp_export_bpf(this.#filter, file);
      if (error !== 0) throw systemError("cannot compile a seccomp filter", error);
      const { sizeBytes } = this.#system.status(file);
      if (sizeBytes > PROGRAM_BYTES_MAX) {
        throw new SandboxError(
          "InvalidArgument",
          `cannot use the seccomp profile: it takes ${sizeBytes / 8} instructions, most are 4096`,
        );
      }
      return await this.#system.readFile(file, sizeBytes);
    } finally {
      this.#system.close(file);
    }
  }

  /** Frees it. */
  [Symbol.dispose](): void {
    // SAFETY: called once, with the address that seccomp_init gave.
    this.#c.seccomp_release(this.#filter);
  }
}

function toNumber(action: SeccompAction): number {
  return action.kind === "allow" ? SCMP_ACT_ALLOW : (SCMP_ACT_ERRNO | action.errno) >>> 0;
}

/** Encodes an array of struct scmp_arg_cmp. */
function encodeArguments(args: readonly SeccompArgument[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(args.length * ARGUMENT_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, { index, operator, value, valueTwo }] of args.entries()) {
    const at = i * ARGUMENT_BYTES;
    view.setUint32(at, index, true);
    view.setInt32(at + 4, OPERATORS[operator], true);
    view.setBigUint64(at + 8, BigInt(value), true);
    view.setBigUint64(at + 16, BigInt(valueTwo), true);
  }
  return bytes;
}
