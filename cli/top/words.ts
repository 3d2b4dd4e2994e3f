/**
 * Numbers as people read them, each in few cells.
 *
 * @module
 */

/** What stands where nothing is known. */
export const UNKNOWN = "-";

const BYTE_UNITS = ["B", "Ki", "Mi", "Gi", "Ti"];

/** Bytes such as `12.3Mi`: at most 6 cells up to a thousand Ti. */
export function bytesInWords(bytes: number | undefined): string {
  if (bytes === undefined) return UNKNOWN;
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${value.toFixed(digits)}${BYTE_UNITS[unit]}`;
}

/** CPUs in use as a percentage of one, such as `12.3`. */
export function percentInWords(cpus: number | undefined): string {
  if (cpus === undefined) return UNKNOWN;
  const percent = cpus * 100;
  return percent.toFixed(percent >= 999.5 ? 0 : 1);
}

/** A time span such as `45s`, `12m`, `3h` or `8d`. */
export function ageInWords(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 100) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 100) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  return hours < 72 ? `${hours}h` : `${Math.floor(hours / 24)}d`;
}

/** A short time such as `<1ms`, `2.5ms`, `120ms` or `1.2s`: at most 5 cells up to 1000 seconds. */
export function latencyInWords(ms: number | undefined): string {
  if (ms === undefined) return UNKNOWN;
  if (ms < 0.1) return "<.1ms";
  if (ms < 9.95) return `${ms.toFixed(1)}ms`;
  if (ms < 999.5) return `${Math.round(ms)}ms`;
  const seconds = ms / 1000;
  return `${seconds.toFixed(seconds < 99.95 ? 1 : 0)}s`;
}

/** A rate such as `0.4` or `120`. */
export function rateInWords(perSecond: number): string {
  return perSecond.toFixed(perSecond >= 99.95 ? 0 : 1);
}

/** The time of day of a moment, in UTC, such as `12:03:04`. */
export function clockInWords(atMs: number): string {
  return new Date(atMs).toISOString().slice(11, 19);
}

/** A count with its noun, such as `1 pod` or `2 pods`. */
export function countInWords(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
