import assert from "node:assert/strict";
import { SandboxState } from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { fixture } from "../lifecycle/testing/fixture.ts";
import { SandboxWatch, type WatchMessage } from "./watch.ts";

/** Reads until all that was there at first is told. */
async function first(watch: AsyncGenerator<WatchMessage>): Promise<string[]> {
  const ids: string[] = [];
  for (;;) {
    const { done, value } = await watch.next();
    assert.ok(done !== true);
    ids.push(...value.sandboxes.map(({ id = "" }) => id));
    if (value.complete) return ids;
  }
}

Deno.test("a watcher is told all sandboxes, then each that changes, once, as it is then", async () => {
  const world = fixture();
  await world.ready("a");
  await world.ready("b");
  const watch = new SandboxWatch(world.sandboxer, 1);
  const messages = watch.follow(new AbortController().signal);
  assert.deepEqual((await first(messages)).sort(), ["a", "b"]);
  const next = messages.next();
  await world.running("b", "c");
  world.end("c", "", 3);
  await world.rest();
  const { value } = await next;
  assert.deepEqual(value.sandboxes.map(({ id }: { id: string }) => id), ["b"]);
  const [container] = value.sandboxes[0].containers;
  assert.equal(container.exit.status, 3);
  await world.sandboxer.deleteSandbox("a");
  assert.deepEqual((await messages.next()).value.removedIds, ["a"]);
  await messages.return(undefined);
  assert.equal(watch.size, 0);
});

Deno.test("nothing is listened to while nobody watches", async () => {
  const world = fixture();
  const before = world.sandboxer.counts().listeners;
  const watch = new SandboxWatch(world.sandboxer, 1);
  const abort = new AbortController();
  const watchers = [watch.follow(abort.signal), watch.follow(abort.signal)];
  for (const watcher of watchers) await first(watcher);
  assert.equal(world.sandboxer.counts().listeners, before + 1);
  const ends = watchers.map((watcher) => assert.rejects(watcher.next(), { code: "Cancelled" }));
  abort.abort();
  await Promise.all(ends);
  assert.equal(world.sandboxer.counts().listeners, before);
});

Deno.test("many sandboxes come in several messages", async () => {
  const world = fixture();
  for (let i = 0; i < 501; i++) await world.ready(`s${i}`);
  const watch = new SandboxWatch(world.sandboxer, 1);
  const messages = watch.follow(new AbortController().signal);
  const sizes: number[] = [];
  for (;;) {
    const { value } = await messages.next();
    if (value.complete) break;
    sizes.push(value.sandboxes.length);
  }
  assert.deepEqual(sizes, [500, 1]);
  await messages.return(undefined);
});

Deno.test("a watcher that does not read ends when too much has changed", async () => {
  const world = fixture();
  const watch = new SandboxWatch(world.sandboxer, 1, 50);
  const messages = watch.follow(new AbortController().signal);
  await first(messages);
  await world.ready("first");
  assert.equal((await messages.next()).value.sandboxes[0].state, SandboxState.READY);
  for (let i = 0; i < 51; i++) {
    await world.sandboxer.createSandbox({
      ...world.sandboxer.sandbox("first").spec,
      id: `s${i}`,
    });
    await world.sandboxer.deleteSandbox(`s${i}`);
  }
  await assert.rejects(messages.next(), { code: "ResourceExhausted" });
});
