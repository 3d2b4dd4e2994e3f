/**
 * Guest threads with functions of the C library as guests.
 *
 * @module
 */

import assert from "node:assert/strict";
import { engine, system, until } from "../fixture.ts";
import { DEFAULT_LIBRARY_PATH } from "./library.ts";
import { decodeRecord } from "./completion.ts";
import { cString } from "./system.ts";
import { GuestThreads, type ThreadRequest } from "./threads.ts";

const threads = new GuestThreads(DEFAULT_LIBRARY_PATH, system);

/** A request for a C function. */
function request(name: string, more: Partial<ThreadRequest> = {}): ThreadRequest {
  return {
    name: "test",
    nice: 0,
    stackBytes: 262_144,
    steps: [],
    function: threads.symbol(name),
    args: [],
    ...more,
  };
}

Deno.test("a thread runs a function and tells its thread id and result", async () => {
  const thread = threads.start(request("gettid"));
  const started = await thread.started;
  const { value, cpuNs } = await thread.ended;
  assert.ok(started.kind === "running");
  assert.notEqual(started.tid, Deno.pid);
  assert.equal(Number((value ?? 0n) & 0xffff_ffffn), started.tid);
  assert.ok(cpuNs > 0);
  assert.equal(thread.cpuNs(), cpuNs);
  assert.equal(thread.interrupt(), "ended");
  assert.equal(thread.running, false);
});

Deno.test("a thread has its name and nice value, and the others keep theirs", async () => {
  const thread = threads.start(
    request("pause", { name: "a-name-longer-than-15-bytes", nice: 7 }),
  );
  const started = await thread.started;
  assert.ok(started.kind === "running");
  const task = `/proc/self/task/${started.tid}`;
  assert.equal(await Deno.readTextFile(`${task}/comm`), "a-name-longer-t\n");
  const nice = (path: string) =>
    Deno.readTextFileSync(`${path}/stat`).split(") ")[1]?.split(" ")[16];
  assert.equal(nice(task), "7");
  assert.notEqual(nice("/proc/self"), "7");
  assert.equal(thread.running, true);
  await until("interrupted", () => thread.interrupt() === "ended");
  await thread.ended;
});

Deno.test("a step that points to data gets it", async () => {
  const PR_SET_NAME = 15;
  const prctl = Deno.build.arch === "aarch64" ? 167n : 157n;
  const thread = threads.start(request("pause", {
    steps: [{ label: "naming", number: prctl, args: [PR_SET_NAME, cString("by-step")] }],
  }));
  const started = await thread.started;
  assert.ok(started.kind === "running");
  assert.equal(await Deno.readTextFile(`/proc/self/task/${started.tid}/comm`), "by-step\n");
  await until("interrupted", () => thread.interrupt() === "ended");
  await thread.ended;
});

Deno.test("a failed step is named with its error and the function is not called", async () => {
  const close = Deno.build.arch === "aarch64" ? 57n : 3n;
  const thread = threads.start(request("getpid", {
    steps: [{ label: "closing nothing", number: close, args: [-1] }],
  }));
  const started = await thread.started;
  assert.ok(started.kind === "refused");
  assert.match(started.error.message, /closing nothing failed: EBADF/);
  assert.deepEqual((await thread.ended).value, undefined);
});

Deno.test("1,000 threads end and are all told of", async () => {
  const all = Array.from({ length: 1_000 }, () => threads.start(request("getpid")));
  const ends = await Promise.all(all.map((thread) => thread.ended));
  assert.ok(ends.every(({ value }) => Number((value ?? 0n) & 0xffff_ffffn) === Deno.pid));
  assert.equal(threads.size, 0);
});

Deno.test("a function that is nowhere is an error", () => {
  assert.throws(() => threads.symbol("no_such_function"), /cannot find the function "no_such/);
});

Deno.test("threads that run keep the set from closing", async () => {
  const own = ownThreads;
  const thread = own.start(request("pause"));
  await assert.rejects(own.close(), /1 still run/);
  await thread.started;
  await until("interrupted", () => thread.interrupt() === "ended");
  await thread.ended;
});

Deno.test("records are decoded field by field, and unknown kinds are left out", () => {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, 7n, true);
  view.setBigUint64(8, 11n, true);
  view.setBigUint64(16, 13n, true);
  view.setUint32(24, 2, true);
  view.setUint32(28, 17, true);
  assert.deepEqual(decodeRecord(bytes), {
    id: 7n,
    value: 11n,
    cpuNs: 13,
    kind: "returned",
    step: 17,
  });
  view.setUint32(24, 9, true);
  assert.equal(decodeRecord(bytes), undefined);
});

const ownThreads = new GuestThreads(DEFAULT_LIBRARY_PATH, engine.system);
