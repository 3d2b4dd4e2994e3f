import assert from "node:assert/strict";
import { CAPABILITIES_PAGE, capabilityTable, withCapabilities } from "./capabilities.ts";

Deno.test("docs/kinds.md says what the drivers say of their capabilities", async () => {
  const page = await Deno.readTextFile(CAPABILITIES_PAGE);
  assert.equal(page, withCapabilities(page), "write it anew: deno run -A scripts/capabilities.ts");
});

Deno.test("the table of capabilities has a column for each kind and tells what one lacks", () => {
  const [head, , ...rows] = capabilityTable().split("\n");
  assert.match(head ?? "", /\| wasm +\| vmm +\| gVisor +\| Quark +\|$/);
  const terminal = rows.find((row) => row.includes("terminal"));
  assert.match(terminal ?? "", /\| no +\| yes +\| yes +\| yes +\|$/);
});

Deno.test("a page without a place for the table is told of", () => {
  assert.throws(() => withCapabilities("# A page"), /no "<!-- capabilities/);
});
