import { create, toBinary } from "@bufbuild/protobuf";
import { type Empty, EmptySchema } from "@bufbuild/protobuf/wkt";
import assert from "node:assert/strict";
import * as net from "node:net";
import { join } from "node:path";
import { Events } from "../../proto/gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { ResponseSchema } from "../../proto/gen/ttrpc/request_pb.ts";
import { refused } from "../../sandboxers/lifecycle/testing/refused.ts";
import { TtrpcClient } from "./client.ts";
import { encodeFrame, MESSAGE_TYPE } from "./frames.ts";
import { TtrpcServer } from "./server.ts";

const forward = Events.method.forward;

interface FakeServer extends AsyncDisposable {
  readonly path: string;
  /** The sockets it has accepted. */
  readonly sockets: net.Socket[];
}

/** A server that does with its bytes what the test wants. */
async function fakeServer(onData: (socket: net.Socket) => void): Promise<FakeServer> {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "s.sock");
  const sockets: net.Socket[] = [];
  const server = net.createServer((socket) => {
    sockets.push(socket);
    socket.on("data", () => onData(socket));
    socket.on("error", () => undefined);
  });
  await new Promise<void>((resolve) => void server.listen({ path }, resolve));
  return {
    path,
    sockets,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
      await Deno.remove(dir, { recursive: true });
    },
  };
}

function goodAnswer(streamId: number): Uint8Array {
  const data = toBinary(ResponseSchema, create(ResponseSchema));
  return encodeFrame({ streamId, type: MESSAGE_TYPE.response, flags: 0 }, data);
}

Deno.test("connecting where nobody listens is Unavailable", async () => {
  await refused(TtrpcClient.connect("/nonexistent/s.sock"), "Unavailable", /ENOENT/);
});

Deno.test("connecting with an aborted signal is Cancelled", async () => {
  const options = { signal: AbortSignal.abort() };
  await refused(TtrpcClient.connect("/nonexistent/s.sock", options), "Cancelled");
});

Deno.test("a server that dies fails the open calls and those that come later", async () => {
  await using server = await fakeServer((socket) => socket.destroy());
  using client = await TtrpcClient.connect(server.path);
  await refused(client.call(forward, {}), "Unavailable");
  assert.equal(client.connected, false);
  await refused(client.call(forward, {}), "Unavailable");
});

Deno.test("closing the client fails its open calls", async () => {
  await using server = await fakeServer(() => undefined);
  const client = await TtrpcClient.connect(server.path);
  const call = client.call(forward, {});
  client.close();
  client.close();
  await refused(call, "Unavailable", /the client was closed/);
});

Deno.test("a call ends at its deadline, and an answer that comes later is ignored", async () => {
  await using server = await fakeServer(() => undefined);
  using client = await TtrpcClient.connect(server.path);
  await refused(client.call(forward, {}, { timeoutMs: 5 }), "DeadlineExceeded");
  const next = client.call(forward, {});
  server.sockets[0]?.write(goodAnswer(1));
  server.sockets[0]?.write(goodAnswer(3));
  await next;
});

Deno.test("a call ends when its signal fires", async () => {
  await using server = await fakeServer(() => undefined);
  using client = await TtrpcClient.connect(server.path);
  const controller = new AbortController();
  const call = client.call(forward, {}, { signal: controller.signal });
  controller.abort();
  await refused(call, "Cancelled");
  await refused(client.call(forward, {}, { signal: controller.signal }), "Cancelled");
  assert.equal(client.connected, true);
});

Deno.test("answers are matched to their calls in any order", async () => {
  await using server = await fakeServer(() => undefined);
  using client = await TtrpcClient.connect(server.path);
  const order: number[] = [];
  const calls = [1, 2, 3].map((n) => client.call(forward, {}).then(() => order.push(n)));
  const bytes = [5, 1, 99, 3].map(goodAnswer);
  for (const frame of bytes) server.sockets[0]?.write(frame);
  await Promise.all(calls);
  assert.deepEqual(order, [3, 1, 2]);
});

Deno.test("an answer that is no ttrpc fails the connection, one that cannot be decoded its call", async () => {
  await using server = await fakeServer((socket) => {
    const header = { streamId: 1, type: MESSAGE_TYPE.response, flags: 0 };
    socket.write(encodeFrame(header, new Uint8Array([0xff, 0xff])));
  });
  using client = await TtrpcClient.connect(server.path);
  await refused(client.call(forward, {}), "Internal", /cannot decode ttrpc answer/);
  const call = client.call(forward, {});
  server.sockets[0]?.write("HTTP/1.1 400 Bad Request\r\n\r\n");
  await refused(call, "Unavailable", /first byte/);
});

Deno.test("an answer that is too large fails its call only", async () => {
  await using server = await fakeServer((socket) => {
    socket.write(new Uint8Array([0, 0x50, 0, 0, 0, 0, 0, 1, 2, 0]));
    socket.write(new Uint8Array(0x50_0000));
    socket.write(goodAnswer(3));
  });
  using client = await TtrpcClient.connect(server.path);
  const [first, second] = [client.call(forward, {}), client.call(forward, {})];
  await refused(first, "ResourceExhausted");
  await second;
});

Deno.test("a request that is too large is refused before anything is sent", async () => {
  const dir = await Deno.makeTempDir();
  await using server = new TtrpcServer().add(Events, {
    forward: (): Empty => create(EmptySchema),
  });
  await server.listen(join(dir, "s.sock"));
  using client = await TtrpcClient.connect(join(dir, "s.sock"));
  const event = { value: new Uint8Array(5 << 20) };
  await refused(client.call(forward, { envelope: { event } }), "ResourceExhausted");
  await client.call(forward, {});
  await server.close();
  await Deno.remove(dir, { recursive: true });
});

Deno.test("more calls than may wait are refused", async () => {
  await using server = await fakeServer(() => undefined);
  const client = await TtrpcClient.connect(server.path);
  const calls = Array.from({ length: 4_096 }, () => client.call(forward, {}));
  await refused(client.call(forward, {}), "ResourceExhausted");
  client.close();
  const outcomes = await Promise.allSettled(calls);
  assert.ok(outcomes.every((outcome) => outcome.status === "rejected"));
});
