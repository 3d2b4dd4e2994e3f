import assert from "node:assert/strict";
import { showBytes, showShare } from "./amounts.ts";
import { ANSI_COLOURS, coloursOf, NO_COLOURS } from "./colours.ts";
import { printable } from "./printable.ts";
import { table } from "./table.ts";
import { ago, parseSince, parseSpan } from "./times.ts";

Deno.test("a table is as wide as its cells, and numbers stand at the right", () => {
  const columns = [
    { title: "NAME", text: ([name]: readonly [string, number]) => name },
    { title: "COUNT", right: true, text: ([, count]: readonly [string, number]) => `${count}` },
  ];
  assert.equal(
    table([["a", 1], ["longer", 234]], columns),
    "NAME    COUNT\na           1\nlonger    234\n",
  );
  assert.equal(table([], columns), "NAME  COUNT\n");
});

Deno.test("colours stand around padded cells, and are there on a terminal without NO_COLOR only", () => {
  const columns = [
    { title: "A", text: (text: string) => text, colour: () => "red" as const },
    { title: "B", text: () => "x" },
  ];
  assert.equal(
    table(["y"], columns, ANSI_COLOURS),
    "\x1b[1mA  B\x1b[22m\n\x1b[31my\x1b[39m  x\n",
  );
  const terminal = { isTerminal: () => true };
  assert.equal(coloursOf(terminal, false), ANSI_COLOURS);
  assert.equal(coloursOf(terminal, true), NO_COLOURS);
  assert.equal(coloursOf({ isTerminal: () => false }, false), NO_COLOURS);
});

Deno.test("what a terminal would obey is shown", () => {
  assert.equal(printable("a\x1b[2J\r\n\x9bb\u202ec"), "a\\x1b[2J\\x0d\\x0a\\x9bb\\u202ec");
  assert.equal(printable("grün 日本"), "grün 日本");
});

Deno.test("times are told in the largest unit that fits", () => {
  const now = 1_000_000_000;
  const cases: [number, string][] = [
    [0, "just now"],
    [-5000, "just now"],
    [1000, "1 second ago"],
    [59_999, "59 seconds ago"],
    [60_000, "1 minute ago"],
    [7_200_000, "2 hours ago"],
    [86_400_000 * 3, "3 days ago"],
  ];
  for (const [passed, words] of cases) assert.equal(ago(now - passed, now), words);
});

Deno.test("points in time are spans before now, dates, or seconds since 1970", () => {
  const now = Date.parse("2026-01-01T12:00:00Z");
  assert.equal(parseSince("1h30m", now), now - 5_400_000);
  assert.equal(parseSince("500ms", now), now - 500);
  assert.equal(parseSince("2026-01-01T11:00:00Z", now), now - 3_600_000);
  assert.equal(parseSince("2026-01-01T12:00:00+01:00", now), now - 3_600_000);
  assert.equal(parseSince("1767268800.5", now), 1_767_268_800_500);
  // Without a zone it is this machine's, for a day too.
  assert.equal(parseSince("2026-01-01", now), new Date(2026, 0, 1).getTime());
  assert.equal(parseSince("2026-01-01 12:00", now), new Date(2026, 0, 1, 12).getTime());
  for (const text of ["", "h", "10", "yesterday", "2026-02-31T99:00:00Z", "1h 2m"]) {
    assert.equal(parseSince(text, now), undefined, text);
  }
  assert.equal(parseSpan("2.5s"), 2500);
  assert.equal(parseSpan("s"), undefined);
});

Deno.test("amounts have the unit that fits", () => {
  assert.equal(showBytes(0), "0B");
  assert.equal(showBytes(1023), "1023B");
  assert.equal(showBytes(1024), "1.0KiB");
  assert.equal(showBytes(1024 * 1024 - 1), "1.0MiB");
  assert.equal(showBytes(150n * 1024n * 1024n), "150MiB");
  assert.equal(showShare(0.125), "12.50%");
  assert.equal(showShare(undefined), "-");
  assert.equal(showShare(NaN), "-");
});
