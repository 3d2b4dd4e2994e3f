import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import net from "node:net";
import { once } from "node:events";
import { GoawayFilter, Http2Connection } from "./http2_connection.ts";

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

Deno.test("who says farewell hears when the client has read it, and gets all that it sent before", async () => {
  const dir = await Deno.makeTempDir({ prefix: "quasaur-h2-" });
  const received: Buffer[] = [];
  const accepted = Promise.withResolvers<Http2Connection>();
  const server = net.createServer((socket) => {
    const connection = new Http2Connection(socket);
    connection.on("data", (bytes: Buffer) => received.push(bytes));
    connection.on("error", () => undefined);
    accepted.resolve(connection);
  });
  await new Promise<void>((resolve) => server.listen(`${dir}/socket`, resolve));
  const client = net.connect(`${dir}/socket`);
  const connection = await accepted.promise;
  const answers: Buffer[] = [];
  client.on("data", (bytes: Buffer) => answers.push(bytes));
  let isOver = false;
  const farewell = connection.sendElsewhere().then(() => isOver = true);
  const ping = Buffer.concat([Buffer.from([0, 0, 8, 6, 0, 0, 0, 0, 0]), Buffer.from("farewell")]);
  while (Buffer.concat(answers).length < 34) await once(client, "data");
  assert.equal(Buffer.concat(answers)[3], 7);
  assert.deepEqual(Buffer.concat(answers).subarray(17), ping);
  // The answer to another PING is none to this one.
  const other = frame(6, 8);
  other[4] = 1;
  const before = Buffer.concat([PREFACE, frame(1, 30), frame(0, 500), other]);
  client.write(before);
  while (Buffer.concat(received).length < before.length) await once(connection, "data");
  assert.equal(isOver, false);
  const answer = Buffer.from(ping);
  answer[4] = 1;
  const after = frame(0, 10);
  for (const byte of Buffer.concat([answer, after])) client.write(Buffer.from([byte]));
  await farewell;
  while (Buffer.concat(received).length < before.length + after.length) {
    await once(connection, "data");
  }
  assert.deepEqual(Buffer.concat(received), Buffer.concat([before, after]));
  // One that goes without an answer is not waited for.
  client.destroy();
  await once(connection, "close");
  await connection.sendElsewhere();
  await new Promise((resolve) => server.close(resolve));
  await Deno.remove(dir, { recursive: true });
});
