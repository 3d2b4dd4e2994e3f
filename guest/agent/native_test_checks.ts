/**
 * What programs that run inside of the agent's engine in tests check, and how they say it: a line
 * each on their error output.
 *
 * @module
 */

import * as sys from "./sys.js";

/**
 * Says how a check went.
 *
 * @param what What was checked.
 * @param ok How it went.
 */
export function check(what: string, ok: boolean): void {
  sys.printError(`${ok ? "ok" : "FAILED"} ${what}\n`);
}

/**
 * Checks that two values are the same as JSON.
 *
 * @param what What is checked.
 * @param found What was found.
 * @param expected What should be.
 */
export function same(what: string, found: unknown, expected: unknown): void {
  const text = JSON.stringify(found);
  const isSame = text === JSON.stringify(expected);
  check(isSame ? what : `${what}: ${text}`, isSame);
}

/**
 * Checks that something throws.
 *
 * @param what What is checked.
 * @param action What should throw.
 */
export function throws(what: string, action: () => unknown): void {
  try {
    action();
    check(what, false);
  } catch {
    check(what, true);
  }
}
