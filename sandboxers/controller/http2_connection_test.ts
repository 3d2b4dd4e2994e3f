import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { GoawayFilter } from "./http2_connection.ts";

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** An HTTP/2 frame with a payload of one repeated byte. */
function frame(type: number, payloadBytes: number): Buffer {
  const bytes = Buffer.alloc(9 + payloadBytes, type);
  bytes.writeUIntBE(payloadBytes, 0, 3);
  bytes[3] = type;
  bytes[4] = 0;
  bytes.writeUInt32BE(1, 5);
  return bytes;
}

const FRAMES = [
  frame(4, 0),
  frame(7, 8),
  frame(1, 30),
  frame(0, 20_000),
  frame(7, 500),
  frame(8, 4),
];
const SENT = Buffer.concat([PREFACE, ...FRAMES]);
const KEPT = Buffer.concat([PREFACE, ...FRAMES.filter((bytes) => bytes[3] !== 7)]);

Deno.test("GOAWAY frames are left out and everything else goes through", () => {
  assert.ok(new GoawayFilter().pass(SENT).equals(KEPT));
});

Deno.test("GOAWAY frames are left out whatever pieces they come in", () => {
  for (const pieceBytes of [1, 2, 7, 8, 9, 10, 23, 24, 25, 1000, 16_384]) {
    const filter = new GoawayFilter();
    const kept: Buffer[] = [];
    for (let at = 0; at < SENT.length; at += pieceBytes) {
      kept.push(filter.pass(SENT.subarray(at, at + pieceBytes)));
    }
    assert.ok(Buffer.concat(kept).equals(KEPT), `pieces of ${pieceBytes} bytes`);
  }
});

Deno.test("bytes that are no HTTP/2 go through, for the server to refuse", () => {
  const garbage = Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  const kept = new GoawayFilter().pass(garbage);
  assert.ok(garbage.subarray(0, kept.length).equals(kept));
  assert.ok(kept.length >= 24);
});
