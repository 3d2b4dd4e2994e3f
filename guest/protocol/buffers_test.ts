import assert from "node:assert/strict";
import { giveBuffer, takeBuffer } from "./buffers.ts";
import { WIDE_FRAME_BYTES_MAX } from "./limits.ts";

Deno.test("buffers: what was given back is used again, where it is large enough", () => {
  const large = takeBuffer(WIDE_FRAME_BYTES_MAX);
  assert.ok(large.length >= WIDE_FRAME_BYTES_MAX);
  giveBuffer(large);
  assert.equal(takeBuffer(WIDE_FRAME_BYTES_MAX - 1), large);
  const small = takeBuffer(10);
  giveBuffer(small);
  assert.notEqual(takeBuffer(WIDE_FRAME_BYTES_MAX), small);
});

Deno.test("buffers: few are kept, the large ones first", () => {
  const many = Array.from({ length: 10 }, (_, index) => new Uint8Array(100 + index));
  const large = new Uint8Array(WIDE_FRAME_BYTES_MAX);
  for (const one of [...many, large]) giveBuffer(one);
  assert.equal(takeBuffer(1000), large);
  const kept = new Set<Uint8Array>(many);
  let count = 0;
  while (kept.has(takeBuffer(1))) count++;
  assert.ok(count <= 2, `${count} are kept`);
});
