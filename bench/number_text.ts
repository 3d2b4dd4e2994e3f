/**
 * Writes measured numbers so that a person can read them.
 *
 * @module
 */

/**
 * A number with about three digits that mean something.
 *
 * @param value Any finite number.
 */
export function numberText(value: number): string {
  const size = Math.abs(value);
  if (size >= 100) return Math.round(value).toLocaleString("en-US");
  return value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
}
