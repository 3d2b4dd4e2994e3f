/**
 * What a guest may take, interpreted and compiled alike, and how it ends when it takes more.
 *
 * @module
 */

import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { GuestEnd, GuestOptions } from "../engine.ts";
import { guestBytes, until } from "../fixture.ts";
import { runOn, TestCompiledModules } from "./compiled_fixture.ts";
import { WasmEdgeEngine } from "./engine.ts";
import { i32, memoryEater, program, RECURSION } from "./test_modules.ts";

const MIB = 1_048_576;
const PAGE = 65_536;

const compiled = new TestCompiledModules();
const engines = {
  interpreted: new WasmEdgeEngine(),
  compiled: new WasmEdgeEngine({ compiled }),
} as const;

Deno.test.afterAll(async () => {
  for (const engine of Object.values(engines)) await engine.close();
  await compiled[Symbol.asyncDispose]();
});

/** Runs a module in one of the two ways. */
async function run(
  mode: keyof typeof engines,
  bytes: Uint8Array<ArrayBuffer>,
  options: Partial<GuestOptions> = {},
): Promise<GuestEnd> {
  const engine = engines[mode];
  for (let i = 0; mode === "compiled" && i < 3; i++) {
    (await engine.load(bytes))[Symbol.dispose]();
    await compiled.settled();
  }
  const result = await runOn(engine, bytes, options);
  assert.equal(result.compiled, mode === "compiled");
  return result.end;
}

/** Expects a refusal with a code and words. */
async function refused(action: Promise<unknown>, words: RegExp): Promise<void> {
  await assert.rejects(action, (error: unknown) => {
    assert.ok(error instanceof SandboxError, String(error));
    assert.equal(error.code, "InvalidArgument", error.message);
    assert.match(error.message, words);
    return true;
  });
}

const exited: GuestEnd = { kind: "exit", code: 0 };

for (const mode of ["interpreted", "compiled"] as const) {
  Deno.test(`${mode}: a program that gives up without memory to be had ends as oom`, async () => {
    for (const step of [1, 16]) {
      const end = await run(mode, memoryEater(step, true), { memoryLimitBytes: 8 * MIB });
      assert.equal(end.kind, "oom");
      assert.match(end.kind === "oom" ? end.message : "", /it gave up with \d+ bytes of memory/);
    }
  });

  Deno.test(`${mode}: a program that does without more memory ends as it likes`, async () => {
    const bytes = memoryEater(1, false);
    assert.deepEqual(await run(mode, bytes, { memoryLimitBytes: 8 * MIB }), exited);
  });

  Deno.test(`${mode}: a program that gives up with memory to spare has trapped`, async () => {
    const bytes = program({ memory: [1], functions: [[0x00]] });
    const trap = { kind: "trap", message: "unreachable" };
    assert.deepEqual(await run(mode, bytes, { memoryLimitBytes: 8 * MIB }), trap);
    assert.deepEqual(await run(mode, bytes), trap);
    // One that has all that it declares, and no limit, has not met one either.
    const full = program({ memory: [4, 4], functions: [[0x00]] });
    assert.deepEqual(await run(mode, full), trap);
  });

  Deno.test(`${mode}: other traps at the limit are traps`, async () => {
    const bytes = program({ memory: [32], functions: [[...i32(0), ...i32(0), 0x6d, 0x1a]] });
    const end = await run(mode, bytes, { memoryLimitBytes: 32 * PAGE });
    assert.deepEqual(end, { kind: "trap", message: "integer divide by zero" });
  });

  Deno.test(`${mode}: a memory that is not exported has the same limit`, async () => {
    const bytes = program({ memory: [32], exportsMemory: false, functions: [[]] });
    assert.deepEqual(await run(mode, bytes, { memoryLimitBytes: 32 * PAGE }), exited);
    await refused(
      run(mode, bytes, { memoryLimitBytes: 31 * PAGE }),
      /starts with 2097152 bytes of memory, the limit is 2031616/,
    );
    // memory.grow(1) at the limit gives -1, else it goes on to the trap.
    const grown = [...i32(1), 0x40, 0, 0x41, 0x7f, 0x46, 0x0d, 0, 0x00];
    const growing = program({ memory: [32], exportsMemory: false, functions: [grown] });
    assert.deepEqual(await run(mode, growing, { memoryLimitBytes: 32 * PAGE }), exited);
  });

  Deno.test(`${mode}: tables that start too big are refused`, async () => {
    const bytes = program({ table: [1_000_000, 1_000_000], functions: [[]] });
    assert.deepEqual(await run(mode, bytes), exited);
    await refused(
      run(mode, bytes, { engineBytesMax: 15 * MIB }),
      /its tables take 16000000 bytes, the engine may take 15728640 for it/,
    );
  });

  Deno.test(`${mode}: a table grows as far as all may, and as far as its guest may`, async () => {
    // Grows by 1,000 entries until that fails; then it traps when the size is not 1,000,003.
    const size = [...i32(1_000), ...i32(1_000), 0x6c, ...i32(3), 0x6a];
    const bytes = program({
      table: [3],
      functions: [[
        ...[0x03, 0x40, 0xd0, 0x70, ...i32(1_000), 0xfc, 0x0f, 0, 0x41, 0x7f, 0x47, 0x0d, 0, 0x0b],
        ...[0xfc, 0x10, 0, ...size, 0x46, 0x0d, 0, 0x00],
      ]],
    });
    assert.deepEqual(await run(mode, bytes), exited);
    // The bound is on what is taken anew: one may find a gap that others have left, not all of them.
    const ends = await Promise.all(
      Array.from({ length: 6 }, () => run(mode, bytes, { engineBytesMax: 4 * MIB })),
    );
    const outOfMemory = ends.filter(({ kind }) => kind === "oom");
    assert.ok(outOfMemory.length >= 4, JSON.stringify(ends));
  });

  Deno.test(`${mode}: descriptors are bounded for each guest`, async () => {
    const bytes = await guestBytes("descriptors");
    await run(mode, bytes, { args: ["descriptors", "socket"], descriptorsMax: 1 });
    const { stdout } = await runOn(engines[mode], bytes, {
      args: ["descriptors", "socket"],
      descriptorsMax: 20,
    });
    assert.match(stdout, /^opened 20, then error [1-9]/);
  });
}

Deno.test("endless recursion in the interpreter ends as oom, again and again, eight at a time", async () => {
  for (let round = 0; round < 3; round++) {
    const ends = await Promise.all(
      Array.from({ length: 8 }, () => run("interpreted", RECURSION, { engineBytesMax: 8 * MIB })),
    );
    for (const end of ends) {
      assert.deepEqual(end, {
        kind: "oom",
        message: "the engine took more than 8388608 bytes for its stack and tables",
      });
    }
  }
});

Deno.test("without a bound of its own a guest has the engine's", async () => {
  const end = await run("interpreted", RECURSION);
  assert.equal(end.kind, "oom");
  assert.match(end.kind === "oom" ? end.message : "", /more than 67108864 bytes/);
});

Deno.test("the engine's share of a guest is known while it runs", async () => {
  const engine = engines.interpreted;
  const spinning = [0x03, 0x40, 0x0c, 0, 0x0b];
  const nowhere = engine.system.open("/dev/null", 2, "null");
  const share = async (table: number) => {
    using module = await engine.load(program({ table: [table, table], functions: [spinning] }));
    using guest = await engine.instantiate(module, {
      ...{ args: ["x"], env: [], preopens: [] },
      ...{ stdin: nowhere, stdout: nowhere, stderr: nowhere },
    });
    await guest.start({ name: "x", steps: [] });
    await until("it runs", () => guest.cpuNs() > 0);
    const { engineBytes } = guest.memory();
    guest.kill();
    await guest.ended;
    return engineBytes;
  };
  const [small, big] = [await share(1), await share(100_001)];
  assert.equal(big - small, 1_600_000);
  assert.ok(small > 30_000 && small < 2 * MIB, `${small}`);
  engine.system.close(nowhere);
});
