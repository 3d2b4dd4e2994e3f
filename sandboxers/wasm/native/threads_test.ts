/**
 * Guest threads with functions of the C library as guests.
 *
 * @module
 */

import assert from "node:assert/strict";
import { engine, system, until, usage } from "../fixture.ts";
import { buildTestCode } from "./build.ts";
import { type Address, DEFAULT_LIBRARY_PATH } from "./library.ts";
import { decodeRecord } from "./completion.ts";
import { cString } from "./system.ts";
import { GuestThreads, type ThreadRequest } from "./threads.ts";

const before = usage();
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

/** Instructions of a filter: code, jump if true, jump if false, value (linux/filter.h). */
function filter(
  ...instructions: readonly (readonly [number, number, number, number])[]
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(instructions.length * 8);
  const view = new DataView(bytes.buffer);
  instructions.forEach(([code, whenTrue, whenFalse, value], i) => {
    view.setUint16(i * 8, code, true);
    view.setUint8(i * 8 + 2, whenTrue);
    view.setUint8(i * 8 + 3, whenFalse);
    view.setUint32(i * 8 + 4, value, true);
  });
  return bytes;
}

const LOAD_NUMBER = [0x20, 0, 0, 0] as const;
const ALLOW = [0x06, 0, 0, 0x7fff_0000] as const;
const GETPPID = Deno.build.arch === "aarch64" ? 173 : 110;
const EDOM = 33;

Deno.test("a filter of the caller is in force on its thread and on no other", async () => {
  const failing = filter(
    LOAD_NUMBER,
    [0x15, 0, 1, GETPPID],
    [0x06, 0, 0, 0x0005_0000 | EDOM],
    ALLOW,
  );
  const filtered = threads.start(request("getppid", { filter: failing }));
  const plain = threads.start(request("getppid"));
  // getppid(2) never fails, so the C library passes on what comes back as it is.
  assert.equal(asInt32((await filtered.ended).value), -EDOM);
  assert.equal(asInt32((await plain.ended).value), Deno.ppid);
});

Deno.test("a thread cannot send signals, whatever the filter of the caller allows", async () => {
  const args = [BigInt(Deno.pid), 9n];
  const plain = threads.start(request("kill", { args }));
  const filtered = threads.start(request("kill", { args, filter: filter(LOAD_NUMBER, ALLOW) }));
  assert.equal(asInt32((await plain.ended).value), -1);
  assert.equal(asInt32((await filtered.ended).value), -1);
});

Deno.test("a filter that cannot be used is refused with the reason", () => {
  const start = (bytes: Uint8Array) => () => threads.start(request("getpid", { filter: bytes }));
  assert.throws(start(new Uint8Array(0)), /it has 0 bytes/);
  assert.throws(start(new Uint8Array(12)), /it has 12 bytes, expected a multiple of 8/);
  assert.throws(start(new Uint8Array(8 * 4_000)), /it has 4000 instructions, the most is 3846/);
  assert.throws(start(filter(ALLOW)), /its first instruction is no load/);
  const killing = filter(LOAD_NUMBER, [0x06, 0, 0, 0x8000_0000]);
  assert.throws(start(killing), /instruction 1 returns 0x80000000, expected one of SECCOMP_RET_AL/);
  const computing = filter(LOAD_NUMBER, [0x16, 0, 0, 0]);
  assert.throws(start(computing), /instruction 1 returns a computed value/);
  const jumping = filter(LOAD_NUMBER, [0x15, 90, 90, 1], ALLOW);
  assert.throws(start(jumping), /the kernel refuses it/);
});

Deno.test("bounds that are none are refused", () => {
  const start = (more: Partial<ThreadRequest>) => () => threads.start(request("getpid", more));
  assert.throws(start({ descriptorsMax: -1 }), /the bound on descriptors is -1/);
  assert.throws(start({ descriptorsMax: 1.5 }), /the bound on descriptors is 1.5/);
  assert.throws(start({ heapBytesMax: NaN }), /the bound on memory is NaN/);
  assert.throws(start({ guardBytes: 2 ** 40 }), /the guard of a stack is 1099511627776/);
});

Deno.test("a thread holds no more descriptors than it may", async () => {
  const open = (descriptorsMax: number) =>
    threads.start(request("epoll_create1", { args: [0n], descriptorsMax })).ended;
  assert.equal(asInt32((await open(0)).value), -1);
  const fd = asInt32((await open(1)).value);
  assert.ok(fd >= 0);
  system.close(fd);
});

Deno.test("a thread beyond its bound of memory waits and is told of, and then ends", async () => {
  const bytes = 64n * 1_048_576n;
  const exceeded = Promise.withResolvers<"memory">();
  const thread = threads.start(
    request("malloc", {
      args: [bytes],
      heapBytesMax: 1_048_576,
      onExceeded: exceeded.resolve,
    }),
  );
  assert.equal(await exceeded.promise, "memory");
  thread.interrupt();
  const { value } = await thread.ended;
  // It was given what it asked for: an engine without memory would end the process.
  assert.notEqual(value, 0n);
  await threads.start(request("free", { args: [value ?? 0n] })).ended;
  assert.equal(thread.heapBytes(), 0);
  assert.equal(thread.descriptors(), 0);
});

Deno.test("what a thread holds can be asked for while it runs", async () => {
  await using code = await testCode();
  const thread = threads.start(
    request("getpid", { function: code.holdAndWait, args: [3_145_728n] }),
  );
  await until("it holds all", () => thread.descriptors() === 3 && thread.heapBytes() >= 3_145_728);
  await until("interrupted", () => thread.interrupt() === "ended");
  await thread.ended;
  assert.equal(thread.heapBytes(), 0);
  assert.equal(thread.descriptors(), 0);
});

Deno.test("compiled code is registered once it is loaded, and forgotten", async () => {
  assert.throws(() => threads.addCode("/nowhere/at/all.so"), { code: "NotFound" });
  await using code = await testCode();
  const number = threads.addCode(code.path);
  threads.removeCode(number);
  assert.throws(() => threads.removeCode(number), { code: "NotFound" });
  assert.equal(threads.canInterruptCode(), true);
});

Deno.test("fault handlers are not pinned while the engine has none", () => {
  assert.throws(() => threads.pinFaultHandlers(), {
    code: "FailedPrecondition",
    message: /the engine has not installed its own/,
  });
});

Deno.test("thousands of threads leave no thread, descriptor or mapping behind", async () => {
  const run = async (count: number) => {
    for (let i = 0; i < count; i += 100) {
      const batch = Array.from({ length: 100 }, () => threads.start(request("getpid")));
      await Promise.all(batch.map((thread) => thread.ended));
    }
  };
  const mappings = async () => (await Deno.readTextFile("/proc/self/maps")).split("\n").length;
  await run(500);
  await until("swept", () => usage().threads <= before.threads + 2);
  const fds = usage().fds;
  const maps = await mappings();
  await run(4_000);
  await until("swept", () => usage().threads <= before.threads + 2);
  assert.ok(usage().fds <= fds, `${usage().fds} descriptors, before ${fds}`);
  assert.ok(await mappings() <= maps + 50, `${await mappings()} mappings, before ${maps}`);
});

/** The shared object of the C tests, loaded; its directory is removed when disposed of. */
async function testCode(): Promise<
  AsyncDisposable & { readonly path: string; readonly holdAndWait: Address }
> {
  await using release = new AsyncDisposableStack();
  const outDir = await Deno.makeTempDir({ prefix: "quasaur-code-" });
  release.defer(() => Deno.remove(outDir, { recursive: true }));
  const path = await buildTestCode({ outDir });
  const library = Deno.dlopen(path, {
    function_address: { parameters: ["u32"], result: "u64" },
  });
  release.defer(() => library.close());
  const owned = release.move();
  return {
    path,
    holdAndWait: library.symbols.function_address(0),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The lower half of a register, as a C int. */
function asInt32(value: bigint | undefined): number {
  return Number(BigInt.asIntN(32, value ?? 0n));
}

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
