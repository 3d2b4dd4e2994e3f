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

/** What `deno test` says of a test that it runs once more; without the name where the test printed. */
const SECOND_ATTEMPT = /^(?:(.*) \.\.\.)?[^\n]*\bretrying \(attempt \d+ failed\) \((.*)\)$/gm;

/**
 * The tests that failed first and were run once more, whatever became of them then: they need mending.
 *
 * @param outcomes How the runs ended.
 * @returns A line each, with why it failed.
 */
export function secondAttempts(outcomes: readonly Outcome[]): string[] {
  return outcomes.flatMap(({ output }) =>
    [...plainText(output).matchAll(SECOND_ATTEMPT)].map(([, name, why]) =>
      `failed at first: ${name?.trim() ?? "(see above)"}: ${why}`
    )
  );
}

/** Without colours. */
function plainText(output: string): string {
  // deno-lint-ignore no-control-regex -- terminals' colour sequences begin with ESC
  return output.replace(/\x1b\[[0-9;]*m/g, "");
}

function countsOf({ status, output }: Outcome): { passed: number; failed: number } {
  const [, passed = "0", failed = "0"] = [...plainText(output).matchAll(SUMMARY)].at(-1) ?? [];
  const failures = status !== 0 && failed === "0" ? "1" : failed;
  return { passed: Number(passed), failed: Number(failures) };
}
