/**
 * Ids for sandboxes and containers that a program did not name.
 *
 * @module
 */

/**
 * Makes an id that no other has.
 *
 * @param prefix What it names, such as `sandbox`.
 */
export function newId(prefix: string): string {
  return `${prefix}-${crypto.randomUUID().slice(0, 13)}`;
}
