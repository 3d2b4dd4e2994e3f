import assert from "node:assert/strict";
import { rejectsWith } from "../blackbox/rejects.ts";
import { forEachMode } from "./modes.ts";
import {
  dataBeyondMemory,
  declaredMemory,
  hugeTables,
  manyDataSegments,
  memoryBomb,
  sharedMemory,
} from "./modules.ts";
import { hostileTests } from "./node_tests.ts";

const MIB = 1 << 20;
const KILLED = 137;
const TRAPPED = 134;

/** How many bombs go off at once. */
const BOMBS = 4;

forEachMode((mode) => {
  const test = hostileTests(mode, {
    guests: ["memory"],
    modules: [
      ["bomb", memoryBomb()],
      ["declared", declaredMemory(1_024)],
      ["shared", sharedMemory()],
      ["beyond", dataBeyondMemory()],
      ["data", manyDataSegments(100_000)],
      ["tables", hugeTables(100, 10_000_000)],
    ],
  });

  test("guests that grow their memory for ever get no more than their limit", async (node) => {
    await node.watch("memory bombs", async () => {
      await using pod = await node.pod();
      const request = { args: ["/bomb.wasm"], memoryBytes: 64 * MIB };
      const bombs = await Promise.all(Array.from({ length: BOMBS }, () => pod.run(request)));
      await new Promise((resolve) => setTimeout(resolve, 500));
      for (const bomb of bombs) {
        assert.ok(await bomb.memoryBytes() <= 66 * MIB, `${await bomb.memoryBytes()} bytes`);
        assert.equal((await bomb.kill()).status, KILLED);
      }
    });
  });

  test("guests that fill their memory get no more than their limit, and hear of it", async (node) => {
    await node.watch("filled memory", async () => {
      await using pod = await node.pod();
      const request = { args: ["/memory.wasm", "4096"], memoryBytes: 64 * MIB };
      const guests = await Promise.all(Array.from({ length: BOMBS }, () => pod.run(request)));
      for (const guest of guests) {
        assert.equal((await guest.wait()).status, 0);
        await guest.read();
        const taken = Number(/^took (\d+) MiB$/m.exec(guest.stdout)?.[1]);
        assert.ok(taken >= 32 && taken <= 64, guest.stdout);
      }
    });
  });

  test("a module that declares more memory than its limit is refused, and one that fits runs", async (node) => {
    await node.watch("declared memory", async () => {
      await using pod = await node.pod();
      await rejectsWith(
        ["InvalidArgument", "ResourceExhausted"],
        pod.run({ args: ["/declared.wasm"], memoryBytes: 32 * MIB }),
        /memory/,
      );
      await using fits = await pod.run({ args: ["/declared.wasm"], memoryBytes: 64 * MIB });
      assert.equal((await fits.wait()).status, 0);
    });
  });

  test("memory that threads would share is refused", async (node) => {
    await node.watch("shared memory", async () => {
      await using pod = await node.pod();
      await rejectsWith("InvalidArgument", pod.run({ args: ["/shared.wasm"] }), /shared\.wasm/);
    });
  });

  test("huge tables are refused or end the guest, and hold no memory", async (node) => {
    await node.watch("huge tables", async () => {
      await using pod = await node.pod();
      const request = { args: ["/tables.wasm"], memoryBytes: 64 * MIB };
      const ended = await pod.run(request).then(
        async (guest) => (await guest.wait()).status,
        (error: Error) => error.message,
      );
      assert.ok(ended === KILLED || /table|memory|tables\.wasm/.test(`${ended}`), `${ended}`);
    });
  });

  test("many data segments are copied, and one beyond the memory is refused or a trap", async (node) => {
    await node.watch("data segments", async () => {
      await using pod = await node.pod();
      await using many = await pod.run({ args: ["/data.wasm"] });
      assert.equal((await many.wait()).status, 0);
      const ended = await pod.run({ args: ["/beyond.wasm"] }).then(
        async (guest) => (await guest.wait()).status,
        (error: Error) => error.message,
      );
      assert.ok(ended === TRAPPED || /out of bounds/.test(`${ended}`), `${ended}`);
    });
  });
}, ["compiled", "in a process"]);
