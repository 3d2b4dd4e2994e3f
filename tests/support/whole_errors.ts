/**
 * Errors of tests, told wholly. Where a test fails and its clean-up does too, what is thrown is a
 * `SuppressedError`, of which Deno prints neither; the first of the two is what happened.
 *
 * @module
 */

/** Most errors of a test that are told. */
const ERRORS_MAX = 16;

/**
 * Runs something, and names all that went wrong where it fails.
 *
 * @param action What to run.
 * @returns What it gives.
 * @throws What it throws; where several things went wrong an `AggregateError` of all of them, in the
 *   order in which they happened.
 */
export async function toldWholly<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw whole(error);
  }
}

/**
 * What an error stands for.
 *
 * @param error What was thrown.
 * @returns The same, or an `AggregateError` of all that went wrong, in the order in which it happened.
 */
export function whole(error: unknown): unknown {
  const errors: unknown[] = [];
  let first = error;
  while (first instanceof SuppressedError && errors.length < ERRORS_MAX) {
    errors.unshift(first.error);
    first = first.suppressed;
  }
  if (errors.length === 0) return error;
  const all = [first, ...errors];
  const texts = all.map((each) => each instanceof Error ? each.message : String(each));
  return new AggregateError(all, texts.join("\nand then, while cleaning up: "));
}
