import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import { GUESTS } from "../../../tests/guests/build.ts";
import { guestBytes, moduleOf, nameOf, SECTIONS } from "../testing/engine_harness.ts";
import { rewriteModule, STOP_MEMORY } from "./rewrite.ts";

/** A module whose `run` has a body of these instructions, `(i32) -> i32`, with a memory. */
function moduleWith(body: readonly number[], memory: readonly number[] = [5, 1, 0, 1]) {
  return moduleOf(
    [1, 1, 0x60, 1, 0x7f, 1, 0x7f],
    [3, 1, 0],
    memory,
    [7, 1, ...nameOf("run"), 0, 0],
    [10, 1, body.length + 2, 0, ...body, 0x0b],
  );
}

function instantiate(bytes: Uint8Array<ArrayBuffer>) {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes));
  const { run, [STOP_MEMORY]: stop } = exports;
  assert.ok(typeof run === "function" && stop instanceof WebAssembly.Memory);
  return { run, word: new Int32Array(stop.buffer) };
}

/** Counts its parameter down in a loop and returns 7. */
// deno-fmt-ignore
const COUNT_DOWN = [
  0x03, 0x40, // loop
  0x20, 0, 0x41, 1, 0x6b, 0x22, 0, // local 0 := local 0 - 1
  0x0d, 0, // br_if 0
  0x0b, // end
  0x41, 7, // i32.const 7
];

Deno.test("a rewritten module does what it did", () => {
  const { run } = instantiate(rewriteModule(moduleWith(COUNT_DOWN), undefined));
  assert.equal(run(1000), 7);
});

Deno.test("a rewritten module traps at its next loop or call once it is told to stop", () => {
  const { run, word } = instantiate(rewriteModule(moduleWith(COUNT_DOWN), undefined));
  Atomics.store(word, 0, 1);
  assert.throws(() => run(1), WebAssembly.RuntimeError);
  Atomics.store(word, 0, 0);
  assert.equal(run(1), 7);
});

Deno.test("a loop without an end is stopped from another thread", async () => {
  const bytes = rewriteModule(moduleWith([0x03, 0x40, 0x0c, 0, 0x0b, 0x41, 0]), undefined);
  const source = `onmessage = ({ data }) => {
    const { run, "${STOP_MEMORY}": stop } = new WebAssembly.Instance(data).exports;
    postMessage(stop.buffer);
    try { run(0); } catch (error) { postMessage(error.message); }
  }`;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url, { type: "module" });
  try {
    const message = () =>
      new Promise<unknown>((resolve) => worker.onmessage = ({ data }) => resolve(data));
    const started = message();
    worker.postMessage(new WebAssembly.Module(bytes));
    const stop = await started;
    assert.ok(stop instanceof SharedArrayBuffer);
    const ended = message();
    Atomics.store(new Int32Array(stop), 0, 1);
    assert.equal(await ended, "unreachable");
  } finally {
    worker.terminate();
    URL.revokeObjectURL(url);
  }
});

Deno.test("all kinds of instructions are passed over", () => {
  // Each leaves the stack as it was; the last one proves that the walk is still in step.
  // deno-fmt-ignore
  const bodies: readonly (readonly number[])[] = [
    [0x02, 0x7f, 0x41, 0, 0x0b, 0x1a], // block (result i32)
    [0x20, 0, 0x04, 0x40, 0x05, 0x0b], // if else
    [0x02, 0x40, 0x41, 0, 0x0e, 1, 0, 0, 0x0b], // br_table
    [0x41, 0x80, 0x80, 0x04, 0x1a, 0x42, 0x7f, 0x1a], // long constants
    [0x43, 3, 3, 3, 3, 0x1a, 0x44, 3, 3, 3, 3, 3, 3, 3, 3, 0x1a], // floats made of `loop` bytes
    [0x41, 0, 0x28, 2, 3, 0x1a], // i32.load offset=3
    [0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 0x0a, 0, 0], // memory.copy
    [0x41, 0, 0x41, 3, 0x41, 0, 0xfc, 0x0b, 0], // memory.fill
    [0x43, 0, 0, 0, 0, 0xfc, 0, 0x1a], // i32.trunc_sat_f32_s
    [0xfd, 0x0c, ...new Array(16).fill(3), 0x1a], // v128.const
    [0x41, 3, 0xfd, 0x11, 0xfd, 0x1b, 3, 0x1a], // i32x4.splat, extract_lane 3
    [0x41, 0, 0x41, 0, 0x41, 1, 0x1b, 0x1a], // select
    [0x41, 0, 0x41, 0, 0x41, 1, 0x1c, 1, 0x7f, 0x1a], // select (result i32)
    [0xd0, 0x70, 0xd1, 0x1a], // ref.null func, ref.is_null
    [0x1f, 0x40, 0, 0x0b], // try_table without catches
    [0x41, 0, 0xfe, 0x10, 2, 0, 0x1a], // i32.atomic.load
    [0xfe, 3, 0], // atomic.fence
    [0x41, 3, 0xfb, 0x1c, 0xfb, 0x1d, 0x1a], // ref.i31, i31.get_s
  ];
  for (const body of bodies) {
    const module = moduleWith([...body, ...COUNT_DOWN]);
    assert.ok(WebAssembly.validate(module), `not valid: ${body}`);
    const { run, word } = instantiate(rewriteModule(module, undefined));
    assert.equal(run(3), 7, `${body}`);
    Atomics.store(word, 0, 1);
    assert.throws(() => run(3), WebAssembly.RuntimeError, `${body}`);
  }
});

Deno.test("every guest is still valid when it is rewritten", async () => {
  for (const name of GUESTS) {
    const bytes = await guestBytes(name);
    assert.ok(WebAssembly.validate(rewriteModule(bytes, undefined)), name);
    assert.ok(WebAssembly.validate(rewriteModule(bytes, 16 * 1_048_576)), name);
  }
});

Deno.test("the memory is bounded by the lower of limit and own maximum", () => {
  const grow = [0x20, 0, 0x40, 0]; // memory.grow
  const pagesGot = (memory: readonly number[], limit: number | undefined): number => {
    const { run } = instantiate(rewriteModule(moduleWith(grow, memory), limit));
    let pages = 1;
    while (pages < 10 && run(1) !== -1) pages++;
    return pages;
  };
  assert.equal(pagesGot([5, 1, 0, 1], undefined), 10);
  assert.equal(pagesGot([5, 1, 0, 1], 4 * 65_536), 4);
  assert.equal(pagesGot([5, 1, 0, 1], 5 * 65_536 - 1), 4);
  assert.equal(pagesGot([5, 1, 1, 1, 3], 4 * 65_536), 3);
  assert.equal(pagesGot([5, 1, 1, 1, 6], 4 * 65_536), 4);
});

Deno.test("a module without a memory gets one only to be stopped by", () => {
  const { type, function: functions, export: exported, code } = SECTIONS;
  const bytes = rewriteModule(moduleOf(type, functions, exported, code), 65_536);
  const module = new WebAssembly.Module(bytes);
  const memories = WebAssembly.Module.exports(module).filter(({ kind }) => kind === "memory");
  assert.deepEqual(memories.map(({ name }) => name), [STOP_MEMORY]);
});

Deno.test("instructions that are not known are refused by name", () => {
  const bytes = moduleWith([0xfc, 0x7f, 0x41, 0]);
  assert.throws(() => rewriteModule(bytes, undefined), (error: unknown) => {
    assert.ok(error instanceof SandboxError);
    assert.equal(error.code, "InvalidArgument");
    assert.match(error.message, /the instruction 0xfc 127, which is not supported with V8/);
    return true;
  });
});
