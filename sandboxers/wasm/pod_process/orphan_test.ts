import assert from "node:assert/strict";
import { orphaned, type OrphanView } from "./orphan.ts";

const MINUTE_MS = 60_000;

/** What is seen from look to look, and how many minutes pass before each; the last one stays. */
function looks(...steps: readonly (Partial<OrphanView> & { readonly minutes: number })[]) {
  let count = 0;
  let now = 0;
  const look = (): OrphanView => {
    assert.ok(count < 1_000, "it never ends");
    const { minutes = 0, ...seen } = steps[Math.min(count++, steps.length - 1)] ?? {};
    now += minutes * MINUTE_MS;
    return { connected: false, running: 0, reachable: true, now, ...seen };
  };
  return { look, count: () => count };
}

Deno.test("a process in which nothing runs ends ten minutes after the last sandboxer went", async () => {
  const idle = looks({ connected: true, minutes: 0 }, { minutes: 4 });
  assert.match(await orphaned(idle.look, 0), /no sandboxer came back/);
  assert.equal(idle.count(), 4);
});

Deno.test("a sandboxer that comes back in time, and goes again, gives it ten minutes more", async () => {
  const visited = looks({ minutes: 0 }, { minutes: 9 }, { connected: true, minutes: 9 }, {
    minutes: 9,
  });
  assert.match(await orphaned(visited.look, 0), /no sandboxer came back/);
  assert.equal(visited.count(), 5);
});

Deno.test("what runs keeps it alive for as long as it can be reached", async () => {
  const hours = Array.from({ length: 50 }, () => ({ running: 1, minutes: 60 }));
  const busy = looks(...hours, { minutes: 9 });
  assert.match(await orphaned(busy.look, 0), /no sandboxer came back/);
  assert.equal(busy.count(), 52);
});

Deno.test("it ends, whatever runs, once its socket was removed", async () => {
  const removed = looks({ running: 3, minutes: 1 }, { running: 3, reachable: false, minutes: 1 });
  assert.match(await orphaned(removed.look, 0), /its socket was removed/);
  assert.equal(removed.count(), 2);
});
