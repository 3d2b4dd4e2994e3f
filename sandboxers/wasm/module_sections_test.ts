/**
 * What a module may ask for.
 *
 * @module
 */

import assert from "node:assert/strict";
import { SandboxError } from "../lifecycle/errors.ts";
import { guestBytes } from "./fixture.ts";
import { checkModule } from "./module_sections.ts";

/** A module from its sections, each `[id, ...content]`. */
function moduleOf(...sections: readonly (readonly number[])[]): Uint8Array<ArrayBuffer> {
  const bytes = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
  for (const [id = 0, ...content] of sections) bytes.push(id, ...leb(content.length), ...content);
  return new Uint8Array(bytes);
}

/** An unsigned integer as LEB128. */
function leb(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push(value % 0x80 | 0x80);
  return [...bytes, value];
}

function refused(bytes: Uint8Array<ArrayBuffer>, words: RegExp): void {
  assert.throws(() => checkModule(bytes), (error: unknown) => {
    assert.ok(error instanceof SandboxError, String(error));
    assert.equal(error.code, "InvalidArgument");
    assert.match(error.message, words);
    return true;
  });
}

const TYPE = [1, 1, 0x60, 0, 0];
/** One function whose body is given. */
const code = (...body: number[]) => [10, 1, ...leb(body.length), ...body];
const FUNCREF = 0x70;
/** table.grow of table 0, with its operands left out: nothing here is validated. */
const TABLE_GROW = [0xfc, 0x0f, 0x00];

Deno.test("a module is read for memory, tables, functions and code", () => {
  const { shape, bytes } = checkModule(
    moduleOf(
      TYPE,
      [4, 2, FUNCREF, 0, ...leb(300), 0x6f, 1, 5, 9],
      [5, 1, 1, ...leb(200), ...leb(70_000)],
      code(1, ...leb(3), 0x7f, 0x0b),
    ),
  );
  assert.deepEqual(
    { ...shape, sizeBytes: 0 },
    { sizeBytes: 0, memoryPagesMin: 200, tableEntriesMin: 305, codeBytes: 8, functions: 1 },
  );
  assert.equal(shape.sizeBytes, bytes.length);
});

Deno.test("a module without a memory starts with none", () => {
  assert.equal(checkModule(moduleOf(TYPE)).shape.memoryPagesMin, 0);
});

Deno.test("the guests of the compiler of this machine are taken as they are", async () => {
  for (const name of ["hello", "memory", "server"] as const) {
    const bytes = await guestBytes(name);
    const checked = checkModule(bytes);
    assert.equal(checked.bytes, bytes);
    assert.ok(checked.shape.memoryPagesMin > 0 && checked.shape.functions > 1, name);
    assert.ok(checked.shape.codeBytes > 0 && checked.shape.codeBytes < bytes.length, name);
  }
});

Deno.test("a start section is refused: it would run on the host's thread", () => {
  refused(moduleOf(TYPE, [3, 1, 0], [8, 0], code(0, 0x0b)), /has a start section/);
});

Deno.test("features that no guest gets are refused by their names", () => {
  refused(moduleOf([1, 1, 0x5f, 0]), /needs garbage collection/);
  refused(moduleOf([1, 1, 0x4e, 1, 0x60, 0, 0]), /needs garbage collection/);
  refused(moduleOf([1, 1, 0x60, 1, 0x64, 0, 0]), /needs typed references/);
  refused(moduleOf([4, 1, 0x40, 0, FUNCREF, 0, 1]), /needs typed references/);
  refused(moduleOf([5, 1, 3, 1, 1]), /needs shared memory \(threads\)/);
  refused(moduleOf([5, 1, 4, 1]), /needs 64-bit memory/);
  refused(moduleOf([4, 1, FUNCREF, 4, 1]), /needs 64-bit memory/);
});

Deno.test("too many locals, parameters, tables and table entries are refused", () => {
  const locals = (count: number) => moduleOf(code(2, ...leb(count), 0x7f, 1, 0x7e, 0x0b));
  assert.equal(checkModule(locals(49_999)).shape.functions, 1);
  refused(locals(50_000), /has 50001 locals: most are 50000/);
  refused(locals(67_108_863), /locals: most are 50000/);
  const parameters = (count: number) =>
    moduleOf([1, 1, 0x60, ...leb(count), ...Array<number>(count).fill(0x7f), 0]);
  checkModule(parameters(1_000));
  refused(parameters(1_001), /1001 parameters or results: most are 1000/);
  refused(moduleOf([4, 1, FUNCREF, 0, ...leb(10_000_001)]), /start with 10000001 entries/);
  const tables = Array<number[]>(1_001).fill([FUNCREF, 0, 0]).flat();
  refused(moduleOf([4, ...leb(1_001), ...tables]), /has 1001 tables/);
});

Deno.test("a table that is grown gets an upper bound", () => {
  const grown = moduleOf(TYPE, [4, 1, FUNCREF, 0, 3], code(0, ...TABLE_GROW, 0x0b), [0, 1, 0x78]);
  const bounded = moduleOf(
    TYPE,
    [4, 1, FUNCREF, 1, 3, ...leb(1_000_003)],
    code(0, ...TABLE_GROW, 0x0b),
    [0, 1, 0x78],
  );
  assert.deepEqual(checkModule(grown).bytes, bounded);
  // A padded number is the same instruction.
  const padded = moduleOf([4, 1, FUNCREF, 0, 3], code(0, 0xfc, 0x8f, 0x00, 0x00, 0x0b));
  assert.notDeepEqual(checkModule(padded).bytes, padded);
});

Deno.test("all tables of a module share the room to grow", () => {
  const module = moduleOf(
    [4, 3, FUNCREF, 0, 1, FUNCREF, 1, 2, 7, FUNCREF, 1, 0, ...leb(900_000)],
    code(0, ...TABLE_GROW, 0x0b),
  );
  const bounded = moduleOf(
    [4, 3, FUNCREF, 1, 1, ...leb(333_334), FUNCREF, 1, 2, 7, FUNCREF, 1, 0, ...leb(333_333)],
    code(0, ...TABLE_GROW, 0x0b),
  );
  assert.deepEqual(checkModule(module).bytes, bounded);
});

Deno.test("tables that cannot grow far, or are never grown, are left as they are", () => {
  const small = moduleOf([4, 1, FUNCREF, 1, 3, 90], code(0, ...TABLE_GROW, 0x0b));
  assert.equal(checkModule(small).bytes, small);
  const never = moduleOf([4, 1, FUNCREF, 0, 3], code(0, 0x0b));
  assert.equal(checkModule(never).bytes, never);
});

Deno.test("every cut of a module is refused or read, and never read beyond its end", async () => {
  const bytes = (await guestBytes("args")).slice(0, 4_000);
  for (let length = 8; length < bytes.length; length++) {
    // On an own buffer, so that what lies behind the cut cannot be read at all.
    const cut = bytes.slice(0, length);
    try {
      assert.equal(checkModule(cut).shape.sizeBytes, length);
    } catch (error) {
      assert.ok(error instanceof SandboxError && error.code === "InvalidArgument", String(error));
    }
  }
});

Deno.test("numbers that lie about a section's content end in a refusal", () => {
  refused(moduleOf([10, ...leb(0xffff_ffff)]), /truncated or damaged/);
  refused(moduleOf([1, ...leb(0xffff_ffff), 0x60, 0, 0]), /truncated or damaged/);
  refused(moduleOf([5, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x7f]), /truncated or damaged/);
  refused(moduleOf([10, 1, 9, 0, 0x0b]), /truncated or damaged/);
});
