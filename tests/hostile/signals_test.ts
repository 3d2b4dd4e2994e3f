import assert from "node:assert/strict";
import { forEachMode } from "./modes.ts";
import { hostileTests } from "./node_tests.ts";

/** The numbers that WASI's proc_raise can be called with, and some that it cannot. */
const NUMBERS = [...Array.from({ length: 65 }, (_, number) => number), 255, 65_535, -1];

forEachMode((mode) => {
  const test = hostileTests(mode, { guests: ["raise"] });

  test("a guest that raises any signal at all hurts nobody, itself at most", async (node) => {
    await node.watch("raised signals", async () => {
      await using pod = await node.pod();
      for (const number of NUMBERS) {
        await using guest = await pod.run({ args: ["/raise.wasm", `${number}`] });
        const { status } = await guest.wait();
        await guest.read();
        if (status === 0) assert.match(guest.stdout, /^proc_raise -?\d+: error \d+$/m);
        else assert.ok(status >= 128, `status ${status} after signal ${number}`);
      }
    });
  });
}, ["compiled"]);
