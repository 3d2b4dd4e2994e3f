import { create, toBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { ResponseSchema } from "../../proto/gen/ttrpc/request_pb.ts";
import {
  encodeAnswer,
  encodeFrame,
  type Frame,
  FrameError,
  FrameReader,
  HEADER_BYTES,
  MAX_DATA_BYTES,
  MESSAGE_TYPE,
} from "./frames.ts";
import { randomFrom } from "../testing/random.ts";

/** A reader that keeps copies of what it read. */
function collect(): { reader: FrameReader; frames: Frame[]; oversized: number[] } {
  const frames: Frame[] = [];
  const oversized: number[] = [];
  const reader = new FrameReader({
    frame: (frame) => frames.push({ ...frame, data: frame.data.slice() }),
    oversized: (header, dataBytes) => oversized.push(header.streamId, dataBytes),
  });
  return { reader, frames, oversized };
}

function header(dataBytes: number, streamId: number, type = 1, flags = 0): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, dataBytes);
  view.setUint32(4, streamId);
  bytes[8] = type;
  bytes[9] = flags;
  return bytes;
}

const SAMPLE: readonly Frame[] = [
  { streamId: 1, type: 1, flags: 0, data: new Uint8Array([1, 2, 3]) },
  { streamId: 0xffff_ffff, type: 2, flags: 0, data: new Uint8Array(0) },
  { streamId: 3, type: 3, flags: 5, data: new Uint8Array(70_000).fill(7) },
  { streamId: 5, type: 200, flags: 255, data: new Uint8Array(1) },
];

function encodeAll(frames: readonly Frame[]): Uint8Array {
  return new Uint8Array(Buffer.concat(frames.map((frame) => encodeFrame(frame, frame.data))));
}

Deno.test("a frame has the header of the protocol", () => {
  const frame = encodeFrame({ streamId: 0x01020304, type: 1, flags: 2 }, new Uint8Array(0x010203));
  assert.deepEqual([...frame.subarray(0, HEADER_BYTES)], [0, 1, 2, 3, 1, 2, 3, 4, 1, 2]);
  assert.equal(frame.length, HEADER_BYTES + 0x010203);
});

Deno.test("frames come out as they went in, whatever the pieces", () => {
  const bytes = encodeAll(SAMPLE);
  const random = randomFrom(1);
  for (let round = 0; round < 200; round++) {
    const { reader, frames } = collect();
    for (let at = 0; at < bytes.length;) {
      const most = round % 3 === 0 ? 12 : round % 3 === 1 ? 3_000 : 100_000;
      const end = Math.min(bytes.length, at + 1 + random(most));
      reader.push(bytes.slice(at, end));
      at = end;
    }
    assert.deepEqual(frames, SAMPLE);
    assert.equal(reader.midFrame, false);
  }
});

Deno.test("a frame split at every byte is read", () => {
  const bytes = encodeAll(SAMPLE.slice(0, 2));
  for (let at = 1; at < bytes.length; at++) {
    const { reader, frames } = collect();
    reader.push(bytes.subarray(0, at));
    reader.push(bytes.subarray(at));
    assert.deepEqual(frames, SAMPLE.slice(0, 2));
  }
});

Deno.test("a truncated frame is never handed on and shows as unfinished", () => {
  const bytes = encodeAll(SAMPLE.slice(0, 1));
  for (let length = 1; length < bytes.length; length++) {
    const { reader, frames } = collect();
    reader.push(bytes.subarray(0, length));
    assert.deepEqual(frames, []);
    assert.equal(reader.midFrame, true);
  }
});

Deno.test("the largest frame passes and one byte more is skipped", () => {
  const { reader, frames, oversized } = collect();
  reader.push(encodeFrame({ streamId: 1, type: 1, flags: 0 }, new Uint8Array(MAX_DATA_BYTES)));
  reader.push(header(MAX_DATA_BYTES + 1, 3));
  assert.deepEqual(oversized, [3, MAX_DATA_BYTES + 1]);
  assert.equal(reader.midFrame, true);
  reader.push(new Uint8Array(MAX_DATA_BYTES).fill(9));
  reader.push(new Uint8Array(1));
  reader.push(header(0, 5));
  assert.deepEqual(frames.map((frame) => frame.streamId), [1, 5]);
});

Deno.test("a frame larger than the protocol allows is not encoded", () => {
  const data = new Uint8Array(MAX_DATA_BYTES + 1);
  assert.throws(() => encodeFrame({ streamId: 1, type: 1, flags: 0 }, data), RangeError);
  assert.equal(encodeAnswer(1, new Uint8Array(MAX_DATA_BYTES)), undefined);
});

Deno.test("a first byte other than 0 is not ttrpc", () => {
  const { reader, frames } = collect();
  const garbage = new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n");
  assert.throws(() => reader.push(garbage), FrameError);
  assert.deepEqual(frames, []);
});

Deno.test("a stopped reader hands nothing on, also not from the chunk it is in", () => {
  const seen: number[] = [];
  const reader = new FrameReader({
    frame: (frame) => {
      seen.push(frame.streamId);
      reader.stop();
    },
    oversized: () => undefined,
  });
  reader.push(encodeAll(SAMPLE));
  reader.push(encodeAll(SAMPLE));
  assert.deepEqual(seen, [1]);
});

Deno.test("an answer is encoded as the generated code would", () => {
  for (const length of [0, 1, 127, 128, 20_000]) {
    const payload = new Uint8Array(length).fill(3);
    const answer = toBinary(ResponseSchema, create(ResponseSchema, { payload }));
    const expected = encodeFrame({ streamId: 9, type: MESSAGE_TYPE.response, flags: 0 }, answer);
    assert.deepEqual(encodeAnswer(9, payload), expected);
  }
});

Deno.test("100 000 damaged inputs end in frames or in a FrameError, and in nothing else", () => {
  const random = randomFrom(42);
  const clean = encodeAll([
    { streamId: 1, type: 1, flags: 0, data: new Uint8Array(20).fill(1) },
    { streamId: 3, type: 2, flags: 0, data: new Uint8Array(0) },
    { streamId: 5, type: 3, flags: 4, data: new Uint8Array(33).fill(2) },
  ]);
  let refused = 0;
  for (let round = 0; round < 100_000; round++) {
    const bytes = clean.slice(0, 1 + random(clean.length));
    for (let changes = random(4); changes >= 0; changes--) {
      bytes[random(bytes.length)] = random(256);
    }
    let handedOn = 0;
    const reader = new FrameReader({
      frame: (frame) => handedOn += HEADER_BYTES + frame.data.length,
      oversized: () => undefined,
    });
    const cut = random(bytes.length + 1);
    try {
      reader.push(bytes.subarray(0, cut));
      reader.push(bytes.subarray(cut));
    } catch (error) {
      assert.ok(error instanceof FrameError, String(error));
      refused += 1;
    }
    assert.ok(handedOn <= bytes.length, "more came out than went in");
  }
  assert.ok(refused > 1_000 && refused < 100_000, `refused ${refused}`);
});
