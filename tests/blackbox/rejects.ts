/**
 * Asserts how a call fails.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type ErrorCode, SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/**
 * Asserts that a call fails with one of some codes, and a message that fits.
 *
 * @param codes The code, or the codes of which any will do.
 * @param call The call.
 * @param message What its message matches.
 */
export async function rejectsWith(
  codes: ErrorCode | readonly ErrorCode[],
  call: Promise<unknown>,
  message: RegExp = /./,
): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof SandboxError, `not a SandboxError: ${error}`);
    assert.ok([codes].flat().includes(error.code), `${error.code}: ${error.message}`);
    assert.match(error.message, message);
    return true;
  });
}
