/**
 * Reads how a run of `deno test` ended.
 *
 * @module
 */

/** The last line of `deno test`, such as `ok | 7 passed (2 steps) | 0 failed | 1 ignored (301ms)`. */
const SUMMARY = /^(?:ok|FAILED) \| (\d+) passed\b[^|\n]*\| (\d+) failed\b/gm;

/** How a run of `deno test` ended. */
export interface Outcome {
  /** Its exit status. */
  readonly status: number;
  /** What it printed, with or without colours. */
  readonly output: string;
}

/**
 * The closing line of all runs.
 *
 * @param outcomes How they ended.
 * @returns `N passed, N failed`; a run that failed otherwise, such as in type-checking, counts as
 *   one failure.
 */
export function closingLine(outcomes: readonly Outcome[]): string {
  let passed = 0;
  let failed = 0;
  for (const outcome of outcomes) {
    const counts = countsOf(outcome);
    passed += counts.passed;
    failed += counts.failed;
  }
  return `${passed} passed, ${failed} failed`;
}

function countsOf({ status, output }: Outcome): { passed: number; failed: number } {
  // deno-lint-ignore no-control-regex -- terminals' colour sequences begin with ESC
  const plain = output.replace(/\x1b\[[0-9;]*m/g, "");
  const [, passed = "0", failed = "0"] = [...plain.matchAll(SUMMARY)].at(-1) ?? [];
  const failures = status !== 0 && failed === "0" ? "1" : failed;
  return { passed: Number(passed), failed: Number(failures) };
}
