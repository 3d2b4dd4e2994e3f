import assert from "node:assert/strict";
import * as net from "node:net";
import { join } from "node:path";
import { Events } from "../../proto/gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { refused } from "../../sandboxers/lifecycle/testing/refused.ts";
import { until } from "../testing/until.ts";
import {
  bigAnswer,
  empty,
  forward,
  hanging,
  REQUEST,
  startServer,
} from "../testing/forward_server.ts";
import { RawPeer } from "../testing/raw_peer.ts";
import { TtrpcClient } from "./client.ts";
import { RELAY_MESSAGE_TYPE } from "./frames.ts";
import { TtrpcServer } from "./server.ts";

Deno.test("closing answers open calls with Unavailable and aborts them", async () => {
  const { handler, aborted, called } = hanging();
  await using world = await startServer(handler);
  using client = await TtrpcClient.connect(world.path);
  const call = client.call(forward, {});
  await called;
  const closes = [world.server.close(), world.server.close(), world.server.close()];
  await refused(call, "Unavailable", /the server is stopping/);
  await Promise.all(closes);
  const reason = await aborted;
  assert.ok(reason instanceof SandboxError && reason.code === "Unavailable");
  await assert.rejects(Deno.lstat(world.path), Deno.errors.NotFound);
  await refused(TtrpcClient.connect(world.path), "Unavailable");
});

Deno.test("a call that closes the server is answered", async () => {
  let close = (): void => undefined;
  await using world = await startServer(() => {
    close();
    return empty();
  });
  close = () => void world.server.close();
  using client = await TtrpcClient.connect(world.path);
  await client.call(forward, {});
  await world.server.close();
});

Deno.test("closing with grace lets calls end and refuses new ones", async () => {
  const gate = Promise.withResolvers<void>();
  const called = Promise.withResolvers<void>();
  await using world = await startServer(async () => {
    called.resolve();
    await gate.promise;
    return empty();
  });
  using client = await TtrpcClient.connect(world.path);
  const call = client.call(forward, {});
  await called.promise;
  const closing = world.server.close(60_000);
  await refused(client.call(forward, {}), "Unavailable", /the server is restarting/);
  gate.resolve();
  await call;
  await closing;
});

Deno.test("a relay that has said hello gets a farewell behind the last answer, and nobody else", async () => {
  const { handler, called } = hanging();
  await using world = await startServer(handler);
  const { hello } = RELAY_MESSAGE_TYPE;
  using relay = await RawPeer.connect(world.path);
  using other = await RawPeer.connect(world.path);
  relay.frame(0, hello, 0, new Uint8Array());
  for (const peer of [relay, other]) peer.request(1, REQUEST);
  await called;
  await until(() => world.server.openCalls === 2);
  await world.server.close();
  await Promise.all([relay.closed, other.closed]);
  assert.equal((await relay.answer()).streamId, 1);
  assert.equal((await relay.answer()).streamId, 0);
  assert.equal((await other.answer()).streamId, 1);
  await assert.rejects(other.answer(), /closed without an answer/);
});

Deno.test("closing does not wait for a peer that does not read", async () => {
  await using world = await startServer(() => bigAnswer(2 << 20));
  using peer = await RawPeer.connect(world.path);
  peer.socket.pause();
  peer.request(1, REQUEST);
  await until(() => world.server.connections > 0);
  await world.server.close();
  assert.equal(world.server.connections, 0);
});

Deno.test("the socket is for its owner only and so is a directory that was made for it", async () => {
  const dir = await Deno.makeTempDir();
  await using server = new TtrpcServer();
  await server.listen(join(dir, "made", "s.sock"));
  const mode = async (path: string): Promise<number> =>
    ((await Deno.lstat(path)).mode ?? 0) & 0o777;
  assert.equal(await mode(join(dir, "made")), 0o700);
  assert.equal(await mode(join(dir, "made", "s.sock")), 0o600);
  await server.close();
  await Deno.remove(dir, { recursive: true });
});

Deno.test("the socket file of a dead server is replaced", async () => {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "s.sock");
  await leaveStaleSocket(path);
  await using server = new TtrpcServer().add(Events, { forward: empty });
  await server.listen(path);
  using client = await TtrpcClient.connect(path);
  await client.call(forward, {});
  await server.close();
  await Deno.remove(dir, { recursive: true });
});

/** Leaves a socket file that nobody answers, as a killed process does. */
async function leaveStaleSocket(path: string): Promise<void> {
  const listener = net.createServer();
  await new Promise<void>((resolve) => void listener.listen({ path: `${path}.alive` }, resolve));
  await Deno.rename(`${path}.alive`, path);
  await new Promise<void>((resolve) => void listener.close(() => resolve()));
}

Deno.test("a socket that somebody answers is left alone", async () => {
  await using world = await startServer(empty);
  await using other = new TtrpcServer();
  await refused(other.listen(world.path), "AlreadyExists", /another process serves it/);
  using client = await TtrpcClient.connect(world.path);
  await client.call(forward, {});
});

Deno.test("a file that is no socket is left alone", async () => {
  const path = await Deno.makeTempFile();
  await using server = new TtrpcServer();
  await refused(server.listen(path), "FailedPrecondition", /no socket/);
  await Deno.remove(path);
});

Deno.test("paths that no socket can have are refused", async () => {
  for (const path of ["relative.sock", "/x\0y", `/tmp/${"n".repeat(120)}`]) {
    await using server = new TtrpcServer();
    await refused(server.listen(path), "InvalidArgument", /absolute path of at most 107 bytes/);
  }
});

Deno.test("the next server can listen while the one before lets its calls end", async () => {
  const { handler, called } = hanging();
  await using world = await startServer(handler);
  using client = await TtrpcClient.connect(world.path);
  const call = client.call(forward, {});
  await called;
  const closing = world.server.close(60_000);
  await using next = new TtrpcServer().add(Events, { forward: empty });
  await next.listen(world.path);
  client.close();
  await refused(call, "Unavailable");
  await closing;
  using again = await TtrpcClient.connect(world.path);
  await again.call(forward, {});
});

Deno.test("a server listens once, and a service is added once", async () => {
  await using world = await startServer(empty);
  await refused(world.server.listen(`${world.path}2`), "FailedPrecondition");
  assert.throws(() => world.server.add(Events, { forward: empty }), { code: "AlreadyExists" });
});
