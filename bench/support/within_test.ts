import assert from "node:assert/strict";
import { within } from "./within.ts";

Deno.test("within() gives what the promise gives", async () => {
  assert.equal(await within(60_000, "it", Promise.resolve(7)), 7);
  await assert.rejects(within(60_000, "it", Promise.reject(new Error("no"))), /^Error: no$/);
});

Deno.test("within() says what it waited for in vain", async () => {
  const never = new Promise<never>(() => {});
  await assert.rejects(within(1, "godot", never), /waited 1 ms in vain for godot/);
});
