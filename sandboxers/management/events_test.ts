import assert from "node:assert/strict";
import type { LifecycleEvent } from "../lifecycle/events.ts";
import { EventHistory, type EventMessage } from "./events.ts";

const ALL = { noFollow: true, sandboxId: "", sinceMs: 0 };

function event(at: number, sandboxId = "s"): LifecycleEvent {
  return { kind: "sandbox-started", namespace: "n", sandboxId, at, pid: at };
}

async function take(events: AsyncGenerator<EventMessage>, count: number) {
  const taken: EventMessage[] = [];
  while (taken.length < count) {
    const { done, value } = await events.next();
    if (done === true) break;
    taken.push(value);
  }
  return taken;
}

async function all(events: AsyncGenerator<EventMessage>): Promise<(number | undefined)[]> {
  return (await Array.fromAsync(events)).map(({ pid }) => pid);
}

Deno.test("events that are remembered are told by time and sandbox", async () => {
  const history = new EventHistory();
  const { signal } = new AbortController();
  for (const at of [10, 20, 30]) history.add(event(at, at === 20 ? "other" : "s"));
  assert.deepEqual(await all(history.follow(ALL, signal)), [10, 20, 30]);
  assert.deepEqual(await all(history.follow({ ...ALL, sinceMs: 20 }, signal)), [20, 30]);
  assert.deepEqual(await all(history.follow({ ...ALL, sandboxId: "other" }, signal)), [20]);
  assert.deepEqual(await all(history.follow({ noFollow: true, sandboxId: "" }, signal)), []);
});

Deno.test("a reader that is slower than the ring hears how many it has missed", async () => {
  const history = new EventHistory(4);
  const { signal } = new AbortController();
  const reader = history.follow({ noFollow: false, sandboxId: "" }, signal);
  const first = reader.next();
  history.add(event(0));
  assert.equal((await first).value.pid, 0);
  for (let at = 1; at <= 10; at++) history.add(event(at));
  const rest = await take(reader, 4);
  assert.deepEqual(rest.map(({ pid, lostBefore }) => [pid, lostBefore]), [
    [7, 6n],
    [8, 0n],
    [9, 0n],
    [10, 0n],
  ]);
  await reader.return(undefined);
});

Deno.test("a reader that asks for more than is remembered is told of no loss it could not see", async () => {
  const history = new EventHistory(2);
  for (let at = 1; at <= 5; at++) history.add(event(at));
  const events = history.follow(ALL, new AbortController().signal);
  assert.deepEqual((await take(events, 9)).map(({ pid, lostBefore }) => [pid, lostBefore]), [
    [4, 0n],
    [5, 0n],
  ]);
});

Deno.test("a follower that gives up is gone", async () => {
  const history = new EventHistory();
  const abort = new AbortController();
  const waiting = history.follow({ noFollow: false, sandboxId: "" }, abort.signal).next();
  abort.abort();
  await assert.rejects(waiting, { code: "Cancelled" });
});

Deno.test("an event says how something ended and what was run, never its environment", async () => {
  const history = new EventHistory();
  const process = {
    args: ["run", "me"],
    env: ["PASSWORD=hidden"],
    cwd: "/",
    user: { uid: 0, gid: 0, additionalGids: [] },
  };
  const nothing = { kind: "null" } as const;
  const stdio = { stdin: nothing, stdout: nothing, stderr: nothing, terminal: false };
  history.add({
    kind: "exec-added",
    namespace: "n",
    sandboxId: "s",
    at: 1,
    containerId: "c",
    spec: { id: "e", process, stdio },
  });
  history.add({
    kind: "process-exited",
    namespace: "n",
    sandboxId: "s",
    at: 2,
    containerId: "c",
    execId: "e",
    pid: 7,
    exit: { status: 137, at: 2, reason: "oom", message: "too much" },
  });
  const told = await Array.fromAsync(history.follow(ALL, new AbortController().signal));
  assert.equal(told[0]?.message, "run me");
  assert.equal(told[0]?.execId, "e");
  assert.equal(told[1]?.exit?.reason, "oom");
  assert.ok(!Deno.inspect(told).includes("hidden"));
});
