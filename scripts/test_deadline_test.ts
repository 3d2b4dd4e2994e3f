import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { withDeadline } from "./test_deadline.ts";

const MODULE = fileURLToPath(new URL("./test_deadline.ts", import.meta.url));
const HANGS = `
  Deno.test("hangs", { timeout: 50 }, async () => {
    setInterval(() => {}, 1_000);
    await new Promise(() => {});
  });
  Deno.test("goes on", () => {});
`;

Deno.test("a test has a deadline in whatever form it is given, or its own", () => {
  const fn = () => {};
  function named() {}
  const seen = (...args: unknown[]) => {
    const { name, timeout = 0, ignore = false } = withDeadline(args);
    return [name, timeout > 60_000, ignore];
  };
  assert.deepEqual(seen("a", fn), ["a", true, false]);
  assert.deepEqual(seen(named), ["named", true, false]);
  assert.deepEqual(seen({ name: "b", ignore: true, fn }), ["b", true, true]);
  assert.deepEqual(seen("c", { ignore: true }, fn), ["c", true, true]);
  assert.deepEqual(seen({ ignore: true }, named), ["named", true, true]);
  assert.deepEqual(seen("d", { timeout: 5 }, fn), ["d", false, false]);
});

Deno.test("a test that hangs fails, and the next one runs", async () => {
  const path = await Deno.makeTempFile({ suffix: "_test.ts" });
  try {
    await Deno.writeTextFile(path, HANGS);
    const args = ["test", "--allow-env", "--no-check", "--no-config", `--preload=${MODULE}`, path];
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args,
      env: { NO_COLOR: "1" },
    }).output();
    const text = new TextDecoder().decode(stdout);
    assert.match(text, /hangs \.\.\. FAILED/);
    assert.match(text, /1 passed \| 1 failed/);
  } finally {
    await Deno.remove(path);
  }
});
