/**
 * What the WASI functions of one guest work with.
 *
 * @module
 */

import type { Calls } from "./calls.ts";
import type { Descriptors } from "./descriptors.ts";
import type { GuestMemory } from "./guest_memory.ts";

/** The host side of one guest. */
export interface WasiContext {
  /** Arguments, the program's name first. */
  readonly args: readonly string[];
  /** Environment as `KEY=value`. */
  readonly env: readonly string[];
  /** The guest's memory. */
  readonly memory: GuestMemory;
  /** Its descriptors. */
  readonly descriptors: Descriptors;
  /** System calls. */
  readonly calls: Calls;
}

/**
 * Functions that a guest calls, by name. Each does its work or throws a `WasiError`; what it returns
 * is not looked at. The parameters differ: integers of 32 bits are numbers, those of 64 bits
 * bigints, both signed.
 */
export type WasiFunctions = Readonly<Record<string, (...args: never[]) => void>>;
