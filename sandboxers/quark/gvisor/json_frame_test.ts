import assert from "node:assert/strict";
import { type FrameState, JsonFrame } from "./json_frame.ts";

function push(text: string): FrameState {
  return new JsonFrame().push(new TextEncoder().encode(text));
}

Deno.test("JSON frame: finds the end of an object, and nothing before it", () => {
  for (const text of ["{}", '{"a":[1,{"b":null}]}', '{"a":"}\\"]{"}', '{"\\\\":"\\\\"}']) {
    assert.equal(push(text), "complete", text);
    for (let length = 0; length < text.length; length++) {
      assert.equal(push(text.slice(0, length)), "partial", text.slice(0, length));
    }
    assert.equal(push(`${text}{`), "garbage");
  }
});

Deno.test("JSON frame: what does not begin as an object is garbage", () => {
  for (const text of ["HTTP/1.1 400", "null", "[", " {}", "\0{}", '"', "\u00e9"]) {
    assert.equal(push(text), "garbage", text);
  }
});

Deno.test("JSON frame: agrees with JSON.parse on whatever comes in pieces", () => {
  const random = generator(20240729);
  for (let round = 0; round < 500; round++) {
    const value = { v: randomValue(random, 4) };
    const bytes = new TextEncoder().encode(JSON.stringify(value));
    const frame = new JsonFrame();
    for (let at = 0; at < bytes.length;) {
      assert.equal(frame.state, "partial");
      const length = 1 + Math.floor(random() * 8);
      frame.push(bytes.subarray(at, at + length));
      at += length;
    }
    assert.equal(frame.state, "complete", JSON.stringify(value));
    // One byte that is wrong: the frame may end elsewhere or never, and what it holds is judged later.
    bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    assert.ok(["partial", "complete", "garbage"].includes(new JsonFrame().push(bytes)));
  }
});

/** Numbers from 0 to 1, the same ones for the same seed (mulberry32). */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function randomValue(random: () => number, depth: number): unknown {
  const kind = Math.floor(random() * (depth === 0 ? 4 : 6));
  const count = Math.floor(random() * 4);
  switch (kind) {
    case 0:
      return null;
    case 1:
      return random() * 1e12;
    case 2:
      return random() < 0.5;
    case 3:
      return Array.from(
        { length: count * 3 },
        () => '{}[]"\\\n\u00fc\u{1f980}x'.charAt(random() * 11),
      )
        .join("");
    case 4:
      return Array.from({ length: count }, () => randomValue(random, depth - 1));
    default:
      return Object.fromEntries(
        Array.from({ length: count }, (_, i) => [`"${i}}`, randomValue(random, depth - 1)]),
      );
  }
}
