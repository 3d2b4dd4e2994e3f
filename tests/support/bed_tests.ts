/**
 * Registers tests that share a test bed: it starts before the first and ends after the last test of
 * the file. A failed test prints the ends of the bed's logs.
 *
 * @module
 */

import { Bed, type BedOptions } from "./bed.ts";
import type { Cri } from "./cri.ts";
import { whole } from "./whole_errors.ts";

/** What a test gets. */
export interface BedContext {
  /** The bed, shared by all tests of the file. */
  readonly bed: Bed;
  /** A connection to containerd of the test's own. */
  readonly cri: Cri;
}

/** Registers one test. */
export type RegisterBedTest = (
  name: string,
  test: (context: BedContext) => Promise<void>,
) => void;

/**
 * Makes the bed of a test file.
 *
 * @param options What runs in the bed.
 * @param prepare What to do in it before the first test, such as importing images.
 * @returns The function that registers tests.
 */
export function bedTests(
  options: BedOptions,
  prepare: (bed: Bed) => Promise<void> = () => Promise.resolve(),
): RegisterBedTest {
  let shared: Bed | undefined;
  Deno.test.beforeAll(async () => {
    shared = await Bed.start(options);
    await prepare(shared);
  });
  Deno.test.afterAll(async () => {
    await shared?.[Symbol.asyncDispose]();
  });
  return (name, test) => {
    Deno.test(name, async () => {
      const bed = shared;
      if (bed === undefined) throw new Error("The test bed did not start");
      using cri = bed.cri();
      await withLogs(bed, () => test({ bed, cri }));
    });
  };
}

/**
 * Runs something in a bed, and prints the ends of the bed's logs where it fails.
 *
 * @param bed The bed.
 * @param action What to run.
 */
export async function withLogs<T>(bed: Bed, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const text = new TextEncoder().encode(`${await bed.logTails()}\n`);
    Deno.stderr.writeSync(text);
    throw whole(error);
  }
}
