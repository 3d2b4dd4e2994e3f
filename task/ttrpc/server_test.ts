import assert from "node:assert/strict";
import { Events } from "../../proto/gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { SandboxError, STATUS_NUMBER } from "../../sandboxers/lifecycle/errors.ts";
import { refused } from "../../sandboxers/lifecycle/testing/refused.ts";
import {
  bigAnswer,
  code,
  empty,
  forward,
  hanging,
  REQUEST,
  startServer,
} from "../testing/forward_server.ts";
import { RawPeer } from "../testing/raw_peer.ts";
import { TtrpcClient } from "./client.ts";
import { FLAG, MAX_DATA_BYTES, MESSAGE_TYPE } from "./frames.ts";

Deno.test("a call is answered, at once or later, with its metadata seen", async () => {
  const seen: (string | undefined)[] = [];
  await using world = await startServer(async ({ envelope }, call) => {
    seen.push(envelope?.topic, call.metadata("k"), call.metadata("none"), call.method);
    if (envelope?.topic === "later") await Promise.resolve();
    return empty();
  });
  using client = await TtrpcClient.connect(world.path, { metadata: { k: "v" } });
  await client.call(forward, { envelope: { topic: "now" } });
  await client.call(forward, { envelope: { topic: "later" } });
  const method = "containerd.services.events.ttrpc.v1.Events/Forward";
  assert.deepEqual(seen, ["now", "v", undefined, method, "later", "v", undefined, method]);
});

Deno.test("an unknown service and an unknown method are Unimplemented", async () => {
  await using world = await startServer(empty);
  using peer = await RawPeer.connect(world.path);
  peer.request(1, { service: "no.such.Service", method: "Forward" });
  peer.request(3, { service: Events.typeName, method: "NoSuch" });
  const first = await peer.answer();
  const second = await peer.answer();
  assert.deepEqual([first.streamId, first.code], [1, code("Unimplemented")]);
  assert.match(first.message, /no\.such\.Service/);
  assert.deepEqual([second.streamId, second.code], [3, code("Unimplemented")]);
  assert.match(second.message, /NoSuch/);
});

Deno.test("a payload or a request that cannot be decoded is InvalidArgument", async () => {
  let calls = 0;
  await using world = await startServer(() => {
    calls += 1;
    return empty();
  });
  using peer = await RawPeer.connect(world.path);
  peer.request(1, { ...REQUEST, payload: new Uint8Array([0x0a, 0xff]) });
  peer.frame(3, MESSAGE_TYPE.request, 0, new Uint8Array([0xff, 0xff, 0xff]));
  assert.equal((await peer.answer()).code, code("InvalidArgument"));
  assert.equal((await peer.answer()).code, code("InvalidArgument"));
  assert.equal(calls, 0);
  peer.request(5, REQUEST);
  assert.equal((await peer.answer()).code, 0, "the connection still works");
});

Deno.test("a deadline is answered and aborts the handler, whose late answer is not sent", async () => {
  const { handler, aborted } = hanging();
  await using world = await startServer(handler);
  using peer = await RawPeer.connect(world.path);
  peer.request(1, { ...REQUEST, timeoutNano: 1_000_000n });
  const answer = await peer.answer();
  assert.equal(answer.code, code("DeadlineExceeded"));
  const reason = await aborted;
  assert.ok(reason instanceof SandboxError && reason.code === "DeadlineExceeded");
  peer.request(3, { service: "x", method: "y" });
  assert.equal((await peer.answer()).streamId, 3, "nothing more came for stream 1");
  assert.equal(world.server.openCalls, 0);
});

Deno.test("a deadline that has passed is answered without calling the handler", async () => {
  await using world = await startServer(() => assert.fail("it was called"));
  using peer = await RawPeer.connect(world.path);
  peer.request(1, { ...REQUEST, timeoutNano: -5n });
  assert.equal((await peer.answer()).code, code("DeadlineExceeded"));
});

Deno.test("a deadline beyond what a timer can hold does not fire at once", async () => {
  const { handler, called } = hanging();
  await using world = await startServer(handler);
  using peer = await RawPeer.connect(world.path);
  peer.request(1, { ...REQUEST, timeoutNano: 0x7fff_ffff_ffff_ffffn });
  await called;
  peer.request(3, { service: "x", method: "y" });
  assert.equal((await peer.answer()).streamId, 3);
  assert.equal(world.server.openCalls, 1);
});

Deno.test("a closed connection aborts its calls", async () => {
  const { handler, aborted, called } = hanging();
  await using world = await startServer(handler);
  const peer = await RawPeer.connect(world.path);
  peer.request(1, REQUEST);
  await called;
  peer.socket.destroy();
  const reason = await aborted;
  assert.ok(reason instanceof SandboxError && reason.code === "Cancelled");
  assert.equal(world.server.connections, 0);
});

Deno.test("a connection that ends only its own side is closed as well", async () => {
  const { handler, aborted, called } = hanging();
  await using world = await startServer(handler);
  using peer = await RawPeer.connect(world.path);
  peer.request(1, REQUEST);
  await called;
  peer.socket.end();
  await aborted;
  await peer.closed;
});

Deno.test("bytes that are not ttrpc close the connection and abort its calls", async () => {
  const { handler, aborted, called } = hanging();
  await using world = await startServer(handler);
  using peer = await RawPeer.connect(world.path);
  peer.request(1, REQUEST);
  await called;
  peer.send(new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\n"));
  await peer.closed;
  await aborted;
  assert.match(world.warnings.join(), /first byte/);
});

Deno.test("even and used stream ids are InvalidArgument", async () => {
  await using world = await startServer(empty);
  using peer = await RawPeer.connect(world.path);
  for (const [streamId, expected] of [[7, 0], [2, 3], [7, 3], [5, 3], [9, 0]] as const) {
    peer.request(streamId, REQUEST);
    const answer = await peer.answer();
    assert.deepEqual([answer.streamId, answer.code], [streamId, expected]);
  }
});

Deno.test("a streaming request is Unimplemented and its data is ignored", async () => {
  await using world = await startServer(() => assert.fail("it was called"));
  using peer = await RawPeer.connect(world.path);
  peer.request(1, REQUEST, FLAG.remoteOpen);
  peer.frame(1, MESSAGE_TYPE.data, 0, new Uint8Array(10));
  peer.frame(1, MESSAGE_TYPE.data, FLAG.remoteClosed | FLAG.noData, new Uint8Array(0));
  const answer = await peer.answer();
  assert.equal(answer.code, code("Unimplemented"));
  peer.request(3, { service: "x", method: "y" });
  assert.equal((await peer.answer()).streamId, 3, "no more came for stream 1");
});

Deno.test("data for a unary call ends that call, data for no call is refused", async () => {
  const { handler, aborted, called } = hanging();
  await using world = await startServer(handler);
  using peer = await RawPeer.connect(world.path);
  peer.request(1, REQUEST);
  await called;
  peer.frame(1, MESSAGE_TYPE.data, 0, new Uint8Array(1));
  assert.deepEqual((await peer.answer()).code, code("InvalidArgument"));
  await aborted;
  peer.frame(99, MESSAGE_TYPE.data, 0, new Uint8Array(1));
  const answer = await peer.answer();
  assert.deepEqual([answer.streamId, answer.code], [99, code("InvalidArgument")]);
});

Deno.test("message types of later versions are ignored", async () => {
  await using world = await startServer(empty);
  using peer = await RawPeer.connect(world.path);
  peer.frame(1, 77, 3, new Uint8Array(100));
  peer.frame(1, MESSAGE_TYPE.response, 0, new Uint8Array(0));
  peer.request(1, REQUEST);
  assert.equal((await peer.answer()).code, 0);
});

Deno.test("a request that is too large is refused and the connection goes on", async () => {
  await using world = await startServer(empty);
  using peer = await RawPeer.connect(world.path);
  const head = new Uint8Array([0, 0x50, 0, 0, 0, 0, 0, 1, 1, 0]);
  peer.send(head);
  const answer = await peer.answer();
  assert.deepEqual([answer.streamId, answer.code], [1, code("ResourceExhausted")]);
  peer.send(new Uint8Array(0x50_0000));
  peer.request(3, REQUEST);
  assert.equal((await peer.answer()).code, 0);
});

Deno.test("an answer that is too large becomes an error", async () => {
  await using world = await startServer(() => bigAnswer(MAX_DATA_BYTES));
  using client = await TtrpcClient.connect(world.path);
  await refused(client.call(forward, {}), "ResourceExhausted", /does not fit/);
});

Deno.test("an error's message is cut to a size that can be sent", async () => {
  await using world = await startServer(() => {
    throw new SandboxError("NotFound", "x".repeat(MAX_DATA_BYTES + 1));
  });
  using client = await TtrpcClient.connect(world.path);
  await refused(client.call(forward, {}), "NotFound", /^x{1000,}\.\.\.$/);
});

Deno.test("a SandboxError keeps its code on the wire, in both directions", async () => {
  const codes = Object.keys(STATUS_NUMBER) as (keyof typeof STATUS_NUMBER)[];
  await using world = await startServer(({ envelope }) => {
    const name = codes.find((it) => it === envelope?.topic);
    throw new SandboxError(name ?? "Unknown", `it was ${name}`);
  });
  using client = await TtrpcClient.connect(world.path);
  for (const name of codes) {
    const call = client.call(forward, { envelope: { topic: name } });
    await refused(call, name, new RegExp(`it was ${name}`));
  }
  assert.deepEqual(world.warnings, []);
});

Deno.test("a foreign error is Internal and logged, also a missing file, thrown or rejected", async () => {
  const error = new Deno.errors.NotFound("some file");
  await using world = await startServer(({ envelope }) => {
    if (envelope?.topic === "throw") throw error;
    return Promise.reject(error);
  });
  using client = await TtrpcClient.connect(world.path);
  await refused(
    client.call(forward, { envelope: { topic: "throw" } }),
    "Internal",
    /some file/,
  );
  await refused(client.call(forward, {}), "Internal", /some file/);
  assert.equal(world.warnings.length, 2);
});
