import assert from "node:assert/strict";
import { freePort } from "../support/http.ts";
import type { ContainerRequest } from "./container.ts";
import { forEachMode } from "./modes.ts";
import { hostileTests } from "./node_tests.ts";

const KILLED = 137;
const TERMINATED = 143;

/** How many guests wait in the same call at once. */
const GUESTS = 5;

/** How each kind of call is waited in. */
const KINDS: Readonly<Record<string, Partial<ContainerRequest>>> = {
  sleep: {},
  poll: { stdin: true },
  stdin: { stdin: true },
  accept: {},
  recv: {},
  connect: {},
  write: {},
};

forEachMode((mode) => {
  const test = hostileTests(mode, { guests: ["block"] });

  for (const [kind, more] of Object.entries(KINDS)) {
    test(`guests that wait in ${kind} are killed, by any signal that kills`, async (node) => {
      await node.watch(`blocked in ${kind}`, async () => {
        await using pod = await node.pod();
        const guests = await Promise.all(Array.from({ length: GUESTS }, async (_, index) => {
          const place = kind === "write" ? `/block-${index}` : `${freePort()}`;
          const guest = await pod.run({ args: ["/block.wasm", kind, place], ...more });
          await guest.printed("blocking");
          return guest;
        }));
        await new Promise((resolve) => setTimeout(resolve, 200));
        const endings = await Promise.all(guests.map((guest, index) => {
          return guest.kill(index % 2 === 0 ? 9 : 15);
        }));
        const expected = guests.map((_, index) => index % 2 === 0 ? KILLED : TERMINATED);
        assert.deepEqual(endings.map(({ status }) => status), expected);
      });
      for (let index = 0; index < GUESTS; index++) {
        await Deno.remove(`${node.image}/block-${index}`).catch(() => {});
      }
    });
  }

  for (const stdout of ["stuck", "nobody"] as const) {
    const reader = stdout === "stuck" ? "a reader that is stuck" : "no reader";
    test(`guests whose output has ${reader} are killed`, async (node) => {
      await node.watch(`output with ${reader}`, async () => {
        await using pod = await node.pod();
        const guests = await Promise.all(
          Array.from(
            { length: GUESTS },
            () => pod.run({ args: ["/block.wasm", "stdout"], stdout }),
          ),
        );
        await new Promise((resolve) => setTimeout(resolve, 300));
        const endings = await Promise.all(guests.map((guest) => guest.kill()));
        assert.deepEqual(endings.map(({ status }) => status), guests.map(() => KILLED));
      });
    });

    test(`a guest whose little output has ${reader} ends all the same`, async (node) => {
      await node.watch(`little output with ${reader}`, async () => {
        await using pod = await node.pod();
        await using guest = await pod.run({ args: ["/hello.wasm"], stdout });
        assert.equal((await guest.wait()).status, 0);
      });
    });
  }
  // A call waits the same way whoever makes it.
}, ["compiled"]);
