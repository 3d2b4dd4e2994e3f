/**
 * Differences are what makes a new text of an old one.
 *
 * @module
 */

import assert from "node:assert/strict";
import { unifiedDiff } from "./diff.ts";

const LINES = Array.from({ length: 30 }, (_, i) => `line ${i}\n`);

/** Pairs of texts. */
const PAIRS: Readonly<Record<string, readonly [before: string, after: string]>> = {
  "lines at the end": [LINES.join(""), `${LINES.join("")}one\ntwo\n`],
  "lines at the start": [LINES.join(""), `one\n${LINES.join("")}`],
  "two places far from each other": [
    LINES.join(""),
    LINES.with(3, "three\n").toSpliced(25, 2).join(""),
  ],
  "two places near each other": [LINES.join(""), LINES.with(3, "a\n").with(8, "b\n").join("")],
  "a file from nothing": ["", "one\ntwo\n"],
  "a file that goes": ["one\ntwo\n", ""],
  "no last line end": ["one\ntwo", "one\ntwo\nthree\n"],
};

/** Makes the new text of the old one as patch(1) does, and checks every line and number on the way. */
function patch(before: string, diff: string): string {
  const old = before.match(/[^\n]*\n|[^\n]+$/g) ?? [];
  const made: string[] = [];
  let at = 0;
  const [head = "", ...hunks] = diff.split(/^(?=@@ )/m);
  assert.equal(head, "--- file\n+++ file\n");
  for (const hunk of hunks) {
    const [title = "", ...lines] = hunk.match(/[^\n]*\n/g) ?? [];
    const numbers = /^@@ -(\d+),(\d+) \+(\d+),(\d+) @@\n$/.exec(title)?.slice(1).map(Number) ?? [];
    const [oldStart = NaN, oldCount = NaN, newStart = NaN, newCount = NaN] = numbers;
    const from = oldCount === 0 ? oldStart : oldStart - 1;
    made.push(...old.slice(at, from));
    assert.equal(made.length, newCount === 0 ? newStart : newStart - 1);
    at = from;
    const begin = made.length;
    lines.forEach((line, i) => {
      if (line.startsWith("\\")) return;
      const isLast = lines[i + 1]?.startsWith("\\") === true;
      const text = isLast ? line.slice(1, -1) : line.slice(1);
      if (line[0] !== "+") assert.equal(old[at++], text);
      if (line[0] !== "-") made.push(text);
    });
    assert.deepEqual([at - from, made.length - begin], [oldCount, newCount]);
  }
  return [...made, ...old.slice(at)].join("");
}

for (const [what, [before, after]] of Object.entries(PAIRS)) {
  Deno.test(`a difference is enough to make the new text of the old one: ${what}`, () => {
    assert.equal(patch(before, unifiedDiff(before, after, "file")), after);
  });
}

Deno.test("texts that are the same have no difference", () => {
  assert.equal(unifiedDiff("a\n", "a\n", "file"), "");
});
