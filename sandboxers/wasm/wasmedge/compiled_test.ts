/**
 * The WasmEdge engine with compiled code.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { EngineGuest, EngineModule } from "../engine.ts";
import { guestBytes, system, until, usage } from "../fixture.ts";
import { OPEN } from "../native/syscalls.ts";
import { runOn, TestCompiledModules } from "./compiled_fixture.ts";
import { WasmEdgeEngine } from "./engine.ts";
import { OUT_OF_BOUNDS, RECURSION, SPIN } from "./test_modules.ts";

const compiled = new TestCompiledModules();
const engine = new WasmEdgeEngine({ compiled });
const nowhere = system.open("/dev/null", OPEN.readWrite, "null");

Deno.test.afterAll(async () => {
  await engine.close();
  await compiled[Symbol.asyncDispose]();
});

/** Has a module compiled, and the keeper with the first of them. */
async function compile(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  for (let i = 0; i < 3; i++) {
    using module = await engine.load(bytes);
    await compiled.settled();
    if (module.compiled) return;
  }
  throw new Error("The module does not compile");
}

/** Has an engine's keeper run, so that it does not meet the fault, and a module compiled. */
async function withKeeper(
  other: WasmEdgeEngine,
  modules: TestCompiledModules,
): Promise<Uint8Array<ArrayBuffer>> {
  for (let i = 0; i < 2; i++) {
    await runOn(other, OUT_OF_BOUNDS);
    await modules.settled();
  }
  assert.equal(other.stats().compiledModules, 1);
  const bytes = await guestBytes("hello");
  assert.equal((await runOn(other, bytes)).compiled, false);
  await modules.settled();
  return bytes;
}

/** Makes a guest of a module and starts it; its streams are `/dev/null`, but for those given. */
async function start(
  module: EngineModule,
  options: { readonly args?: readonly string[]; readonly stdin?: number } = {},
): Promise<{ readonly guest: EngineGuest; readonly tid: number }> {
  const guest = await engine.instantiate(module, {
    args: options.args ?? ["guest"],
    env: [],
    preopens: [],
    stdin: options.stdin ?? nowhere,
    stdout: nowhere,
    stderr: nowhere,
  });
  return { guest, tid: await guest.start({ name: "test", steps: [] }) };
}

/** The scheduling state of a thread: `R` runs, `S` sleeps. */
function stateOf(tid: number): string | undefined {
  return Deno.readTextFileSync(`/proc/self/task/${tid}/stat`).split(") ")[1]?.[0];
}

Deno.test("the first guest is interpreted, and the next one after the compile runs compiled", async () => {
  const bytes = await guestBytes("args");
  const options = { args: ["a", "b"], env: ["EXIT_CODE=7"] };
  const first = await runOn(engine, bytes, options);
  assert.equal(first.compiled, false);
  await compile(bytes);
  const second = await runOn(engine, bytes, options);
  assert.deepEqual(second, { ...first, compiled: true });
  assert.deepEqual(second.end, { kind: "exit", code: 7 });
});

Deno.test("a start of a module in memory does not look for compiled code again", async () => {
  const bytes = await guestBytes("hello");
  await compile(bytes);
  const { finds, requests } = compiled;
  const before = [finds.length, requests.length];
  for (let i = 0; i < 5; i++) assert.equal((await runOn(engine, bytes)).compiled, true);
  assert.deepEqual([finds.length, requests.length], before);
});

Deno.test("while a module is being compiled, its starts do not look for compiled code", async () => {
  await using slow = new TestCompiledModules();
  const other = new WasmEdgeEngine({ compiled: slow });
  const bytes = await guestBytes("hello");
  slow.state = () => "compiling";
  for (let i = 0; i < 3; i++) assert.equal((await runOn(other, bytes)).compiled, false);
  slow.state = () => "unavailable";
  for (let i = 0; i < 3; i++) assert.equal((await runOn(other, bytes)).compiled, false);
  assert.deepEqual([slow.finds, slow.requests], [[], []]);
  await other.close();
});

Deno.test("a guest that runs stays interpreted when its module is compiled meanwhile", async () => {
  await using fresh = new TestCompiledModules();
  const other = new WasmEdgeEngine({ compiled: fresh });
  const bytes = await guestBytes("cat");
  const [readFd, writeFd] = system.pipe();
  const interpreted = await other.load(bytes);
  const guest = await other.instantiate(interpreted, {
    args: ["cat"],
    env: [],
    preopens: [],
    stdin: readFd,
    stdout: nowhere,
    stderr: nowhere,
  });
  await guest.start({ name: "cat", steps: [] });
  await fresh.settled();
  assert.equal((await runOn(other, bytes)).compiled, true);
  assert.deepEqual(
    [interpreted.compiled, other.stats().modules, other.stats().compiledModules],
    [false, 2, 1],
  );
  system.close(writeFd);
  assert.deepEqual(await guest.ended, { kind: "exit", code: 0 });
  guest[Symbol.dispose]();
  interpreted[Symbol.dispose]();
  system.close(readFd);
  await other.close();
});

Deno.test("loadKnown finds compiled and interpreted modules, and nothing that is not in memory", async () => {
  const bytes = await guestBytes("hello");
  await compile(bytes);
  using module = await engine.load(bytes);
  using known = await engine.loadKnown(module.digest);
  assert.equal(known?.digest, module.digest);
  assert.equal(known?.compiled, true);
  assert.equal(await engine.loadKnown("0".repeat(64)), undefined);
});

Deno.test("compiled traps come back with the engine's words", async () => {
  const bytes = await guestBytes("trap");
  await compile(bytes);
  const traps = [
    ["unreachable", "unreachable"],
    ["divide", "integer divide by zero"],
    ["memory", "out of bounds memory access"],
    ["call", "undefined element"],
  ] as const;
  for (const [kind, message] of traps) {
    const run = await runOn(engine, bytes, { args: ["trap", kind] });
    assert.deepEqual(run, { end: { kind: "trap", message }, stdout: "before\n", compiled: true });
  }
});

Deno.test("endless compiled recursion is a trap, again and again, and eight at a time", async () => {
  await compile(RECURSION);
  const expected = { kind: "trap", message: "call stack exhausted" };
  for (let round = 0; round < 25; round++) {
    const runs = Array.from({ length: 8 }, () => runOn(engine, RECURSION));
    for (const run of await Promise.all(runs)) {
      assert.deepEqual(run, { end: expected, stdout: "", compiled: true });
    }
  }
});

Deno.test("compiled guests that compute, sleep, read and call the host all the time are killed", async () => {
  const [readFd, writeFd] = system.pipe();
  const cases = [
    { bytes: SPIN, state: "R", options: {} },
    { bytes: await guestBytes("sleep"), state: "S", options: {} },
    { bytes: await guestBytes("cat"), state: "S", options: { stdin: readFd } },
    { bytes: await guestBytes("lines"), state: "R", options: { args: ["lines", "1000000000"] } },
  ] as const;
  for (const { bytes, state, options } of cases) {
    await compile(bytes);
    using module = await engine.load(bytes);
    assert.equal(module.compiled, true);
    for (let i = 0; i < 5; i++) {
      const { guest, tid } = await start(module, options);
      await until("it is at it", () => stateOf(tid) === state);
      assert.equal(guest.kill(), true);
      assert.deepEqual(await guest.ended, { kind: "killed" });
      guest[Symbol.dispose]();
    }
  }
  for (const fd of [readFd, writeFd]) system.close(fd);
});

Deno.test("traps of many compiled guests at once and of V8's own modules do not mix", async () => {
  await compile(OUT_OF_BOUNDS);
  const host = new WebAssembly.Instance(new WebAssembly.Module(OUT_OF_BOUNDS));
  const trap = host.exports._start;
  assert.ok(typeof trap === "function");
  for (let round = 0; round < 40; round++) {
    const runs = Array.from({ length: 32 }, () => runOn(engine, OUT_OF_BOUNDS));
    for (let i = 0; i < 50; i++) assert.throws(() => trap(), /out of bounds/);
    for (const { end } of await Promise.all(runs)) {
      assert.deepEqual(end, { kind: "trap", message: "out of bounds memory access" });
    }
  }
});

Deno.test("a file that is cut off between its discovery and its loading is rejected", async () => {
  await using fresh = new TestCompiledModules();
  const other = new WasmEdgeEngine({ compiled: fresh });
  const bytes = await withKeeper(other, fresh);
  fresh.onFound = (path) => Deno.truncate(path, 5_000);
  const run = await runOn(other, bytes);
  assert.deepEqual([run.compiled, run.end], [false, { kind: "exit", code: 0 }]);
  assert.equal(fresh.rejects.length, 1);
  await fresh.settled();
  fresh.onFound = () => undefined;
  assert.equal((await runOn(other, bytes)).compiled, true, "it was made again");
  await other.close();
});

Deno.test("code that is damaged time and again is left to the interpreter", async () => {
  await using fresh = new TestCompiledModules();
  const other = new WasmEdgeEngine({ compiled: fresh });
  const bytes = await withKeeper(other, fresh);
  fresh.onFound = (path) => Deno.writeTextFile(path, "nothing of the kind");
  for (let i = 0; i < 8; i++) {
    assert.equal((await runOn(other, bytes)).compiled, false);
    await fresh.settled();
  }
  assert.equal(fresh.rejects.length, 3);
  await other.close();
});

Deno.test("closing an engine ends its keeper", async () => {
  const before = usage();
  {
    await using fresh = new TestCompiledModules();
    const other = new WasmEdgeEngine({ compiled: fresh });
    for (let i = 0; i < 3; i++) {
      await runOn(other, OUT_OF_BOUNDS);
      await fresh.settled();
    }
    assert.equal(other.stats().compiledModules, 1);
    await other.close();
  }
  await until("the threads are gone", () => usage().threads <= before.threads);
  assert.equal(usage().fds, before.fds);
});

Deno.test("1,000 compiled guests at once, and what they leave behind", async () => {
  const bytes = await guestBytes("cat");
  await compile(bytes);
  const [readFd, writeFd] = system.pipe();
  const before = usage();
  const maps = () => Deno.readTextFileSync("/proc/self/maps").split("\n").length;
  const mapsBefore = maps();
  {
    using module = await engine.load(bytes);
    const guests: EngineGuest[] = [];
    for (let i = 0; i < 1_000; i++) {
      guests.push((await start(module, { stdin: readFd })).guest);
    }
    assert.equal(engine.stats().guests, guests.length);
    // 8,000 guests have to fit into the 65,530 mappings that a process may have by default.
    const mapsEach = (maps() - mapsBefore) / guests.length;
    assert.ok(mapsEach <= 8, `${mapsEach} mappings for each guest`);
    for (const guest of guests) guest.kill();
    for (const guest of guests) assert.deepEqual(await guest.ended, { kind: "killed" });
    for (const guest of guests) guest[Symbol.dispose]();
  }
  for (const fd of [readFd, writeFd]) system.close(fd);
  await until("the threads are gone", () => usage().threads <= before.threads);
  assert.equal(usage().fds, before.fds - 2);
});

Deno.test("2,000 cycles leave no descriptor, thread or mapping behind", async () => {
  const [hello, trap] = [await guestBytes("hello"), OUT_OF_BOUNDS];
  for (const bytes of [hello, trap]) {
    await compile(bytes);
    await runOn(engine, bytes);
  }
  const before = usage();
  // Arenas of the allocator come with the first threads, eight for each processor at most.
  const maps = () => Deno.readTextFileSync("/proc/self/maps").split("\n").length;
  const mapsBefore = maps();
  for (let i = 0; i < 1_000; i++) {
    await Promise.all([runOn(engine, hello), runOn(engine, trap)]);
  }
  await until("the threads are gone", () => usage().threads <= before.threads);
  assert.equal(usage().fds, before.fds);
  assert.equal(engine.stats().guests, 0);
  assert.ok(maps() - mapsBefore < 100, `${mapsBefore} mappings, then ${maps()}`);
});
