import assert from "node:assert/strict";
import { SandboxError } from "./errors.ts";
import { refused } from "./testing/refused.ts";
import { Waiters } from "./waiters.ts";

Deno.test("waiters all get the value, also those who come late", async () => {
  const waiters = new Waiters<number>();
  const early = [waiters.wait("wait"), waiters.wait("wait")];
  waiters.settle(7);
  assert.deepEqual(await Promise.all(early), [7, 7]);
  assert.equal(await waiters.wait("wait"), 7);
  assert.equal(waiters.size, 0);
});

Deno.test("a waiter that gives up leaves nothing behind and does not disturb the others", async () => {
  const waiters = new Waiters<number>();
  const abort = new AbortController();
  const impatient = waiters.wait("wait for x", abort.signal);
  const patient = waiters.wait("wait for x");
  assert.equal(waiters.size, 2);
  abort.abort();
  await refused(impatient, "Cancelled", /wait for x: cancelled by the caller/);
  assert.equal(waiters.size, 1);
  waiters.settle(1);
  assert.equal(await patient, 1);
});

Deno.test("a waiter whose time is up gets DeadlineExceeded", async () => {
  const waiters = new Waiters<number>();
  const abort = new AbortController();
  const wait = waiters.wait("wait for x", abort.signal);
  abort.abort(new DOMException("late", "TimeoutError"));
  await refused(wait, "DeadlineExceeded");
});

Deno.test("a wait that was given up before it began is refused without waiting", async () => {
  const waiters = new Waiters<number>();
  await refused(waiters.wait("wait", AbortSignal.abort()), "Cancelled");
  assert.equal(waiters.size, 0);
});

Deno.test("a value that is there answers even a wait that was given up", async () => {
  const waiters = new Waiters<number>();
  waiters.settle(3);
  assert.equal(await waiters.wait("wait", AbortSignal.abort()), 3);
});

Deno.test("only the first value counts", async () => {
  const waiters = new Waiters<number>();
  waiters.settle(1);
  waiters.settle(2);
  waiters.fail(new SandboxError("Unavailable", "gone"));
  assert.equal(await waiters.wait("wait"), 1);
});

Deno.test("a failure turns away all who wait and will wait", async () => {
  const waiters = new Waiters<number>();
  const early = waiters.wait("wait");
  waiters.fail(new SandboxError("Unavailable", "gone"));
  await refused(early, "Unavailable", /gone/);
  await refused(waiters.wait("wait"), "Unavailable", /gone/);
  assert.equal(waiters.size, 0);
});

Deno.test("a value that comes after a failure answers those who come after it", async () => {
  const waiters = new Waiters<number>();
  waiters.fail(new SandboxError("Unavailable", "gone"));
  waiters.settle(5);
  assert.equal(await waiters.wait("wait"), 5);
});

Deno.test("a signal is let go of once the value came", async () => {
  const waiters = new Waiters<number>();
  const abort = new AbortController();
  const removed: string[] = [];
  const { removeEventListener } = abort.signal;
  abort.signal.removeEventListener = (type: string, ...rest: unknown[]): void => {
    removed.push(type);
    Reflect.apply(removeEventListener, abort.signal, [type, ...rest]);
  };
  const wait = waiters.wait("wait", abort.signal);
  waiters.settle(1);
  await wait;
  assert.deepEqual(removed, ["abort"]);
});

Deno.test("there is a limit to how many may wait for one thing", async () => {
  const waiters = new Waiters<number>();
  const waits = Array.from({ length: 10_000 }, () => waiters.wait("wait"));
  await refused(waiters.wait("wait for x"), "ResourceExhausted", /cannot wait for x/);
  waiters.settle(1);
  assert.equal((await Promise.all(waits)).length, 10_000);
});
