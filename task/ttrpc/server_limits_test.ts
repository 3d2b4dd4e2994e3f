import assert from "node:assert/strict";
import { Events } from "../../proto/gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { refused } from "../../sandboxers/lifecycle/testing/refused.ts";
import { until } from "../testing/until.ts";
import { bigAnswer, empty, forward, REQUEST, startServer } from "../testing/forward_server.ts";
import { RawPeer } from "../testing/raw_peer.ts";
import { TtrpcClient } from "./client.ts";
import type { TtrpcServer } from "./server.ts";

Deno.test("a peer that stops in the middle of a frame is dropped", async () => {
  await using world = await startServer(empty, { stallMs: 20 });
  using peer = await RawPeer.connect(world.path);
  peer.send(new Uint8Array([0, 0, 0, 9, 0, 0]));
  await peer.closed;
  assert.match(world.warnings.join(), /middle of a frame/);
});

Deno.test("a busy peer whose frames always end in the middle of a chunk is not dropped", async () => {
  await using world = await startServer(empty, { stallMs: 500 });
  using peer = await RawPeer.connect(world.path);
  const begin = Date.now();
  peer.send(requestBytes(1).subarray(0, 20));
  for (let streamId = 1; Date.now() - begin < 700; streamId += 2) {
    peer.send(requestBytes(streamId).subarray(20));
    peer.send(requestBytes(streamId + 2).subarray(0, 20));
    assert.equal((await peer.answer()).streamId, streamId);
  }
});

Deno.test("a peer that sends a frame slowly but in time is served", async () => {
  await using world = await startServer(empty);
  using peer = await RawPeer.connect(world.path);
  using complete = await RawPeer.connect(world.path);
  for (const [index, byte] of requestBytes(1).entries()) {
    peer.send(new Uint8Array([byte]));
    complete.request(2 * index + 1, REQUEST);
    assert.equal((await complete.answer()).code, 0);
  }
  assert.equal((await peer.answer()).code, 0);
});

/** A request frame, byte by byte. */
function requestBytes(streamId: number): Uint8Array {
  const service = new TextEncoder().encode(Events.typeName);
  const method = new TextEncoder().encode("Forward");
  const data = [0x0a, service.length, ...service, 0x12, method.length, ...method];
  return new Uint8Array([0, 0, 0, data.length, 0, 0, streamId >> 8, streamId & 255, 1, 0, ...data]);
}

Deno.test("one call too many on a connection is ResourceExhausted until another ends", async () => {
  const gates: PromiseWithResolvers<void>[] = [];
  await using world = await startServer(async () => {
    const gate = Promise.withResolvers<void>();
    gates.push(gate);
    await gate.promise;
    return empty();
  }, { calls: 2 });
  using client = await TtrpcClient.connect(world.path);
  const first = client.call(forward, {});
  const second = client.call(forward, {});
  await refused(client.call(forward, {}), "ResourceExhausted");
  gates[0]?.resolve();
  await first;
  const third = client.call(forward, {});
  gates[1]?.resolve();
  await second;
  await until(() => gates.length >= 3);
  gates[2]?.resolve();
  await third;
});

Deno.test("a handler that outlives its deadline still counts as a call in progress", async () => {
  const gate = Promise.withResolvers<void>();
  await using world = await startServer(async () => {
    await gate.promise;
    return empty();
  }, { calls: 1 });
  using client = await TtrpcClient.connect(world.path);
  await refused(client.call(forward, {}, { timeoutMs: 5 }), "DeadlineExceeded");
  await refused(client.call(forward, {}), "ResourceExhausted");
  gate.resolve();
  await new Promise((resolve) => setTimeout(resolve, 1));
  await client.call(forward, {});
});

Deno.test("a peer that does not read is dropped when too much is queued", async () => {
  await using world = await startServer(() => bigAnswer(1 << 20), { queuedBytes: 3 << 20 });
  using peer = await RawPeer.connect(world.path);
  peer.socket.pause();
  for (let call = 0; call < 20; call++) peer.request(2 * call + 1, REQUEST);
  await untilNone(world.server);
  assert.match(world.warnings.join(), /wait for the peer to read/);
});

Deno.test("a peer that does not read is dropped after a while, however little is queued", async () => {
  await using world = await startServer(() => bigAnswer(1 << 20), { stallMs: 30 });
  using peer = await RawPeer.connect(world.path);
  peer.socket.pause();
  peer.request(1, REQUEST);
  await untilNone(world.server);
  assert.match(world.warnings.join(), /does not read/);
});

async function untilNone(server: TtrpcServer): Promise<void> {
  await until(() => server.connections === 0);
}

Deno.test("1000 connections with an open call each are served and answered at the end", async () => {
  const gate = Promise.withResolvers<void>();
  await using world = await startServer(async () => {
    await gate.promise;
    return empty();
  });
  using clients = new DisposableStack();
  const calls: Promise<unknown>[] = [];
  for (let batch = 0; batch < 10; batch++) {
    const connecting = Array.from({ length: 100 }, () => TtrpcClient.connect(world.path));
    for (const client of await Promise.all(connecting)) {
      clients.use(client);
      calls.push(client.call(forward, {}));
    }
  }
  await until(() => world.server.openCalls >= 1000);
  assert.equal(world.server.connections, 1000);
  gate.resolve();
  await Promise.all(calls);
  assert.equal(world.server.openCalls, 0);
});

Deno.test("one connection too many is closed and the others go on", async () => {
  await using world = await startServer(empty, { connections: 2 });
  using first = await TtrpcClient.connect(world.path);
  using second = await TtrpcClient.connect(world.path);
  await first.call(forward, {});
  await second.call(forward, {});
  using third = await RawPeer.connect(world.path);
  await third.closed;
  await first.call(forward, {});
  second.close();
  await until(() => world.server.connections <= 1);
  using fourth = await TtrpcClient.connect(world.path);
  await fourth.call(forward, {});
});

Deno.test("many requests in one chunk are all answered", async () => {
  await using world = await startServer(empty);
  using client = await TtrpcClient.connect(world.path);
  await Promise.all(Array.from({ length: 2_000 }, () => client.call(forward, {})));
});
