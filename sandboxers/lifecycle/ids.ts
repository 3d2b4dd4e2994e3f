/**
 * Identifiers that come from outside. They become path components and map keys, so they are checked
 * before anything else happens with them.
 *
 * @module
 */

import { SandboxError } from "./errors.ts";

const ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;

/**
 * Checks an identifier: 1 to 128 letters, digits, `.`, `_` or `-`, the first a letter or digit.
 *
 * @param field What the identifier is, for the message, such as `sandbox id`.
 * @param value What was given.
 * @throws SandboxError `InvalidArgument`
 */
export function checkId(field: string, value: string): void {
  if (ID.test(value)) return;
  const shown = value.length > 140 ? `${value.slice(0, 140)}...` : value;
  throw new SandboxError(
    "InvalidArgument",
    `invalid ${field} ${JSON.stringify(shown)}: expected 1 to 128 letters, digits, ".", "_" or ` +
      `"-", starting with a letter or digit`,
  );
}
