/**
 * Assertions that many tests share.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type ErrorCode, SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/**
 * Asserts that a promise rejects with a SandboxError.
 *
 * @param promise What is to reject.
 * @param code Its code.
 * @param text What its message must match.
 */
export function rejectsWith(
  promise: Promise<unknown>,
  code: ErrorCode,
  text?: RegExp,
): Promise<void> {
  return assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof SandboxError, String(error));
    assert.equal(error.code, code, error.message);
    if (text !== undefined) assert.match(error.message, text);
    return true;
  });
}

/** Waits, a millisecond at a time, until something is so. */
export async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 1));
}
