import assert from "node:assert/strict";
import { closingLine, secondAttempts } from "./test_summary.ts";

const line = (status: number, output: string) => closingLine([{ status, output }]);

Deno.test("closingLine() reads the summary of deno test", () => {
  assert.equal(
    line(0, "x ... ok\n\nok | 7 passed | 0 failed (301ms)\n"),
    "7 passed, 0 failed",
  );
  assert.equal(
    line(1, "FAILED | 41 passed (3 steps) | 2 failed (1 step) | 1 ignored (37s)\n"),
    "41 passed, 2 failed",
  );
});

Deno.test("closingLine() reads through colours", () => {
  const output =
    "\x1b[0m\x1b[32mok\x1b[0m | 7 passed | 0 failed \x1b[0m\x1b[38;5;245m(1s)\x1b[0m\n";
  assert.equal(line(0, output), "7 passed, 0 failed");
});

Deno.test("closingLine() takes the last summary, not what a test printed", () => {
  const output = "ok | 1 passed | 0 failed (1ms)\nFAILED | 5 passed | 3 failed (2s)\n";
  assert.equal(line(1, output), "5 passed, 3 failed");
});

Deno.test("closingLine() counts a run that failed without a failed test", () => {
  assert.equal(line(1, "error: Type checking failed.\n"), "0 passed, 1 failed");
  assert.equal(line(1, "ok | 7 passed | 0 failed (1s)\n"), "7 passed, 1 failed");
});

Deno.test("closingLine() adds up several runs", () => {
  const good = { status: 0, output: "ok | 7 passed | 0 failed (1s)\n" };
  const bad = { status: 1, output: "FAILED | 5 passed | 3 failed (2s)\n" };
  const broken = { status: 1, output: "error: Type checking failed.\n" };
  assert.equal(closingLine([good, bad, broken]), "12 passed, 4 failed");
});

Deno.test("secondAttempts() names what failed at first, and why", () => {
  const output = "one ... ok (1ms)\n" +
    "two: (x) ... \x1b[33mretrying\x1b[0m (attempt 1 failed) (Uncaught Error: first (a))\n" +
    "two: (x) ... ok (1ms)\n" +
    "three ...\nits output\n retrying (attempt 1 failed) (Timed out)\n\nok | 2 passed | 0 failed | 1 flaky (373ms)\n";
  assert.deepEqual(secondAttempts([{ status: 0, output }]), [
    "failed at first: two: (x): Uncaught Error: first (a)",
    "failed at first: (see above): Timed out",
  ]);
  assert.equal(line(0, output), "2 passed, 0 failed");
});
