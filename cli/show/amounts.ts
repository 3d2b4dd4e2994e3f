/**
 * Amounts for people: bytes and shares.
 *
 * @module
 */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/**
 * Bytes in the unit that fits.
 *
 * @param bytes How many.
 * @returns Such as `12.3MiB`.
 */
export function showBytes(bytes: bigint | number): string {
  let amount = Number(bytes);
  let unit = 0;
  while (amount >= 1023.95 && unit < UNITS.length - 1) {
    amount /= 1024;
    unit++;
  }
  const digits = unit === 0 || amount >= 99.95 ? 0 : 1;
  return `${amount.toFixed(digits)}${UNITS[unit]}`;
}

/**
 * A share in per cent.
 *
 * @param share 1 for all of it; undefined where it is not known.
 * @returns Such as `12.50%`, or `-`.
 */
export function showShare(share: number | undefined): string {
  return share === undefined || !Number.isFinite(share) ? "-" : `${(share * 100).toFixed(2)}%`;
}
