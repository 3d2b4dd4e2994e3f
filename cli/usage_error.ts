/**
 * The error for a command line that cannot be understood.
 *
 * @module
 */

/** Ends the command with exit code 2. The message names the option, what was found and expected. */
export class UsageError extends Error {
  /** The name shown in stack traces. */
  override readonly name = "UsageError";
}
