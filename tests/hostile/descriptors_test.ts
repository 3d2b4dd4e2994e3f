import assert from "node:assert/strict";
import { forEachMode } from "./modes.ts";
import { hostileTests } from "./node_tests.ts";

/** How many guests open what they can at once. */
const BOMBS = 3;

/** `too many open files` of WASI, for the process and for the system. */
const REFUSED = [33, 41];

forEachMode((mode) => {
  const test = hostileTests(mode, { guests: ["descriptors", "fs"] });

  for (const kind of ["file", "directory", "socket"]) {
    test(`guests that open every ${kind} they get are refused one, and a neighbour is not`, async (node) => {
      await node.watch(`open ${kind}`, async () => {
        await using pod = await node.pod();
        const bombs = await Promise.all(
          Array.from(
            { length: BOMBS },
            () => pod.run({ args: ["/descriptors.wasm", kind, "3600"] }),
          ),
        );
        for (const bomb of bombs) {
          await bomb.printed("then error");
          const [, count, error] = /opened (\d+), then error (\d+)/.exec(bomb.stdout) ?? [];
          assert.ok(Number(count) >= 16 && Number(count) < 1_000_000, bomb.stdout);
          assert.ok(REFUSED.includes(Number(error)), bomb.stdout);
        }
        // While they hold them, others open files: of their own pod and of another.
        await using other = await node.pod();
        for (const neighbour of [pod, other]) {
          await using reader = await neighbour.run({ args: ["/fs.wasm", "w:/tmp-x", "r:/tmp-x"] });
          assert.equal((await reader.wait()).status, 0);
          await reader.read();
          assert.match(reader.stdout, /read \/tmp-x: written/);
        }
        for (const bomb of bombs) await bomb.kill();
      });
    });
  }
}, ["in a process"]);
