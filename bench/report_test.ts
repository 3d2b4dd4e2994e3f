import assert from "node:assert/strict";
import { resultChart } from "./chart.ts";
import { goalTables } from "./goals.ts";
import type { Host } from "./host.ts";
import { numberText } from "./number_text.ts";
import { report } from "./report.ts";
import { type Result, resultOf } from "./result.ts";
import { resultTable } from "./table.ts";

const results: Result[] = [
  resultOf({
    name: "CRI start",
    unit: "ms",
    series: new Map([["ours", [9.5, 10.25, 30]], ["runc", [150, 160]], ["no-op", [7.5]]]),
    peer: "runc",
    goals: [{ kind: "ratio", peer: "runc", atMost: 0.25, written: "0.25" }],
  }),
  resultOf({
    name: "memory",
    unit: "MiB",
    series: new Map([["ours", [71.5]]]),
    goals: [{ kind: "value", atMost: 70 }],
  }),
  resultOf({
    name: "calls & more",
    unit: "calls/s",
    series: new Map([["ours", [23456.7]], ["runc", [100]]]),
    peer: "runc",
  }),
];

/** What is compared with something that was not measured as such. */
const guessed: Result = resultOf({
  name: "guessed",
  unit: "ms",
  series: new Map([["ours", [1]], ["V8", [2]], ["slow (extrapolated)", [900]]]),
  peer: "V8",
});

/** What has nothing to compare with. */
const lonely: Result = resultOf({
  name: "lonely",
  unit: "MiB",
  series: new Map([["ours", [1]]]),
});

const host: Host = {
  date: "2026-01-02T03:04:05.000Z",
  cpu: "A <fast> CPU",
  cores: 2,
  memoryMiB: 1024,
  kernel: "6.18",
  loadBefore: 0.5,
  versions: { deno: "2.9.6" },
};

Deno.test("resultTable() shows each result with its peers, ratios, goal and whether it is reached", () => {
  const rows = resultTable(results).split("\n").filter((line) => line.startsWith("│"))
    .map((line) => line.split("│").slice(1, -1).map((cell) => cell.trim()));
  assert.deepEqual(rows[0]?.at(-1), "reached");
  assert.deepEqual(rows[1], [
    "CRI start",
    "ms",
    "10.3 / 30.0 / 30.0",
    "runc 150",
    "0.068",
    "<= 0.25 of runc",
    "yes",
  ]);
  assert.deepEqual(rows[2], ["", "", "", "no-op 7.50", "1.37", "", ""]);
  assert.deepEqual(rows[3], [
    "memory",
    "MiB",
    "71.5 / 71.5 / 71.5",
    "-",
    "-",
    "<= 70 MiB",
    "NO",
  ]);
  assert.deepEqual(rows[4]?.slice(-2), ["-", "-"]);
});

Deno.test("resultChart() draws every contender of what has a peer or a limit, with special characters escaped", async () => {
  const svg = await resultChart([...results, lonely], host);
  assert.ok(!svg.includes("lonely"));
  assert.match(svg, /^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  assert.match(svg, /<\/svg>\s*$/);
  for (const text of ["CRI start (ms)", "calls &amp; more (calls/s, more is better)", "no-op"]) {
    assert.ok(svg.includes(`>${text}<`), `${text} is missing`);
  }
  assert.ok(svg.includes("A &lt;fast&gt; CPU"));
  assert.equal(svg.match(/>ours</g)?.length, 3);
  assert.ok(svg.includes("#c92a2a"));
  assert.ok(svg.includes("#0b7285") && svg.includes("#adb5bd"));
  assert.ok(!svg.includes("NaN"));
});

Deno.test("resultChart() leaves out what was only extrapolated", async () => {
  const svg = await resultChart([guessed], host);
  assert.ok(svg.includes(">V8<") && !svg.includes("extrapolated"));
});

Deno.test("resultChart() of the same results is the same", async () => {
  const [one, two] = [await resultChart(results, host), await resultChart(results, host)];
  const stable = (svg: string) => svg.replace(/gradient_\d+|clip\d+/g, "");
  assert.equal(stable(one), stable(two));
});

Deno.test("numberText() keeps about three digits", () => {
  const texts = [0.01234, 0.5, 1.5, 12.34, 123.4, 12345.6].map(numberText);
  assert.deepEqual(texts, ["0.012", "0.500", "1.50", "12.3", "123", "12,346"]);
});

Deno.test("report() writes JSON and chart, and says how many goals are reached", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const files = { json: `${directory}/a.json`, svg: `${directory}/a.svg` };
    const summary = await report(results, host, files);
    assert.match(summary, /1 of 2 goals reached on A <fast> CPU, 2 cores/);
    const json: unknown = JSON.parse(await Deno.readTextFile(files.json));
    const goals = { base: goalTables(results).base, wasm: [], vmm: [], quark: [] };
    assert.deepEqual(json, JSON.parse(JSON.stringify({ host, goals, results })));
    assert.deepEqual(goals.base.map(({ what, goal, reached }) => [what, goal, reached]), [
      ["CRI start", "<= 0.25 of runc", true],
      ["memory", "<= 70 MiB", false],
    ]);
    assert.match(await Deno.readTextFile(files.svg), /^<svg /);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("report() writes nothing that nobody wants", async () => {
  assert.doesNotMatch(await report(results, host, {}), /Written/);
});
