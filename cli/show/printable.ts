/**
 * Texts that somebody else has made, such as the names of containers, so that a terminal shows them
 * and does not obey them.
 *
 * @module
 */

/** Control characters, and those that change the direction of what follows. */
// deno-lint-ignore no-control-regex -- these are what is looked for
const UNPRINTABLE = /[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

/**
 * The text with what is not printable written as an escape, such as `\x1b`.
 *
 * @param text One line.
 */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x100
      ? `\\x${code.toString(16).padStart(2, "0")}`
      : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}
