import assert from "node:assert/strict";
import { forEachMode } from "./modes.ts";
import { deepRecursion, endlessLoop, mutualRecursion, wideRecursion } from "./modules.ts";
import { hostileTests } from "./node_tests.ts";

const KILLED = 137;
const TRAPPED = 134;

/** More than there are processors, so that they all are busy. */
const LOOPS = navigator.hardwareConcurrency * 2 + 2;

/** How many recursions run at once. */
const RECURSIONS = 4;

forEachMode((mode) => {
  const test = hostileTests(mode, {
    guests: ["recurse"],
    modules: [
      ["loop", endlessLoop()],
      ["deep", deepRecursion()],
      ["mutual", mutualRecursion()],
      ["wide", wideRecursion()],
    ],
  });

  test("endless loops, more than there are processors, hold up nobody and are killed", async (node) => {
    await node.watch("endless loops", async () => {
      await using pod = await node.pod();
      const loops = await Promise.all(
        Array.from({ length: LOOPS }, () => pod.run({ args: ["/loop.wasm"] })),
      );
      await new Promise((resolve) => setTimeout(resolve, 500));
      const endings = await Promise.all(loops.map((loop) => loop.kill()));
      assert.deepEqual(endings.map(({ status }) => status), loops.map(() => KILLED));
    });
  });

  for (const kind of ["deep", "mutual", "wide"]) {
    test(`${kind} recursions of pure WebAssembly end by themselves, ${RECURSIONS} at once`, async (node) => {
      await node.watch(`${kind} recursions`, async () => {
        await using pod = await node.pod();
        const guests = await Promise.all(
          Array.from({ length: RECURSIONS }, () => pod.run({ args: [`/${kind}.wasm`] })),
        );
        for (const { status } of await Promise.all(guests.map((guest) => guest.wait()))) {
          assert.ok([TRAPPED, KILLED].includes(status), `status ${status}`);
        }
      });
    });

    test(`${kind} recursions of C end by themselves, ${RECURSIONS} at once`, async (node) => {
      await node.watch(`${kind} recursions in C`, async () => {
        await using pod = await node.pod();
        const guests = await Promise.all(
          Array.from({ length: RECURSIONS }, () => pod.run({ args: ["/recurse.wasm", kind] })),
        );
        for (const { status } of await Promise.all(guests.map((guest) => guest.wait()))) {
          assert.ok([TRAPPED, KILLED].includes(status), `status ${status}`);
        }
      });
    });

    test(`${kind} recursions that have only begun are killed`, async (node) => {
      await node.watch(`killed ${kind} recursions`, async () => {
        await using pod = await node.pod();
        const guests = await Promise.all(
          Array.from({ length: RECURSIONS }, () => pod.run({ args: [`/${kind}.wasm`] })),
        );
        for (const { status } of await Promise.all(guests.map((guest) => guest.kill()))) {
          assert.ok([TRAPPED, KILLED].includes(status), `status ${status}`);
        }
      });
    });
  }
}, ["interpreted"]);
