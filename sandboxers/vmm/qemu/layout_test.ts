import assert from "node:assert/strict";
import { machineLayout } from "./layout.ts";

Deno.test("the layout of machines is the same for the same program", () => {
  assert.match(machineLayout(), /^[0-9a-f]{16}$/);
  assert.equal(machineLayout(), machineLayout());
});
