/**
 * Builds the computing guests for this machine itself, from the same source: the measure of how fast
 * they can be.
 *
 * @module
 */

import { run } from "../../tests/support/command.ts";
import { REPOSITORY } from "../../tests/support/permissions.ts";
import { guestPath } from "./guests.ts";

/** Guests that only compute: they print what came out, and how long it took. */
export type ComputeGuest = "fannkuch" | "nbody" | "sha256";

/** The same programs for others than our engine. */
export interface NativePrograms extends AsyncDisposable {
  /** The path of a program of this machine's own code. */
  native(guest: ComputeGuest): string;
  /** The path of a module that the engine's own compiler has compiled. */
  compiled(guest: ComputeGuest): string;
}

/**
 * Builds them in a directory of their own.
 *
 * @param guests Which.
 */
export async function buildNativePrograms(
  guests: readonly ComputeGuest[],
): Promise<NativePrograms> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-native-" });
  const native = (guest: ComputeGuest) => `${directory}/${guest}`;
  const compiled = (guest: ComputeGuest) => `${directory}/${guest}.so`;
  for (const guest of guests) {
    const source = `${REPOSITORY}/tests/guests/${guest}.c`;
    await run(["clang", "-O2", "-o", native(guest), source, "-lm"]);
    await run(["wasmedge", "compile", "--optimize", "2", guestPath(guest), compiled(guest)]);
  }
  return {
    native,
    compiled,
    [Symbol.asyncDispose]: () => Deno.remove(directory, { recursive: true }),
  };
}
