import assert from "node:assert/strict";
import { ProcessState, SandboxState } from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { EVENTS_MAX } from "./model.ts";
import { ADDRESS, Feed, NOW_MS, pod } from "./testing/known.ts";

/** The only sandboxer of a feed. */
function sandboxer({ model }: Feed) {
  const [row] = model.sandboxers(NOW_MS);
  assert.ok(row);
  return row;
}

Deno.test("a model has the pods that a watch brings, changes and takes away", () => {
  const feed = new Feed();
  feed.watch([pod("a"), pod("b")]);
  feed.watch([pod("b", { state: SandboxState.STOPPED }), pod("c")], ["id-a"]);
  const words = feed.model.pods().map(({ name, state }) => `${name} ${state.word}`).sort();
  assert.deepEqual(words, ["b stopped", "c ready"]);
  assert.equal(sandboxer(feed).pods, 2);
  assert.equal(sandboxer(feed).containers, 2);
});

Deno.test("a model works CPU out of two measurements, and adds up a sandboxer's pods", () => {
  const feed = new Feed();
  feed.watch([pod("a"), pod("b")]);
  feed.measure("a", 1000, 5_000, NOW_MS);
  assert.equal(feed.model.pods()[0]?.usage?.cpus, undefined);
  assert.equal(sandboxer(feed).cpus, undefined);
  feed.measure("a", 1500, 6_000, NOW_MS + 1000);
  feed.measure("b", 0, 1_000, NOW_MS + 1000);
  assert.equal(feed.model.pods()[0]?.usage?.cpus, 0.5);
  assert.equal(feed.model.pods()[0]?.containers[0]?.usage?.memoryBytes, 6_000);
  assert.equal(sandboxer(feed).cpus, 0.5);
  assert.equal(sandboxer(feed).memoryBytes, 7_000);
});

Deno.test("a model shows no CPU where a counter has begun anew", () => {
  const feed = new Feed();
  feed.watch([pod("a")]);
  feed.measure("a", 1000, 1, NOW_MS);
  feed.measure("a", 10, 1, NOW_MS + 1000);
  assert.equal(feed.model.pods()[0]?.usage?.cpus, undefined);
});

Deno.test("a model counts starts and how long they took", () => {
  const feed = new Feed();
  for (let i = 0; i < 10; i++) {
    const sandboxId = `s${i}`;
    feed.event(NOW_MS - 1000, { type: "sandbox-created", sandboxId });
    feed.event(NOW_MS - 1000 + 10 * (i + 1), { type: "sandbox-started", sandboxId });
  }
  const container = { sandboxId: "s0", containerId: "c" };
  feed.event(NOW_MS - 500, { type: "container-created", ...container });
  feed.event(NOW_MS - 497, { type: "process-started", ...container });
  feed.event(NOW_MS - 400, { type: "process-started", ...container, execId: "e" });
  const { podStart, containerStart, startsPerSecond } = sandboxer(feed);
  assert.deepEqual(podStart, { p50Ms: 50, p99Ms: 100 });
  assert.deepEqual(containerStart, { p50Ms: 3, p99Ms: 3 });
  // Ten pods and a container in ten seconds; the exec does not count.
  assert.equal(startsPerSecond, 1.1);
});

Deno.test("a model keeps a lost sandboxer's pods as unknown until it is back", () => {
  const feed = new Feed();
  feed.watch([pod("a"), pod("b")]);
  feed.model.lost(ADDRESS, "connection refused", NOW_MS);
  assert.equal(sandboxer(feed).state, "gone");
  assert.equal(sandboxer(feed).problem, "connection refused");
  assert.deepEqual(feed.model.pods().map(({ state }) => state.word), ["unknown", "unknown"]);
  feed.answer();
  feed.watch([pod("b")]);
  assert.equal(sandboxer(feed).state, "up");
  assert.equal(sandboxer(feed).problem, "");
  assert.deepEqual(feed.model.pods().map(({ name, state }) => [name, state.word]), [[
    "b",
    "ready",
  ]]);
});

Deno.test("a model remembers the last events, and when the last of a sandboxer was", () => {
  const feed = new Feed();
  assert.equal(feed.model.lastEventMs(ADDRESS), undefined);
  for (let i = 0; i < EVENTS_MAX + 10; i++) {
    feed.event(NOW_MS + i, { type: "sandbox-created", sandboxId: `s${i}` });
  }
  assert.equal(feed.model.events().length, EVENTS_MAX);
  assert.equal(feed.model.events()[0]?.sandboxId, "s10");
  assert.equal(feed.model.lastEventMs(ADDRESS), NOW_MS + EVENTS_MAX + 9);
  assert.equal(feed.model.events("s20").length, 1);
});

Deno.test("events of several sandboxers are in the order of their times", () => {
  const feed = new Feed();
  for (const at of [5, 1, 3, 3, 2]) feed.event(NOW_MS + at, { type: "sandbox-created" });
  assert.deepEqual(feed.model.events().map(({ atMs }) => atMs - NOW_MS), [1, 2, 3, 3, 5]);
});

Deno.test("states are told in words", () => {
  const exit = (status: number, reason: string) => ({ status, reason, message: "" });
  const stopped = (ended: ReturnType<typeof exit>) =>
    pod("a", { containers: [{ id: "c", state: ProcessState.STOPPED, exit: ended }] });
  const cases = [
    [stopped(exit(0, "exited")), "exited 0", "over"],
    [stopped(exit(3, "exited")), "exited 3", "bad"],
    [stopped(exit(137, "signaled")), "signal 9", "over"],
    [stopped(exit(137, "oom")), "out of mem", "bad"],
    [stopped(exit(134, "trap")), "trap", "bad"],
  ] as const;
  for (const [sandbox, word, mood] of cases) {
    const feed = new Feed();
    feed.watch([sandbox]);
    assert.deepEqual(feed.model.pods()[0]?.containers[0]?.state, { word, mood });
  }
  const feed = new Feed();
  feed.watch([pod("a", { containers: [{ id: "c", state: ProcessState.PAUSED }] })]);
  assert.equal(feed.model.pods()[0]?.state.word, "paused");
});
