/**
 * Times as people write and read them: `10m`, `2026-01-31T12:00:00Z`, `3 hours ago`.
 *
 * @module
 */

/** The units of {@link ago}, the largest first, in milliseconds. */
const UNITS: readonly (readonly [name: string, ms: number])[] = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1000],
];

/** The units of {@link parseSince}, in milliseconds. */
const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** What {@link parseSince} takes, for messages. */
export const SINCE_SYNTAX: string = "how long ago, such as 10m or 1h30m (with ms, s, m, h, d), " +
  "a time such as 2026-01-31T12:00:00Z (this machine's zone where it names none), or seconds since " +
  "1970";

/**
 * How long ago something was, for people.
 *
 * @param at Milliseconds since the epoch.
 * @param now The same for now.
 * @returns Such as `5 minutes ago`; what lies ahead, as clocks differ, is `just now`.
 */
export function ago(at: number, now: number): string {
  const passedMs = now - at;
  for (const [name, ms] of UNITS) {
    const count = Math.floor(passedMs / ms);
    if (count >= 1) return `${count} ${name}${count === 1 ? "" : "s"} ago`;
  }
  return "just now";
}

/**
 * Reads how long something takes.
 *
 * @param text Such as `500ms` or `1h30m`: numbers with ms, s, m, h or d.
 * @returns Milliseconds; undefined where the text says none.
 */
export function parseSpan(text: string): number | undefined {
  if (!/^(\d{1,9}(\.\d{1,9})?(ms|s|m|h|d))+$/.test(text)) return undefined;
  let spanMs = 0;
  for (const [, digits = "", unit = ""] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    spanMs += Number(digits) * (UNIT_MS[unit] ?? NaN);
  }
  return Number.isFinite(spanMs) ? spanMs : undefined;
}

/**
 * Reads a point in time.
 *
 * @param text See {@link SINCE_SYNTAX}.
 * @param now Milliseconds since the epoch.
 * @returns The same for that point; undefined where the text says none.
 */
export function parseSince(text: string, now: number): number | undefined {
  if (/^\d{9,11}(\.\d{1,9})?$/.test(text)) return Math.floor(Number(text) * 1000);
  const passedMs = parseSpan(text);
  if (passedMs !== undefined) return Math.max(0, Math.floor(now - passedMs));
  if (!/^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$/.test(text)) {
    return undefined;
  }
  // A day by itself would be one of UTC; without a zone a time is this machine's, as elsewhere.
  const at = Date.parse(text.includes(":") ? text.replace(" ", "T") : `${text}T00:00`);
  return Number.isNaN(at) || at < 0 ? undefined : at;
}
