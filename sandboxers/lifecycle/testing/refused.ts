/**
 * Asserts that something fails as it should.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type ErrorCode, SandboxError } from "../errors.ts";

/**
 * What `assert.throws` and `assert.rejects` take to look at an error.
 *
 * @param code Its code.
 * @param message What its message must match.
 */
export function refusal(code: ErrorCode, message: RegExp = /./): (error: unknown) => true {
  return (error) => {
    checked(error, code, message);
    return true;
  };
}

/**
 * Asserts that a call is refused.
 *
 * @param call The call.
 * @param code The error's code.
 * @param message What its message must match.
 * @returns The error.
 */
export async function refused(
  call: Promise<unknown>,
  code: ErrorCode,
  message: RegExp = /./,
): Promise<SandboxError> {
  try {
    await call;
  } catch (error) {
    return checked(error, code, message);
  }
  assert.fail(`not refused, expected ${code}`);
}

function checked(error: unknown, code: ErrorCode, message: RegExp): SandboxError {
  assert.ok(error instanceof SandboxError, `not a SandboxError: ${error}`);
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return error;
}
