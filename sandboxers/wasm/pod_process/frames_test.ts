import assert from "node:assert/strict";
import { concat } from "../../bytes.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { encodeFrame, FRAME_BYTES_MAX, FrameDecoder } from "./frames.ts";

/** Bytes of a frame with any content. */
function rawFrame(length: number, content: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + content.length);
  new DataView(bytes.buffer).setUint32(0, length, true);
  bytes.set(content, 4);
  return bytes;
}

Deno.test("values come back whole, however the bytes arrive", () => {
  const values = [{ a: 1 }, "\u{1f980} and more", null, [], { long: "x".repeat(100_000) }, 0];
  const frames = values.map((value) => encodeFrame(value));
  const all = concat(frames);
  for (const size of [1, 2, 3, 5, 4096, all.length]) {
    const decoder = new FrameDecoder();
    const found: unknown[] = [];
    for (let start = 0; start < all.length; start += size) {
      found.push(...decoder.push(all.subarray(start, start + size)));
    }
    assert.deepEqual(found, values, `in pieces of ${size}`);
  }
});

Deno.test("a frame that is too large is refused on both sides", () => {
  const { code } = caught(() => encodeFrame("x".repeat(FRAME_BYTES_MAX)));
  assert.equal(code, "ResourceExhausted");
  const header = rawFrame(FRAME_BYTES_MAX + 1, new Uint8Array(0));
  assert.equal(caught(() => new FrameDecoder().push(header)).code, "InvalidArgument");
});

Deno.test("what is no frame is an error, and never a value", () => {
  const garbage = [
    rawFrame(0, new Uint8Array(0)),
    rawFrame(3, new TextEncoder().encode("{a}")),
    rawFrame(2, new Uint8Array([0xff, 0xfe])),
    new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"),
  ];
  for (const bytes of garbage) {
    assert.equal(caught(() => new FrameDecoder().push(bytes)).code, "InvalidArgument");
  }
});

function caught(action: () => unknown): SandboxError {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof SandboxError, String(error));
    return error;
  }
  throw new Error("nothing was thrown");
}
