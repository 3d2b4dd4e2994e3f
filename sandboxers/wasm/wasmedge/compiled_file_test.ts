/**
 * A look at compiled code before it runs.
 *
 * @module
 */

import assert from "node:assert/strict";
import { guestBytes, system } from "../fixture.ts";
import { compiledFlaw, FRAME_BYTES_MAX, imageFlaw } from "./compiled_file.ts";
import { TestCompiledModules } from "./compiled_fixture.ts";

/** A shared object with one executable segment, as small as the look at it allows. */
function image(...code: readonly number[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(64 + 56 + code.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x464c457f, true);
  view.setBigUint64(32, 64n, true); // program headers
  view.setUint16(56, 1, true);
  view.setUint32(64, 1, true); // PT_LOAD
  view.setUint32(68, 5, true); // readable, executable
  view.setBigUint64(72, 120n, true);
  view.setBigUint64(96, BigInt(code.length), true);
  bytes.set(code, 120);
  return bytes;
}

/** A 32-bit number, least byte first. */
function int32(value: number): number[] {
  return [...new Uint8Array(Int32Array.of(value).buffer)];
}

const flawOf = (arch: "x86_64" | "aarch64", ...code: number[]) =>
  imageFlaw(image(...code), undefined, arch);

Deno.test("x86-64: a function that takes too much stack at once is seen", () => {
  const ways = [
    (bytes: number) => [0x48, 0x81, 0xec, ...int32(bytes)],
    (bytes: number) => [0x48, 0x81, 0xc4, ...int32(-bytes)],
    (bytes: number) => [0x48, 0x8d, 0xa4, 0x24, ...int32(-bytes)],
  ];
  for (const take of ways) {
    assert.equal(flawOf("x86_64", 0x90, ...take(FRAME_BYTES_MAX), 0xc3), undefined);
    assert.equal(flawOf("x86_64", 0x90, ...take(FRAME_BYTES_MAX + 16), 0xc3), "frames");
    assert.equal(flawOf("x86_64", ...take(16), ...take(0x7fff_fff0)), "frames");
  }
  // Giving stack back at the end of a function takes none.
  assert.equal(flawOf("x86_64", 0x48, 0x81, 0xc4, ...int32(FRAME_BYTES_MAX + 16)), undefined);
});

Deno.test("aarch64: a function that takes too much stack at once is seen", () => {
  const subtract = (pages: number) => int32((0xd140_03ff | pages << 10) | 0);
  assert.equal(flawOf("aarch64", ...subtract(FRAME_BYTES_MAX / 4_096)), undefined);
  assert.equal(flawOf("aarch64", ...subtract(FRAME_BYTES_MAX / 4_096 + 1)), "frames");
  assert.equal(flawOf("aarch64", ...int32(0xcb30_63ff | 0)), "frames", "sub sp, sp, x16");
});

Deno.test("code that the engine's compiler makes is found whole, and every cut of it is not", async () => {
  await using compiled = new TestCompiledModules();
  compiled.request("hello", await guestBytes("hello"));
  await compiled.settled();
  const path = compiled.path("hello");
  assert.equal(await compiledFlaw(system, path), undefined);
  const bytes = await Deno.readFile(path);
  for (let length = 0; length < bytes.length; length += 97) {
    assert.equal(imageFlaw(bytes.slice(0, length)), "damaged", `${length} bytes`);
  }
  assert.equal(imageFlaw(bytes, bytes.length + 1), "damaged");
});

Deno.test("what is no file, or no shared object, is damaged", async () => {
  assert.equal(await compiledFlaw(system, "/nowhere/at/all"), "damaged");
  assert.equal(await compiledFlaw(system, "/proc"), "damaged");
  assert.equal(imageFlaw(await guestBytes("hello")), "damaged");
});
