/**
 * WASI functions about the guest itself: arguments, environment, clocks, randomness, its end.
 *
 * @module
 */

import { WASI_ERRNO, WasiError } from "./abi.ts";
import type { WasiContext, WasiFunctions } from "./context.ts";

/** Thrown through the guest when it calls `proc_exit`. */
export class GuestExit extends Error {
  /**
   * Makes one.
   *
   * @param code As the guest gave it, 32 bits.
   */
  constructor(readonly code: number) {
    super(`the guest exits with ${code}`);
  }
}

/**
 * Linux clocks by WASI's numbers: real time, monotonic, CPU time of the process and of the thread.
 * A guest is one thread, so the last two are the same.
 */
const CLOCKS = [0, 1, 3, 3];

/** The clock of Linux that is meant. */
export function hostClock(clock: number): number {
  const host = CLOCKS[clock];
  if (host === undefined) throw new WasiError(WASI_ERRNO.INVAL);
  return host;
}

/** Makes the functions. */
export function processFunctions({ args, env, memory, calls }: WasiContext): WasiFunctions {
  const argList = new StringList(args);
  const envList = new StringList(env);
  const writeSizes = (list: StringList, count: number, size: number): void => {
    memory.setU32(count, list.strings.length);
    memory.setU32(size, list.sizeBytes);
  };
  const writeStrings = (list: StringList, pointers: number, buffer: number): void => {
    const view = memory.view(pointers, list.strings.length * 4);
    const bytes = memory.bytes(buffer, list.sizeBytes);
    let at = 0;
    list.strings.forEach((string, i) => {
      view.setUint32(i * 4, (buffer >>> 0) + at, true);
      bytes.set(string, at);
      at += string.length;
    });
  };
  return {
    args_sizes_get: (count: number, size: number) => writeSizes(argList, count, size),
    args_get: (pointers: number, buffer: number) => writeStrings(argList, pointers, buffer),
    environ_sizes_get: (count: number, size: number) => writeSizes(envList, count, size),
    environ_get: (pointers: number, buffer: number) => writeStrings(envList, pointers, buffer),
    clock_res_get: (clock: number, result: number) =>
      memory.setU64(result, calls.resolution(hostClock(clock))),
    clock_time_get: (clock: number, _precision: bigint, result: number) =>
      memory.setU64(result, calls.now(hostClock(clock))),
    random_get: (buffer: number, length: number) => calls.random(memory.bytes(buffer, length)),
    sched_yield: () => calls.yield(),
    proc_exit: (code: number) => {
      throw new GuestExit(code >>> 0);
    },
    // There is one process for all guests: a signal would be everyone's.
    proc_raise: (_signal: number) => {
      throw new WasiError(WASI_ERRNO.PERM);
    },
  };
}

/** Strings as C knows them. */
class StringList {
  readonly strings: readonly Uint8Array[];
  readonly sizeBytes: number;

  constructor(strings: readonly string[]) {
    this.strings = strings.map((string) => new TextEncoder().encode(`${string}\0`));
    this.sizeBytes = this.strings.reduce((sum, string) => sum + string.length, 0);
  }
}
