import assert from "node:assert/strict";
import { metricsTable, withMetricsTable } from "./reference.ts";
import { metricNames } from "./registry.ts";

const PAGE = new URL("../../docs/telemetry.md", import.meta.url);

/** A page without what the formatter adds to tables: the widths of columns. */
function plain(page: string): string {
  return page.replace(/ {2,}/g, " ").replace(/-{3,}/g, "---");
}

Deno.test("the page about metrics has the table that the definitions make", async () => {
  const page = await Deno.readTextFile(PAGE);
  assert.equal(
    plain(page),
    plain(withMetricsTable(page)),
    "run `deno run -A sandboxers/telemetry/reference.ts && deno fmt docs/telemetry.md`",
  );
});

Deno.test("the table has every metric once", () => {
  const table = metricsTable();
  for (const name of metricNames()) assert.equal(table.split(`\`${name}\``).length, 2, name);
});

Deno.test("a page without a place for the table is refused", () => {
  assert.throws(() => withMetricsTable("# Nothing"), TypeError);
});

/** The files below a directory that are no tests. */
async function sources(directory: URL): Promise<URL[]> {
  const files: URL[] = [];
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    if (isDirectory) files.push(...await sources(new URL(`${name}/`, directory)));
    else if (/(?<!_test)\.ts$/.test(name)) files.push(new URL(name, directory));
  }
  return files;
}

Deno.test("the page names every phase that is measured, and no other", async () => {
  const page = await Deno.readTextFile(PAGE);
  const told = [...page.matchAll(/^\| `(\w+)` +\| `(\w+)` +\|/gm)]
    .map(([, operation, phase]) => `${operation} ${phase}`);
  const measured = new Set<string>();
  for (const file of await sources(new URL("../", import.meta.url))) {
    const text = await Deno.readTextFile(file);
    for (const [, operation, phase] of text.matchAll(/\.phase\("(\w+)", "(\w+)"/g)) {
      measured.add(`${operation} ${phase}`);
    }
    // Parts of making a guest, and of starting one, which an exec does as well.
    for (const [, name, phase] of text.matchAll(/\.phase\((role\.operation|operation), "(\w+)"/g)) {
      measured.add(`${name === "operation" ? "container_start" : "container_create"} ${phase}`);
    }
  }
  assert.ok(measured.size > 20, `${measured.size} phases found`);
  assert.deepEqual(told.toSorted(), [...measured].toSorted());
});
