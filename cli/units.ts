/**
 * Sizes as people write them: `64Mi`, `1G`, `1048576`.
 *
 * @module
 */

/** Bytes in one of each unit: the spellings of Kubernetes quantities, and the small ones of docker. */
const UNIT_BYTES: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  m: 2 ** 20,
  g: 2 ** 30,
};

/** What {@link parseSize} takes, for messages. */
export const SIZE_SYNTAX: string =
  "a size such as 64Mi: a whole number above 0 with k, M, G, T (thousands), Ki, Mi, Gi, Ti (1024s), " +
  "or m, g (as docker has them: Mi, Gi)";

/**
 * Reads a size.
 *
 * @param text Such as `64Mi`; see {@link SIZE_SYNTAX}.
 * @returns Bytes; undefined where the text is no size, or one too large to count exactly.
 */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+)([A-Za-z]*)$/.exec(text);
  if (match === null) return undefined;
  const [, digits = "", unit = ""] = match;
  if (!Object.hasOwn(UNIT_BYTES, unit)) return undefined;
  const bytes = Number(digits) * (UNIT_BYTES[unit] ?? NaN);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}
