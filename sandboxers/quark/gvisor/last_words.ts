/**
 * What a sandbox says when it crashes: Go's report, of which one line tells what happened.
 *
 * @module
 */

/** Most bytes of a report that are looked at. */
const REPORT_BYTES_MAX = 65_536;

/** Most characters of the line. */
const LINE_CHARACTERS_MAX = 300;

/** How a report begins, whatever went wrong. */
const FIRST_LINE = /^(?:panic|fatal error|runtime|unexpected fault address|SIG[A-Z]+)\b.*$/m;

/**
 * The file that takes the report of a pod's sandbox.
 *
 * @param directory The pod's own directory.
 */
export function panicLogOf(directory: string): string {
  return `${directory}/panic.log`;
}

/**
 * What a sandbox said at its end.
 *
 * @param directory The pod's own directory.
 * @returns One line; empty where it said nothing.
 */
export async function lastWords(directory: string): Promise<string> {
  try {
    using file = await Deno.open(panicLogOf(directory));
    const bytes = new Uint8Array(REPORT_BYTES_MAX);
    const length = await file.read(bytes) ?? 0;
    const text = new TextDecoder().decode(bytes.subarray(0, length));
    return FIRST_LINE.exec(text)?.[0].trim().slice(0, LINE_CHARACTERS_MAX) ?? "";
  } catch {
    return "";
  }
}
