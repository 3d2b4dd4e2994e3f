/**
 * The WasmEdge engine with real guests.
 *
 * @module
 */

import assert from "node:assert/strict";
import { refused } from "../../lifecycle/testing/refused.ts";
import { collectedPipe, engine, guestBytes, runGuest, system, until, usage } from "../fixture.ts";
import { OPEN } from "../native/syscalls.ts";
import { WasmEdgeEngine } from "./engine.ts";

/** A module from its sections, each `[id, ...content]` with fewer than 128 bytes. */
function moduleOf(...sections: readonly (readonly number[])[]): Uint8Array<ArrayBuffer> {
  const bytes = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
  for (const [id = 0, ...content] of sections) bytes.push(id, content.length, ...content);
  return new Uint8Array(bytes);
}

/** Bytes of a name with its length. */
function name(text: string): number[] {
  const bytes = new TextEncoder().encode(text);
  return [bytes.length, ...bytes];
}

const TYPE = [1, 1, 0x60, 0, 0];
const FUNCTION = [3, 1, 0];
const EXPORT_START = [7, 1, ...name("_start"), 0, 0];
const CODE = [10, 1, 2, 0, 0x0b];

Deno.test("a guest gets its arguments and environment and its exit code comes back", async () => {
  const { end, stdout, stderr } = await runGuest(await guestBytes("args"), {
    args: ["program", "one", "zwei drei", "ü"],
    env: ["EXIT_CODE=42", "EMPTY="],
  });
  assert.deepEqual(end, { kind: "exit", code: 42 });
  assert.equal(
    stdout,
    "arg program\narg one\narg zwei drei\narg ü\nenv EXIT_CODE=42\nenv EMPTY=\n",
  );
  assert.equal(stderr, "");
});

Deno.test("every exit code from 0 to 255 comes back", async () => {
  const bytes = await guestBytes("args");
  const codes = Array.from({ length: 256 }, (_, code) => code);
  const ends = await Promise.all(
    codes.map(async (code) => (await runGuest(bytes, { env: [`EXIT_CODE=${code}`] })).end),
  );
  assert.deepEqual(ends, codes.map((code) => ({ kind: "exit", code })));
});

Deno.test("a trap comes back with the engine's words", async () => {
  const bytes = await guestBytes("trap");
  const traps = [
    ["unreachable", "unreachable"],
    ["divide", "integer divide by zero"],
    ["memory", "out of bounds memory access"],
    ["call", "undefined element"],
  ] as const;
  for (const [kind, message] of traps) {
    const { end, stdout } = await runGuest(bytes, { args: ["trap", kind] });
    assert.deepEqual(end, { kind: "trap", message });
    assert.equal(stdout, "before\n");
  }
});

Deno.test("100 guests at once on pipes: nothing is lost or crossed", async () => {
  const bytes = await guestBytes("lines");
  const lines = 2_000;
  const runs = await Promise.all(
    Array.from(
      { length: 100 },
      (_, i) => runGuest(bytes, { args: ["lines", `${lines}`], env: [`ID=guest-${i}`] }),
    ),
  );
  runs.forEach(({ end, stdout, stderr }, i) => {
    assert.deepEqual(end, { kind: "exit", code: 0 });
    const expected = Array.from({ length: lines }, (_, n) => n);
    assert.equal(
      stdout,
      expected.map((n) => `guest-${i} out ${n} ${"x".repeat(29)}\n`).join(""),
    );
    const errors = expected.filter((n) => n % 10 === 0).map((n) => `guest-${i} err ${n}\n`);
    assert.equal(stderr, errors.join(""));
  });
});

Deno.test("kill ends a guest that computes, sleeps, reads, or writes to a full pipe", async () => {
  const [quietRead, quietWrite] = system.pipe();
  const [fullRead, fullWrite] = system.pipe();
  const none = system.open("/dev/null", OPEN.readWrite, "null");
  const cases = [
    { guest: "spin", stdin: none, stdout: none },
    { guest: "sleep", stdin: none, stdout: none },
    { guest: "cat", stdin: quietRead, stdout: none },
    { guest: "lines", stdin: none, stdout: fullWrite },
  ] as const;
  for (const { guest: name, stdin, stdout } of cases) {
    using module = await engine.load(await guestBytes(name));
    using guest = await engine.instantiate(module, {
      args: [name, "100000"],
      env: [],
      preopens: [],
      stdin,
      stdout,
      stderr: none,
    });
    const tid = await guest.start({ name, steps: [] });
    const state = () => Deno.readTextFileSync(`/proc/self/task/${tid}/stat`).split(") ")[1]?.[0];
    await until(`${name} runs`, () => state() === (name === "spin" ? "R" : "S"));
    assert.equal(guest.kill(), true);
    assert.deepEqual(await guest.ended, { kind: "killed" }, name);
    assert.equal(guest.kill(), false);
  }
  for (const fd of [quietRead, quietWrite, fullRead, fullWrite, none]) system.close(fd);
});

Deno.test("a killed sleeper does not go on after its sleep", async () => {
  const bytes = await guestBytes("sleep");
  for (let i = 0; i < 20; i++) {
    const out = collectedPipe();
    using module = await engine.load(bytes);
    using guest = await engine.instantiate(module, {
      args: ["sleep"],
      env: [],
      preopens: [],
      stdin: out.writeFd,
      stdout: out.writeFd,
      stderr: out.writeFd,
    });
    const tid = await guest.start({ name: "sleeper", steps: [] });
    const wait = () => Deno.readTextFileSync(`/proc/self/task/${tid}/stat`).split(") ")[1]?.[0];
    await until("asleep", () => wait() === "S");
    guest.kill();
    await guest.ended;
    out.close();
    assert.equal(await out.text, "sleeping\n");
  }
});

Deno.test("a guest cannot end the process with proc_raise", async () => {
  const bytes = await guestBytes("raise");
  for (const number of [1, 2, 3, 6, 9, 15]) {
    const { end, stdout } = await runGuest(bytes, { args: ["raise", `${number}`] });
    assert.deepEqual(end, { kind: "exit", code: 0 });
    assert.match(stdout, /^proc_raise \d+: error [1-9]/);
  }
});

Deno.test("the memory limit bounds what a guest can take", async () => {
  const bytes = await guestBytes("memory");
  const { end, stdout } = await runGuest(bytes, {
    args: ["memory", "64"],
    memoryLimitBytes: 8 * 1_048_576,
  });
  assert.deepEqual(end, { kind: "exit", code: 0 });
  const taken = Number(/took (\d+) MiB/.exec(stdout)?.[1]);
  assert.ok(taken >= 5 && taken < 8, stdout);
  const free = await runGuest(bytes, { args: ["memory", "64"] });
  assert.equal(free.stdout, "took 64 MiB\n");
});

Deno.test("a module that starts with more memory than its limit is refused", async () => {
  const bytes = moduleOf(TYPE, FUNCTION, [5, 1, 0, 32], [
    7,
    2,
    ...name("_start"),
    0,
    0,
    ...name("memory"),
    2,
    0,
  ], CODE);
  assert.deepEqual((await runGuest(bytes)).end, { kind: "exit", code: 0 });
  const limited = { memoryLimitBytes: 31 * 65_536 };
  await refused(
    runGuest(bytes, limited),
    "InvalidArgument",
    /starts with 2097152 bytes of memory, the limit is 2031616/,
  );
});

Deno.test("memoryBytes follows the guest's linear memory and cpuNs its work", async () => {
  const none = system.open("/dev/null", OPEN.readWrite, "null");
  using module = await engine.load(await guestBytes("memory"));
  using guest = await engine.instantiate(module, {
    args: ["memory", "10", "3600"],
    env: [],
    preopens: [],
    stdin: none,
    stdout: none,
    stderr: none,
  });
  const before = guest.memory().linearBytes;
  assert.equal(guest.cpuNs(), 0);
  const tid = await guest.start({ name: "memory", steps: [] });
  await until("memory is taken", () => guest.memory().linearBytes >= before + 10 * 1_048_576);
  const state = () => Deno.readTextFileSync(`/proc/self/task/${tid}/stat`).split(") ")[1]?.[0];
  await until("asleep", () => state() === "S");
  const cpuNs = guest.cpuNs();
  assert.ok(cpuNs > 100_000, `${cpuNs}`);
  guest.kill();
  await guest.ended;
  assert.ok(guest.cpuNs() >= cpuNs);
  system.close(none);
});

Deno.test("guests of the same content share one module", async () => {
  const bytes = await guestBytes("hello");
  using first = await engine.load(bytes);
  using second = await engine.load(bytes.slice());
  assert.equal(first.digest, second.digest);
  const { modules } = engine.stats();
  using other = await engine.load(await guestBytes("fs"));
  assert.notEqual(other.digest, first.digest);
  using third = await engine.load(bytes.slice());
  assert.equal(third.digest, first.digest);
  assert.ok(engine.stats().modules <= modules + 1);
});

Deno.test("a module of several megabytes is loaded and run", async () => {
  const bytes = await guestBytes("hello");
  // A custom section of 5 MiB, as debug information would be: id 0, length in LEB128, name,
  // content.
  const size = 5 * 1_048_576;
  const leb = [size & 0x7f | 0x80, size >> 7 & 0x7f | 0x80, size >> 14 & 0x7f | 0x80, size >> 21];
  const custom = new Uint8Array(1 + leb.length + size);
  custom.set([0, ...leb, 1, 0x78]);
  const big = new Uint8Array(bytes.length + custom.length);
  big.set(bytes);
  big.set(custom, bytes.length);
  const { end, stdout } = await runGuest(big);
  assert.deepEqual(end, { kind: "exit", code: 0 });
  assert.equal(stdout, "hello from wasm\n");
});

Deno.test("what cannot run is refused by name", async () => {
  const load = (bytes: Uint8Array<ArrayBuffer>) => engine.load(bytes);
  const hello = await guestBytes("hello");
  const invalid = "InvalidArgument";
  await refused(load(new Uint8Array(0)), invalid, /the file is empty/);
  await refused(load(new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 2, 1])), invalid, /native Linux/);
  await refused(load(new TextEncoder().encode("#!/bin/sh")), invalid, /found bytes 23 21 2f 62/);
  await refused(load(hello.slice(0, 6)), invalid, /the file is truncated/);
  await refused(load(hello.slice(0, hello.length / 2)), invalid, /truncated or damaged: \w+/);
  await refused(
    load(new Uint8Array([0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00])),
    invalid,
    /is a component \(WASI preview 2\)/,
  );
  await refused(
    load(new Uint8Array([0x00, 0x61, 0x73, 0x6d, 2, 0, 0, 0])),
    invalid,
    /its version is unknown: found bytes 02 00 00 00/,
  );
  // A function body that ends with a value on the stack.
  const invalidBody = moduleOf(TYPE, FUNCTION, EXPORT_START, [10, 1, 4, 0, 0x41, 0, 0x0b]);
  await refused(load(invalidBody), invalid, /it is not valid: /);
  await refused(load(moduleOf(TYPE, FUNCTION, CODE)), invalid, /does not export "_start"/);
  const withParameter = moduleOf([1, 1, 0x60, 1, 0x7f, 0], FUNCTION, EXPORT_START, CODE);
  await refused(load(withParameter), invalid, /"_start" has parameters or results/);
  const twoMemories = moduleOf(TYPE, FUNCTION, [5, 2, 0, 1, 0, 1], EXPORT_START, CODE);
  await refused(load(twoMemories), invalid, /not valid|damaged/);
});

Deno.test("unknown imports are listed by module and name", async () => {
  const wasi = name("wasi_snapshot_preview1");
  const bytes = moduleOf(
    TYPE,
    [2, 3, ...name("env"), ...name("f"), 0, 0, ...wasi, ...name("fd_flup"), 0, 0].concat([
      ...wasi,
      ...name("sched_yield"),
      0,
      0,
    ]),
    FUNCTION,
    [7, 1, ...name("_start"), 0, 3],
    CODE,
  );
  await refused(
    engine.load(bytes),
    "InvalidArgument",
    /imports what is not there: env\.f, wasi_snapshot_preview1\.fd_flup: only wasi_snap/,
  );
});

Deno.test("an import of the wrong type is refused", async () => {
  const wasi = name("wasi_snapshot_preview1");
  const bytes = moduleOf(
    TYPE,
    [2, 1, ...wasi, ...name("proc_exit"), 0, 0],
    FUNCTION,
    [7, 1, ...name("_start"), 0, 1],
    CODE,
  );
  await refused(runGuest(bytes), "InvalidArgument", /instantiate .*: incompatible import type/);
});

Deno.test("a closed descriptor is refused before the guest is made", async () => {
  await refused(
    runGuest(await guestBytes("hello"), { stdout: 1_000_000 }),
    "InvalidArgument",
    /stdout is not an open descriptor: 1000000/,
  );
});

Deno.test("a string with a NUL character is refused", async () => {
  await refused(
    runGuest(await guestBytes("hello"), { args: ["a\0b"] }),
    "InvalidArgument",
    /NUL character/,
  );
});

Deno.test("one guest more than the most is refused, and room comes back", async () => {
  const small = smallEngine;
  const none = system.open("/dev/null", OPEN.readWrite, "null");
  const options = {
    args: ["hello"],
    env: [],
    preopens: [],
    stdin: none,
    stdout: none,
    stderr: none,
  };
  using module = await small.load(await guestBytes("hello"));
  {
    using _first = await small.instantiate(module, options);
    using _second = await small.instantiate(module, options);
    await refused(small.instantiate(module, options), "ResourceExhausted", /has 2, the most/);
  }
  using _third = await small.instantiate(module, options);
  assert.equal(small.stats().guests, 1);
  system.close(none);
});

Deno.test("a guest whose setting fails does not run, and can be started again", async () => {
  const out = collectedPipe();
  using module = await engine.load(await guestBytes("hello"));
  using guest = await engine.instantiate(module, {
    args: ["hello"],
    env: [],
    preopens: [],
    stdin: out.writeFd,
    stdout: out.writeFd,
    stderr: out.writeFd,
  });
  const noSuchCall = { label: "doing the impossible", number: 100_000n, args: [] };
  await refused(
    guest.start({ name: "x", steps: [noSuchCall] }),
    "Internal",
    /doing the impossible failed: ENOSYS/,
  );
  await guest.start({ name: "x", steps: [] });
  assert.deepEqual(await guest.ended, { kind: "exit", code: 0 });
  out.close();
  assert.equal(await out.text, "hello from wasm\n");
});

Deno.test("a guest that runs cannot be disposed of", async () => {
  const none = system.open("/dev/null", OPEN.readWrite, "null");
  using module = await engine.load(await guestBytes("sleep"));
  using guest = await engine.instantiate(module, {
    args: ["sleep"],
    env: [],
    preopens: [],
    stdin: none,
    stdout: none,
    stderr: none,
  });
  await guest.start({ name: "x", steps: [] });
  assert.throws(() => guest[Symbol.dispose](), /cannot dispose of a guest that runs/);
  guest.kill();
  await guest.ended;
  system.close(none);
});

Deno.test("200 cycles leave no descriptor and no thread behind", async () => {
  const bytes = await guestBytes("hello");
  await runGuest(bytes);
  const before = usage();
  for (let i = 0; i < 200; i++) await runGuest(bytes);
  await until("threads are gone", () => usage().threads <= before.threads);
  assert.equal(usage().fds, before.fds);
  assert.equal(engine.stats().guests, 0);
});

const smallEngine = new WasmEdgeEngine({ guestsMax: 2 });
