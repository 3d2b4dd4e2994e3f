/**
 * What holds for guests of every engine, as tests: each engine's own test file calls
 * {@link testEngine} and adds what is the engine's own.
 *
 * @module
 */

import assert from "node:assert/strict";
import { refused } from "../../lifecycle/testing/refused.ts";
import { SYSCALL } from "../native/syscalls.ts";
import {
  collectedPipe,
  guestBytes,
  guestDirectory,
  moduleOf,
  nameOf,
  nullDevice,
  runGuest,
  SECTIONS,
  type TestedEngine,
  threadState,
  until,
} from "./engine_harness.ts";

/** How engines differ where both are right. */
export interface EngineTraits {
  /** Its name. */
  readonly name: string;
  /** Opens it, with room for so many guests where a number is given. */
  open(guestsMax?: number): TestedEngine;
  /** How it calls a trap, by what the guest `trap` does. */
  readonly traps: Readonly<Record<"unreachable" | "divide" | "memory" | "call", RegExp>>;
  /** Whether guests have sockets. */
  readonly sockets: boolean;
  /**
   * Whether it tells how much memory a guest has grown at any time; else only when the guest calls
   * WASI.
   */
  readonly followsMemory: boolean;
  /** How many guests run at once in the test of many. */
  readonly many: number;
}

/** A seccomp filter that refuses one call with EPERM, as an array of `struct sock_filter`. */
function denying(call: bigint): Uint8Array<ArrayBuffer> {
  const words: readonly (readonly [number, number, number, number])[] = [
    [0x20, 0, 0, 0], // load the call's number
    [0x15, 0, 1, Number(call)], // is it this one
    [0x06, 0, 0, 0x00050001], // SECCOMP_RET_ERRNO | EPERM
    [0x06, 0, 0, 0x7fff0000], // SECCOMP_RET_ALLOW
  ];
  const bytes = new Uint8Array(words.length * 8);
  const view = new DataView(bytes.buffer);
  words.forEach(([code, yes, no, value], i) => {
    view.setUint16(i * 8, code, true);
    view.setUint8(i * 8 + 2, yes);
    view.setUint8(i * 8 + 3, no);
    view.setUint32(i * 8 + 4, value, true);
  });
  return bytes;
}

/** mkdirat(2). */
const MKDIRAT = Deno.build.arch === "aarch64" ? 34n : 258n;

/**
 * Registers the tests.
 *
 * @param traits The engine, and how it differs.
 */
export function testEngine(traits: EngineTraits): void {
  const engine = traits.open();
  const small = traits.open(2);
  const test = (name: string, run: () => Promise<void>) =>
    Deno.test(`${traits.name}: ${name}`, run);
  testEnds(test, engine, traits);
  testStreams(test, engine, traits);
  testKills(test, engine);
  testFiles(test, engine);
  testBounds(test, engine, small, traits);
  testThreads(test, engine);
  testRefusals(test, engine, traits);
}

type Test = (name: string, run: () => Promise<void>) => void;

function testEnds(test: Test, engine: TestedEngine, { traps }: EngineTraits): void {
  test("a guest gets its arguments and environment and its exit code comes back", async () => {
    const { end, stdout, stderr } = await runGuest(engine, await guestBytes("args"), {
      args: ["program", "one", "zwei drei", "ü"],
      env: ["EXIT_CODE=42", "EMPTY="],
    });
    assert.deepEqual(end, { kind: "exit", code: 42 });
    const words = ["arg program", "arg one", "arg zwei drei", "arg ü"];
    assert.equal(stdout, [...words, "env EXIT_CODE=42", "env EMPTY=", ""].join("\n"));
    assert.equal(stderr, "");
  });

  test("exit codes come back whole", async () => {
    const bytes = await guestBytes("args");
    for (const code of [0, 1, 127, 128, 255, 256]) {
      const { end } = await runGuest(engine, bytes, { env: [`EXIT_CODE=${code}`] });
      assert.deepEqual(end, { kind: "exit", code });
    }
  });

  test("a trap comes back with the engine's words", async () => {
    const bytes = await guestBytes("trap");
    for (const [kind, words] of Object.entries(traps)) {
      const { end, stdout } = await runGuest(engine, bytes, { args: ["trap", kind] });
      assert.equal(end.kind, "trap");
      assert.match(end.kind === "trap" ? end.message : "", words);
      assert.equal(stdout, "before\n");
    }
  });

  test("a guest cannot end the process with proc_raise", async () => {
    const bytes = await guestBytes("raise");
    for (const number of [1, 6, 9, 15]) {
      const { end, stdout } = await runGuest(engine, bytes, { args: ["raise", `${number}`] });
      assert.deepEqual(end, { kind: "exit", code: 0 });
      assert.match(stdout, /^proc_raise \d+: error [1-9]/);
    }
  });
}

function testStreams(test: Test, engine: TestedEngine, { many }: EngineTraits): void {
  test("many guests at once on pipes: nothing is lost or crossed", async () => {
    const bytes = await guestBytes("lines");
    const lines = 500;
    const runs = await Promise.all(
      Array.from(
        { length: many },
        (_, i) => runGuest(engine, bytes, { args: ["lines", `${lines}`], env: [`ID=guest-${i}`] }),
      ),
    );
    const numbers = Array.from({ length: lines }, (_, n) => n);
    runs.forEach(({ end, stdout, stderr }, i) => {
      assert.deepEqual(end, { kind: "exit", code: 0 });
      const expected = numbers.map((n) => `guest-${i} out ${n} ${"x".repeat(29)}\n`);
      assert.equal(stdout, expected.join(""));
      const errors = numbers.filter((n) => n % 10 === 0).map((n) => `guest-${i} err ${n}\n`);
      assert.equal(stderr, errors.join(""));
    });
  });

  test("a guest reads its input to the end and writes what it read", async () => {
    const { system } = engine;
    const [readFd, writeFd] = system.pipe();
    const text = new TextEncoder().encode("one\ntwo\n");
    assert.equal(system.tryWrite(writeFd, text), true);
    system.close(writeFd);
    const { end, stdout } = await runGuest(engine, await guestBytes("cat"), { stdin: readFd });
    system.close(readFd);
    assert.deepEqual(end, { kind: "exit", code: 0 });
    assert.equal(stdout, "one\ntwo\n");
  });

  test("a closed descriptor is refused before the guest is made", async () => {
    await refused(
      runGuest(engine, await guestBytes("hello"), { stdout: 1_000_000 }),
      "InvalidArgument",
      /stdout is not an open descriptor: 1000000/,
    );
  });

  test("a string with a NUL character is refused", async () => {
    await refused(
      runGuest(engine, await guestBytes("hello"), { args: ["a\0b"] }),
      "InvalidArgument",
      /NUL character/,
    );
  });
}

function testKills(test: Test, engine: TestedEngine): void {
  const { system } = engine;
  test("kill ends a guest that computes, sleeps, reads, or writes to a full pipe", async () => {
    const [quietRead, quietWrite] = system.pipe();
    const [fullRead, fullWrite] = system.pipe();
    using none = nullDevice(system);
    const cases = [
      { name: "spin", stdin: none.fd, stdout: none.fd },
      { name: "sleep", stdin: none.fd, stdout: none.fd },
      { name: "cat", stdin: quietRead, stdout: none.fd },
      { name: "lines", stdin: none.fd, stdout: fullWrite },
    ] as const;
    for (const { name, stdin, stdout } of cases) {
      using module = await engine.load(await guestBytes(name));
      const streams = { stdin, stdout, stderr: none.fd };
      const options = { args: [name, "100000"], env: [], preopens: [], ...streams };
      using guest = await engine.instantiate(module, options);
      const tid = await guest.start({ name, steps: [] });
      await until(`${name} runs`, () => threadState(tid) === (name === "spin" ? "R" : "S"));
      assert.equal(guest.kill(), true);
      assert.deepEqual(await guest.ended, { kind: "killed" }, name);
      assert.equal(guest.kill(), false);
      await until("its thread is gone", () => threadState(tid) === undefined);
    }
    for (const fd of [quietRead, quietWrite, fullRead, fullWrite]) system.close(fd);
  });

  test("a killed sleeper does not go on after its sleep", async () => {
    const bytes = await guestBytes("sleep");
    using out = collectedPipe(system);
    using module = await engine.load(bytes);
    const streams = { stdin: out.fd, stdout: out.fd, stderr: out.fd };
    const options = { args: ["sleep"], env: [], preopens: [], ...streams };
    using guest = await engine.instantiate(module, options);
    const tid = await guest.start({ name: "sleeper", steps: [] });
    await until("asleep", () => threadState(tid) === "S");
    guest.kill();
    await guest.ended;
    out[Symbol.dispose]();
    assert.match(await out.text, /^(sleeping\n)?$/);
  });

  test("a guest that runs cannot be disposed of", async () => {
    using none = nullDevice(system);
    using module = await engine.load(await guestBytes("sleep"));
    const streams = { stdin: none.fd, stdout: none.fd, stderr: none.fd };
    const options = { args: ["sleep"], env: [], preopens: [], ...streams };
    using guest = await engine.instantiate(module, options);
    await guest.start({ name: "x", steps: [] });
    assert.throws(() => guest[Symbol.dispose](), /cannot dispose of a guest that runs/);
    guest.kill();
    await guest.ended;
  });
}

function testFiles(test: Test, engine: TestedEngine): void {
  const { system } = engine;
  test("a guest works on the files of its directories", async () => {
    await using root = await guestDirectory(system);
    await using data = await guestDirectory(system);
    await Deno.mkdir(`${root.path}/data`);
    await Deno.writeTextFile(`${root.path}/a`, "from the root");
    const preopens = [
      { guestPath: "/", fd: root.fd, readonly: false },
      { guestPath: "/data", fd: data.fd, readonly: false },
    ];
    const args =
      "fs p r:/a w:/data/b r:/data/b m:/d w:/d/x l:/ l:/d n:/d/x:/data/c u:/data/b l:/data"
        .split(" ");
    const { stdout } = await runGuest(engine, await guestBytes("fs"), { args, preopens });
    const [first, second, ...rest] = stdout.split("\n");
    // WasmEdge gives its directories in an order of its own; "/" sorts first in any case.
    assert.match([first, second].sort().join(" "), /^preopen \/ preopen \/?data$/);
    assert.deepEqual(rest, [
      "read /a: from the root",
      "write /data/b: ok",
      "read /data/b: written",
      "mkdir /d: ok",
      "write /d/x: ok",
      "list /: a d data",
      "list /d: x",
      "rename /d/x: ok",
      "unlink /data/b: ok",
      "list /data: c",
      "",
    ]);
    assert.equal(await Deno.readTextFile(`${data.path}/c`), "written");
  });

  test("nothing below a read-only directory can be changed", async () => {
    await using root = await guestDirectory(system);
    await Deno.writeTextFile(`${root.path}/a`, "stays");
    const preopens = [{ guestPath: "/", fd: root.fd, readonly: true }];
    const args = "fs r:/a w:/a w:/b m:/d u:/a n:/a:/c s:x:/l".split(" ");
    const { stdout } = await runGuest(engine, await guestBytes("fs"), { args, preopens });
    const [read, ...changes] = stdout.trim().split("\n");
    assert.equal(read, "read /a: stays");
    assert.equal(changes.length, 6);
    for (const line of changes) {
      assert.match(line, /: (Read-only file system|Capabilities insufficient|.* not permitted)$/);
    }
    const names = await Array.fromAsync(Deno.readDir(root.path), ({ name }) => name);
    assert.deepEqual(names, ["a"]);
  });

  test("no path leads out of a directory", async () => {
    await using root = await guestDirectory(system);
    await using outside = await guestDirectory(system);
    await Deno.writeTextFile(`${outside.path}/secret`, "secret");
    await Deno.symlink(outside.path, `${root.path}/absolute`);
    const name = outside.path.split("/").at(-1);
    await Deno.symlink(`../${name}/secret`, `${root.path}/relative`);
    const preopens = [{ guestPath: "/", fd: root.fd, readonly: false }];
    const paths = [
      `/../${name}/secret`,
      "/absolute/secret",
      "/relative",
      `/x/../../${name}/secret`,
    ];
    const args = ["fs", ...paths.map((path) => `r:${path}`), ...paths.map((path) => `w:${path}`)];
    const { stdout } = await runGuest(engine, await guestBytes("fs"), { args, preopens });
    assert.equal(stdout.trim().split("\n").length, 8);
    assert.doesNotMatch(stdout, /: (secret|ok)\n/);
    assert.equal(await Deno.readTextFile(`${outside.path}/secret`), "secret");
  });
}

function testBounds(
  test: Test,
  engine: TestedEngine,
  small: TestedEngine,
  { followsMemory }: EngineTraits,
): void {
  const { system } = engine;
  test("the memory limit bounds what a guest can take", async () => {
    const bytes = await guestBytes("memory");
    const { end, stdout } = await runGuest(engine, bytes, {
      args: ["memory", "64"],
      memoryLimitBytes: 8 * 1_048_576,
    });
    assert.deepEqual(end, { kind: "exit", code: 0 });
    const taken = Number(/took (\d+) MiB/.exec(stdout)?.[1]);
    assert.ok(taken >= 5 && taken < 8, stdout);
    const free = await runGuest(engine, bytes, { args: ["memory", "64"] });
    assert.equal(free.stdout, "took 64 MiB\n");
  });

  test("a module that starts with more memory than its limit is refused", async () => {
    const { type, function: functions, code } = SECTIONS;
    const exports = [7, 2, ...nameOf("_start"), 0, 0, ...nameOf("memory"), 2, 0];
    const bytes = moduleOf(type, functions, [5, 1, 0, 32], exports, code);
    assert.deepEqual((await runGuest(engine, bytes)).end, { kind: "exit", code: 0 });
    await refused(
      runGuest(engine, bytes, { memoryLimitBytes: 31 * 65_536 }),
      "InvalidArgument",
      /starts with 2097152 bytes of memory, the limit is 2031616/,
    );
  });

  test("a guest cannot open more descriptors than it may have", async () => {
    await using root = await guestDirectory(system);
    const preopens = [{ guestPath: "/", fd: root.fd, readonly: false }];
    await Deno.writeTextFile(`${root.path}/data`, "");
    const options = { args: ["wasi", "open", "20"], preopens, descriptorsMax: 5 };
    const { stdout } = await runGuest(engine, await guestBytes("wasi"), options);
    assert.equal(stdout, "opened 5, error 33\n");
  });

  test("memory() follows the guest's linear memory and cpuNs() its work", async () => {
    using none = nullDevice(system);
    using module = await engine.load(await guestBytes("memory"));
    const streams = { stdin: none.fd, stdout: none.fd, stderr: none.fd };
    const options = { args: ["memory", "10", "3600"], env: [], preopens: [], ...streams };
    using guest = await engine.instantiate(module, options);
    const before = guest.memory().linearBytes;
    assert.equal(guest.cpuNs(), 0);
    const tid = await guest.start({ name: "memory", steps: [] });
    await until("memory is taken", () => guest.memory().linearBytes >= before + 10 * 1_048_576);
    if (followsMemory) assert.ok(before > 0);
    await until("asleep", () => threadState(tid) === "S");
    const cpuNs = guest.cpuNs();
    assert.ok(cpuNs > 100_000, `${cpuNs}`);
    guest.kill();
    await guest.ended;
    assert.ok(guest.cpuNs() >= cpuNs);
    guest[Symbol.dispose]();
    assert.equal(guest.memory().linearBytes, 0);
  });

  test("one guest more than the most is refused, and room comes back", async () => {
    using none = nullDevice(system);
    const streams = { stdin: none.fd, stdout: none.fd, stderr: none.fd };
    const options = { args: ["hello"], env: [], preopens: [], ...streams };
    using module = await small.load(await guestBytes("hello"));
    {
      using _first = await small.instantiate(module, options);
      using _second = await small.instantiate(module, options);
      await refused(small.instantiate(module, options), "ResourceExhausted", /has 2, the most/);
    }
    using _third = await small.instantiate(module, options);
    assert.equal(small.stats().guests, 1);
  });

  test("guests of the same content share one module", async () => {
    const bytes = await guestBytes("hello");
    using first = await engine.load(bytes);
    using second = await engine.load(bytes.slice());
    assert.equal(first.digest, second.digest);
    using other = await engine.load(await guestBytes("fs"));
    assert.notEqual(other.digest, first.digest);
    const { modules } = engine.stats();
    using _third = await engine.load(bytes.slice());
    assert.equal(engine.stats().modules, modules);
  });

  test("20 runs leave no descriptor and no thread behind", async () => {
    await using root = await guestDirectory(system);
    await Deno.writeTextFile(`${root.path}/a`, "a");
    const preopens = [{ guestPath: "/", fd: root.fd, readonly: false }];
    const options = { args: ["fs", "l:/", "w:/b", "r:/a", "r:/nothing"], preopens };
    const bytes = await guestBytes("fs");
    const count = (name: string) => [...Deno.readDirSync(`/proc/self/${name}`)].length;
    await runGuest(engine, bytes, options);
    const threads = count("task");
    const fds = count("fd");
    for (let i = 0; i < 20; i++) await runGuest(engine, bytes, options);
    await until("threads are gone", () => count("task") <= threads);
    await until("descriptors are gone", () => count("fd") <= fds);
    assert.equal(engine.stats().guests, 0);
  });
}

function testThreads(test: Test, engine: TestedEngine): void {
  test("the thread makes its settings before it runs the guest", async () => {
    await using root = await guestDirectory(engine.system);
    const preopens = [{ guestPath: "/", fd: root.fd, readonly: false }];
    const umask = { label: "setting the mask", number: SYSCALL.umask, args: [0o077] };
    const parted = {
      label: "parting from the others",
      number: SYSCALL.unshare,
      args: [0x200], // CLONE_FS, or else the mask is everybody's
    };
    const options = { args: ["fs", "w:/a"], preopens };
    const thread = { steps: [parted, umask] };
    await runGuest(engine, await guestBytes("fs"), options, thread);
    assert.equal(((await Deno.stat(`${root.path}/a`)).mode ?? 0) & 0o777, 0o600);
    await runGuest(engine, await guestBytes("fs"), { args: ["fs", "w:/b"], preopens });
    assert.notEqual(((await Deno.stat(`${root.path}/b`)).mode ?? 0) & 0o777, 0o600);
  });

  test("a filter of system calls holds for the guest", async () => {
    await using root = await guestDirectory(engine.system);
    const preopens = [{ guestPath: "/", fd: root.fd, readonly: false }];
    const bytes = await guestBytes("fs");
    const options = { args: ["fs", "m:/d", "w:/a"], preopens };
    const { stdout } = await runGuest(engine, bytes, options, { filter: denying(MKDIRAT) });
    assert.equal(stdout, "mkdir /d: Operation not permitted\nwrite /a: ok\n");
  });

  test("the thread has the name that it was given", async () => {
    using none = nullDevice(engine.system);
    using module = await engine.load(await guestBytes("sleep"));
    const streams = { stdin: none.fd, stdout: none.fd, stderr: none.fd };
    const options = { args: ["sleep"], env: [], preopens: [], ...streams };
    using guest = await engine.instantiate(module, options);
    const tid = await guest.start({ name: "a name that is too long", steps: [] });
    const name = await Deno.readTextFile(`/proc/self/task/${tid}/comm`);
    assert.equal(name, "a name that is \n");
    guest.kill();
    await guest.ended;
  });

  test("a guest whose setting fails does not run, and can be started again", async () => {
    using out = collectedPipe(engine.system);
    using module = await engine.load(await guestBytes("hello"));
    const streams = { stdin: out.fd, stdout: out.fd, stderr: out.fd };
    const options = { args: ["hello"], env: [], preopens: [], ...streams };
    using guest = await engine.instantiate(module, options);
    const noSuchCall = { label: "doing the impossible", number: 100_000n, args: [] };
    await refused(
      guest.start({ name: "x", steps: [noSuchCall] }),
      "Internal",
      /doing the impossible failed: ENOSYS/,
    );
    await guest.start({ name: "x", steps: [] });
    assert.deepEqual(await guest.ended, { kind: "exit", code: 0 });
    out[Symbol.dispose]();
    assert.equal(await out.text, "hello from wasm\n");
  });
}

function testRefusals(test: Test, engine: TestedEngine, { sockets }: EngineTraits): void {
  const load = (bytes: Uint8Array<ArrayBuffer>) => engine.load(bytes);
  const invalid = "InvalidArgument";
  test("what cannot run is refused by name", async () => {
    const { type, function: functions, export: exported, code } = SECTIONS;
    const hello = await guestBytes("hello");
    await refused(load(new Uint8Array(0)), invalid, /the file is empty/);
    await refused(load(new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 2, 1])), invalid, /native Linux/);
    await refused(load(hello.slice(0, 6)), invalid, /the file is truncated/);
    await refused(load(hello.slice(0, hello.length / 2)), invalid, /damaged|not valid/);
    const component = new Uint8Array([0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00]);
    await refused(load(component), invalid, /is a component \(WASI preview 2\)/);
    // A function body that ends with a value on the stack.
    const body = moduleOf(type, functions, exported, [10, 1, 4, 0, 0x41, 0, 0x0b]);
    await refused(load(body), invalid, /it is not valid: /);
    await refused(load(moduleOf(type, functions, code)), invalid, /does not export "_start"/);
    const memories = moduleOf(type, functions, [5, 2, 0, 1, 0, 1], exported, code);
    await refused(load(memories), invalid, /not valid|damaged/);
    const threads = moduleOf(type, functions, [5, 1, 3, 1, 1], exported, code);
    await refused(load(threads), invalid, /cannot load the WebAssembly module/);
  });

  test("a start function with parameters is refused", async () => {
    const { function: functions, export: exported, code } = SECTIONS;
    const bytes = moduleOf([1, 1, 0x60, 1, 0x7f, 0], functions, exported, code);
    await refused(runGuest(engine, bytes), invalid, /"_start" has parameters/);
  });

  test("unknown imports are listed by module and name", async () => {
    const { type, function: functions, code } = SECTIONS;
    const wasi = nameOf("wasi_snapshot_preview1");
    const unknown = [...nameOf("env"), ...nameOf("f"), 0, 0, ...wasi, ...nameOf("fd_flup"), 0, 0];
    const imports = [2, 3, ...unknown, ...wasi, ...nameOf("sched_yield"), 0, 0];
    const exported = [7, 1, ...nameOf("_start"), 0, 3];
    await refused(
      load(moduleOf(type, imports, functions, exported, code)),
      invalid,
      /imports what is not there: env\.f, wasi_snapshot_preview1\.fd_flup: only wasi_snap/,
    );
  });

  test(`a guest that wants sockets ${sockets ? "is loaded" : "is refused"}`, async () => {
    const bytes = await guestBytes("server");
    if (sockets) return (await load(bytes))[Symbol.dispose]();
    await refused(load(bytes), invalid, /imports what is not there: .*sock_open/);
  });
}
