import assert from "node:assert/strict";
import { interruption } from "./interruption.ts";
import { within } from "./support/within.ts";

Deno.test("interruption() aborts its signal instead of ending the process", async () => {
  using interrupted = interruption();
  const { signal } = interrupted;
  const aborted = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => aborted.resolve(), { once: true });
  Deno.kill(Deno.pid, "SIGHUP");
  await within(10_000, "the signal", aborted.promise);
  assert.throws(() => signal.throwIfAborted(), { code: "Cancelled" });
});
