/**
 * The structures that describe a guest thread to guest.c, as bytes. The layouts are those of
 * guest.h; assertions there hold the offsets.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Address } from "./library.ts";

/** Bytes of `struct quasaur_step`. */
const STEP_BYTES = 64;
/** Bytes of `struct quasaur_spec`. */
const SPEC_BYTES = 136;
const STEPS_MAX = 64;
const DATA_BYTES_MAX = 65_536;
const NAME_BYTES_MAX = 15;
/** Unmapped bytes below a guest's stack, where the caller does not say how many. */
const GUARD_BYTES = 1_048_576;
/** For a bound: all bits set, the largest unsigned number of any size. */
const UNBOUNDED = -1;
/** Bytes of `struct sock_filter`. */
const FILTER_INSTRUCTION_BYTES = 8;

/**
 * One setting of a thread: a raw system call that the thread itself makes. Raw, because the C
 * library's wrappers of some of them (setresuid and its kin) change all threads.
 */
export interface ThreadStep {
  /** What it does, for messages, such as `entering the network namespace`. */
  readonly label: string;
  /** The system call's number. */
  readonly number: bigint;
  /** Up to six arguments; bytes are copied and passed by address. */
  readonly args: readonly (number | bigint | Uint8Array)[];
}

/** What goes into `struct quasaur_spec`. */
export interface ThreadSpecFields {
  /** Comes back in every record. */
  readonly id: bigint;
  /** Address of the function to call. */
  readonly function: Address;
  /** Up to six arguments. */
  readonly args: readonly Address[];
  /** Size of the stack in bytes. */
  readonly stackBytes: number;
  /** Write end of the pipe for records. */
  readonly recordFd: number;
  /** Nice value of the thread. */
  readonly nice: number;
  /** Settings of the thread. */
  readonly steps: readonly ThreadStep[];
  /** What the settings point to. */
  readonly data: Uint8Array;
  /** Thread name, cut to 15 bytes. */
  readonly name: string;
  /** Unmapped bytes below the stack. */
  readonly guardBytes?: number;
  /** Most bytes of memory that the thread may take itself. */
  readonly heapBytesMax?: number;
  /** Most descriptors that the thread may hold. */
  readonly descriptorsMax?: number;
  /** Where in `data` the filter is, if there is one. */
  readonly filter?: FilterPlace;
}

/** Where a filter is in the data of a thread. */
export interface FilterPlace {
  /** Offset in bytes. */
  readonly at: number;
  /** How many `struct sock_filter` there are. */
  readonly count: number;
}

/** Encodes settings as an array of `struct quasaur_step` and the data that they point to. */
export function encodeSteps(steps: readonly ThreadStep[]): {
  readonly steps: Uint8Array<ArrayBuffer>;
  readonly data: Uint8Array<ArrayBuffer>;
} {
  if (steps.length > STEPS_MAX) {
    throw new SandboxError("Internal", `cannot make ${steps.length} settings: most are 64`);
  }
  const bytes = new Uint8Array(steps.length * STEP_BYTES);
  const view = new DataView(bytes.buffer);
  const data: number[] = [];
  steps.forEach((step, index) => {
    const at = index * STEP_BYTES;
    let dataArgs = 0;
    view.setBigInt64(at, step.number, true);
    step.args.slice(0, 6).forEach((arg, i) => {
      if (arg instanceof Uint8Array) dataArgs |= 1 << i;
      const value = arg instanceof Uint8Array ? append(data, arg) : arg;
      view.setBigUint64(at + 8 + i * 8, BigInt.asUintN(64, BigInt(value)), true);
    });
    view.setUint32(at + 56, dataArgs, true);
  });
  if (data.length > DATA_BYTES_MAX) {
    throw new SandboxError("Internal", "cannot make settings with more than 64 KiB of data");
  }
  return { steps: bytes, data: new Uint8Array(data) };
}

/**
 * Puts a filter behind the data of settings.
 *
 * @param filter Array of `struct sock_filter`.
 */
export function appendFilter(
  data: Uint8Array,
  filter: Uint8Array,
): { readonly data: Uint8Array<ArrayBuffer>; readonly place: FilterPlace } {
  const at = Math.ceil(data.length / FILTER_INSTRUCTION_BYTES) * FILTER_INSTRUCTION_BYTES;
  const all = new Uint8Array(at + filter.length);
  all.set(data);
  all.set(filter, at);
  return { data: all, place: { at, count: filter.length / FILTER_INSTRUCTION_BYTES } };
}

/** Appends bytes on an 8-byte boundary. Returns their offset. */
function append(data: number[], bytes: Uint8Array): number {
  while (data.length % 8 !== 0) data.push(0);
  const offset = data.length;
  data.push(...bytes);
  // An empty structure still needs an address inside the data.
  if (bytes.length === 0) data.push(0);
  return offset;
}

/** Encodes `struct quasaur_spec`. */
export function encodeSpec(fields: ThreadSpecFields): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(SPEC_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, fields.id, true);
  view.setBigUint64(8, fields.function, true);
  fields.args.slice(0, 6).forEach((arg, i) => view.setBigUint64(16 + i * 8, arg, true));
  view.setBigUint64(64, BigInt(fields.stackBytes), true);
  view.setBigUint64(72, BigInt(fields.guardBytes ?? GUARD_BYTES), true);
  view.setInt32(80, fields.recordFd, true);
  view.setInt32(84, fields.nice, true);
  view.setUint32(88, fields.steps.length, true);
  view.setUint32(92, fields.data.length, true);
  new TextEncoder().encodeInto(fields.name, bytes.subarray(96, 96 + NAME_BYTES_MAX));
  view.setBigUint64(112, BigInt.asUintN(64, BigInt(fields.heapBytesMax ?? UNBOUNDED)), true);
  view.setInt32(120, fields.descriptorsMax ?? UNBOUNDED, true);
  view.setUint32(124, fields.filter?.at ?? 0, true);
  view.setUint32(128, fields.filter?.count ?? 0, true);
  return bytes;
}
