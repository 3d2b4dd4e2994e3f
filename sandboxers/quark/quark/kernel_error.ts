/**
 * What Quark answers a call with that failed, as an error of ours.
 *
 * @module
 */

import { type ErrorCode, SandboxError } from "../../lifecycle/errors.ts";

/** Codes that say something of the call. Others would be taken for an answer about the caller's ids. */
const OWN: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "Cancelled",
  "DeadlineExceeded",
  "ResourceExhausted",
  "Unavailable",
  "Unimplemented",
]);

/**
 * Names the action that failed.
 *
 * @param thrown What a call threw.
 * @param action What was being done, such as `cannot start container "a"`.
 */
export function kernelError(thrown: unknown, action: string): SandboxError {
  const { code, message } = SandboxError.from(thrown);
  // Quark says in words alone what it has no code for.
  const isMissing = /\bUnimplemented\b|is not supported/.test(message);
  const ours = isMissing ? "Unimplemented" : OWN.has(code) ? code : "Internal";
  return new SandboxError(ours, `${action}: Quark says: ${message}`, { cause: thrown });
}
