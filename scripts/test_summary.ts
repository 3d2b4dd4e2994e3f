/**
 * Reads how a run of `deno test` ended.
 *
 * @module
 */

/** The last line of `deno test`, such as `ok | 7 passed (2 steps) | 0 failed | 1 ignored (301ms)`. */
const SUMMARY = /^(?:ok|FAILED) \| (\d+) passed\b[^|\n]*\| (\d+) failed\b/gm;

/**
 * The closing line of a run.
 *
 * @param status Its exit status.
 * @param output What it printed, with or without colours.
 * @returns `N passed, N failed`; a run that failed otherwise, such as in type-checking, counts as
 *   one failure.
 */
export function closingLine(status: number, output: string): string {
  // deno-lint-ignore no-control-regex -- terminals' colour sequences begin with ESC
  const plain = output.replace(/\x1b\[[0-9;]*m/g, "");
  const [, passed = "0", failed = "0"] = [...plain.matchAll(SUMMARY)].at(-1) ?? [];
  const failures = status !== 0 && failed === "0" ? "1" : failed;
  return `${passed} passed, ${failures} failed`;
}
