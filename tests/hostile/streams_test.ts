import assert from "node:assert/strict";
import { forEachMode } from "./modes.ts";
import { hostileTests } from "./node_tests.ts";

const MIB = 1 << 20;
const KILLED = 137;

/** What one guest writes to its log, in MiB. */
const LOG_MIB = 1_024;

/** What goes into a guest that never sees the end of it, in MiB. */
const INPUT_MIB = 64;

forEachMode((mode) => {
  const test = hostileTests(mode, { guests: ["args", "block", "flood"] });

  test("a guest that writes a log of 1 GiB writes all of it, and is in nobody's way", async (node) => {
    await node.watch("a log of 1 GiB", async () => {
      await using pod = await node.pod();
      await using guest = await pod.run({
        args: ["/flood.wasm", `${LOG_MIB}`],
        stdout: "counted",
      });
      assert.equal((await guest.wait()).status, 0);
      await guest.read();
      assert.equal(guest.stdoutBytes, LOG_MIB * MIB);
    });
  });

  test("an input that never ends is read on and on, until the guest is killed", async (node) => {
    await node.watch("an endless input", async () => {
      await using pod = await node.pod();
      await using guest = await pod.run({ args: ["/cat.wasm"], stdin: true, stdout: "counted" });
      const chunk = "x".repeat(65_536);
      for (let sent = 0; sent < INPUT_MIB * MIB; sent += chunk.length) {
        if (!guest.write(chunk)) await guest.drained();
      }
      assert.ok(guest.stdoutBytes > 0);
      assert.equal((await guest.kill()).status, KILLED);
    });
  });

  test("an input that nobody reads holds nobody up", async (node) => {
    await node.watch("an unread input", async () => {
      await using pod = await node.pod();
      await using guest = await pod.run({ args: ["/block.wasm", "sleep"], stdin: true });
      await guest.printed("blocking");
      while (guest.write("x".repeat(65_536)));
      assert.equal((await guest.kill()).status, KILLED);
    });
  });

  test("a huge command line and environment arrive, or are refused", async (node) => {
    await node.watch("huge arguments", async () => {
      await using pod = await node.pod();
      const args = [
        "/args.wasm",
        "a".repeat(MIB),
        ...Array.from({ length: 5_000 }, (_, i) => `${i}`),
      ];
      const env = Array.from({ length: 5_000 }, (_, i) => `K${i}=${"v".repeat(20)}`);
      await using guest = await pod.run({ args, env, stdout: "counted" });
      assert.equal((await guest.wait()).status, 0);
      await guest.read();
      assert.ok(guest.stdoutBytes > MIB + 5_000 * 28, `${guest.stdoutBytes} bytes`);
    });
  });
}, ["in a process"]);
