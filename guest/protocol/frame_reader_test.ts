import assert from "node:assert/strict";
import {
  DATA_BYTES_MAX,
  emptyHead,
  FRAME,
  type FrameHead,
  highWord,
  makeFrame,
  offsetOf,
  openingFrame,
  readHead,
  readWindow,
  WIDE_DATA_BYTES_MAX,
  windowFrame,
} from "./frames.ts";
import { FrameReader } from "./frame_reader.ts";
import { FRAME_BYTES_MAX } from "./limits.ts";
import { Chance } from "./testing/link.ts";

const OPENING = openingFrame(FRAME.open, 0, {
  nonce: new Uint8Array(8).fill(1),
  session: new Uint8Array(8).fill(2),
  protocol: 1,
  expected: 0,
});

interface Seen {
  readonly type: number;
  readonly id: number;
  readonly a: number;
  readonly payload: Uint8Array;
}

/** A reader that notes what it finds. */
function listen(dataBytesMax?: number) {
  const frames: Seen[] = [];
  const state = { lost: 0 };
  const reader = new FrameReader({
    onFrame: ({ type, id, a }: FrameHead, payload) =>
      frames.push({ type, id, a, payload: payload.slice() }),
    begins: (head) => head.type === FRAME.open,
    onLost: () => state.lost++,
  }, dataBytesMax);
  return { reader, frames, state };
}

function concat(...pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** Gives bytes in pieces of random size. */
function feed(reader: FrameReader, bytes: Uint8Array, chance: Chance, max = 5000): void {
  for (let at = 0; at < bytes.length;) {
    const size = 1 + chance.below(max);
    reader.push(bytes.subarray(at, at + size));
    at += size;
  }
}

/** Some frames with what they hold. */
function someFrames(chance: Chance, count: number, bytesMax: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => {
    const payload = chance.bytes(chance.below(bytesMax + 1));
    return makeFrame(FRAME.data, 0, i + 1, payload, chance.below(2 ** 31), 0);
  });
}

Deno.test("frames: offsets beyond 32 bits survive", () => {
  for (const offset of [0, 1, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 5, Number.MAX_SAFE_INTEGER]) {
    assert.equal(offsetOf(offset >>> 0, highWord(offset)), offset);
    const window = { consumed: offset, received: offset, bytes: 77 };
    assert.deepEqual(readWindow(windowFrame(3, 0, window).subarray(24, 44)), window);
  }
  assert.equal(offsetOf(0, 2 ** 31), undefined);
  assert.equal(readWindow(windowFrame(3, 0, { consumed: 2, received: 1, bytes: 0 })), undefined);
});

Deno.test("frames: a change of any bit of a header is found", () => {
  const frame = makeFrame(FRAME.data, 2, 0x12345678, new Uint8Array(100), 0x9abcdef0, 7);
  for (let bit = 0; bit < 24 * 8; bit++) {
    const changed = frame.slice();
    const at = bit >> 3;
    changed[at] = (changed[at] ?? 0) ^ 1 << (bit & 7);
    assert.equal(readHead(new DataView(changed.buffer), 0, emptyHead()), false, `bit ${bit}`);
  }
});

Deno.test("frame reader: gives every frame whole, however the bytes are cut", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const chance = new Chance(seed);
    const frames = someFrames(chance, 12, seed % 4 === 0 ? DATA_BYTES_MAX : 300);
    const { reader, frames: seen, state } = listen();
    feed(reader, concat(OPENING, ...frames), chance, seed % 3 === 0 ? 3 : 50_000);
    assert.equal(state.lost, 0, `seed ${seed}`);
    assert.equal(seen.length, 13, `seed ${seed}`);
    for (const [i, frame] of frames.entries()) {
      assert.deepEqual(seen[i + 1]?.payload, frame.slice(24, -4), `seed ${seed}, frame ${i}`);
    }
  }
});

Deno.test("frame reader: takes nothing before a connection begins", () => {
  const chance = new Chance(3);
  const { reader, frames } = listen();
  feed(
    reader,
    concat(...someFrames(chance, 5, 100), OPENING, ...someFrames(chance, 2, 100)),
    chance,
  );
  assert.deepEqual(frames.map(({ type }) => type), [FRAME.open, FRAME.data, FRAME.data]);
});

Deno.test("frame reader: a frame cut at any byte is dropped and the next connection is found", () => {
  const chance = new Chance(4);
  const frame = makeFrame(FRAME.data, 0, 9, chance.bytes(200), 1, 2);
  const padding = new Uint8Array(FRAME_BYTES_MAX);
  for (let cut = 0; cut < frame.length; cut++) {
    const { reader, frames } = listen();
    const next = makeFrame(FRAME.data, 0, 10, chance.bytes(10));
    feed(reader, concat(OPENING, frame.subarray(0, cut), padding, OPENING, next), chance);
    assert.deepEqual(frames.map(({ id }) => id), [0, 0, 10], `cut at ${cut}`);
  }
});

Deno.test("frame reader: frames inside of a payload that was cut are never taken for frames", () => {
  const chance = new Chance(5);
  const forged = concat(OPENING, makeFrame(FRAME.request, 0, 666, chance.bytes(20)));
  const payload = concat(...Array.from({ length: 20 }, () => forged));
  const frame = makeFrame(FRAME.data, 0, 9, payload);
  const padding = new Uint8Array(FRAME_BYTES_MAX);
  for (let cut = 0; cut < frame.length; cut++) {
    const { reader, frames } = listen();
    feed(reader, concat(OPENING, frame.subarray(0, cut), padding, OPENING), chance, 3000);
    assert.deepEqual(frames.map(({ type }) => type), [FRAME.open, FRAME.open], `cut at ${cut}`);
  }
});

Deno.test("frame reader: survives any bytes", () => {
  for (let seed = 1; seed <= 60; seed++) {
    const chance = new Chance(seed);
    const { reader, frames } = listen();
    const bytes = concat(OPENING, ...someFrames(chance, 10, 400));
    for (let flips = chance.below(20); flips >= 0; flips--) {
      const at = chance.below(bytes.length);
      bytes[at] = (bytes[at] ?? 0) ^ 1 << chance.below(8);
    }
    feed(reader, bytes, chance);
    feed(reader, chance.bytes(5000), chance);
    const before = frames.length;
    feed(reader, concat(new Uint8Array(FRAME_BYTES_MAX), OPENING), chance);
    assert.equal(frames.length, before + 1, `seed ${seed}`);
    assert.equal(frames.at(-1)?.type, FRAME.open, `seed ${seed}`);
  }
});

Deno.test("frame reader: large frames come whole, however they are cut, where they may", () => {
  const chance = new Chance(11);
  const sizes = [WIDE_DATA_BYTES_MAX, 10, 900, 2_000, WIDE_DATA_BYTES_MAX - 1, 0, 70_000];
  const payloads = sizes.map((size) => chance.bytes(size));
  const bytes = concat(
    OPENING,
    ...payloads.map((payload, index) => makeFrame(FRAME.data, 0, index, payload)),
  );
  for (let round = 0; round < 5; round++) {
    const { reader, frames, state } = listen(WIDE_DATA_BYTES_MAX);
    feed(reader, bytes, chance, round === 0 ? 200_000 : 20_000);
    assert.equal(state.lost, 0);
    assert.deepEqual(frames.slice(1).map(({ payload }) => payload), payloads);
  }
  const { reader, state } = listen();
  feed(reader, bytes, chance, 20_000);
  assert.equal(state.lost, 1);
});
