/**
 * The stand-in of a sandboxer: callers wait there while none serves, and are served by the next one
 * as if nothing had been.
 *
 * @module
 */

import assert from "node:assert/strict";
import net from "node:net";
import { create } from "@bufbuild/protobuf";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import {
  Controller,
  ControllerStatusResponseSchema,
} from "../../proto/gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { GrpcClient, serviceDefinition } from "../../proto/grpc.ts";
import { Http2Connection } from "../controller/http2_connection.ts";
import { hasStandIn, StandIn } from "./stand_in.ts";
import { launcher, runDirectory, until } from "./testing/fixture.ts";

const { status } = Controller.method;

/** A server that answers `status` with its name. */
async function serve(path: string, name: string) {
  const server = new Server();
  const refuse = (_: unknown, respond: (error: Error) => void) => respond(new Error("not here"));
  const methods = Controller.methods.map(({ localName }) => [localName, refuse] as const);
  server.addService(serviceDefinition(Controller), {
    ...Object.fromEntries(methods),
    status: (_: unknown, respond: (error: null, answer: unknown) => void) =>
      respond(null, create(ControllerStatusResponseSchema, { state: name })),
  });
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const connections = new Set<Http2Connection>();
  const listener = net.createServer((socket) => {
    const connection = new Http2Connection(socket);
    connections.add(connection);
    connection.on("error", () => undefined);
    connection.on("close", () => connections.delete(connection));
    injector.injectConnection(connection);
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  listener.listen({ path }, resolve);
  await promise;
  return {
    /**
     * Goes as a process does that leaves in good order: its callers are sent elsewhere first.
     *
     * @param call Makes a call right before that.
     * @param leaveMs How long it may take to leave.
     */
    async leave<T>(
      standIn: StandIn,
      call?: () => Promise<T>,
      leaveMs = 0,
    ): Promise<T | undefined> {
      listener.close();
      assert.ok(await standIn.takePlace(leaveMs));
      const answer = call?.();
      for (const connection of connections) connection.sendElsewhere();
      return await answer;
    },
    /** Goes as a process does that dies. */
    end(): void {
      listener.close();
      for (const connection of connections) connection.destroy();
    },
  };
}

/** The stand-in of whoever listens there. */
async function startStandIn(socket: string, holdMs = 20_000): Promise<StandIn> {
  const standIn = await StandIn.start({ launcher: launcher.path, socket, holdMs });
  await standIn.listening();
  return standIn;
}

async function nameAt(client: GrpcClient): Promise<string> {
  return (await client.call(status, { sandboxId: "a" }, { timeoutMs: 10_000 })).state;
}

Deno.test("callers wait while no sandboxer serves, and are served by the next one", async () => {
  await using directory = await runDirectory();
  const socket = `${directory.path}/own.sock`;
  const first = await serve(socket, "first");
  const standIn = await startStandIn(socket);
  assert.equal(await hasStandIn(socket), false);
  using client = new GrpcClient(socket);
  assert.equal(await nameAt(client), "first");

  // A call that is on its way when its caller is sent elsewhere is still answered.
  assert.equal(await first.leave(standIn, () => nameAt(client)), "first");
  assert.ok(await hasStandIn(socket));
  await new Promise((resolve) => setTimeout(resolve, 50));
  first.end();
  using other = new GrpcClient(socket);
  // One that had a connection before, one that has not: neither is refused.
  const asked = Promise.all([nameAt(client), nameAt(other), nameAt(client)]);
  const early = Promise.race([
    asked,
    new Promise<string>((resolve) => setTimeout(() => resolve("nobody"), 300)),
  ]);
  assert.equal(await early, "nobody");

  await Deno.remove(socket);
  const second = await serve(socket, "second");
  assert.deepEqual(await asked, ["second", "second", "second"]);
  await until("the stand-in to be gone", async () => !await exists(`${socket}.stand-in`));
  assert.equal(await hasStandIn(socket), false);
  assert.equal(await nameAt(client), "second");
  second.end();
});

Deno.test("callers do not wait for ever: they are refused when the time is over", async () => {
  await using directory = await runDirectory();
  const socket = `${directory.path}/own.sock`;
  const first = await serve(socket, "first");
  const standIn = await startStandIn(socket, 300);
  await first.leave(standIn);
  first.end();
  using client = new GrpcClient(socket);
  await assert.rejects(nameAt(client), { code: "Unavailable" });
  await until("the socket to be gone", async () => !await exists(socket));
});

Deno.test("callers wait for longer where a sandboxer takes its time to leave", async () => {
  await using directory = await runDirectory();
  const socket = `${directory.path}/own.sock`;
  const first = await serve(socket, "first");
  const standIn = await startStandIn(socket, 1);
  await first.leave(standIn, undefined, 20_000);
  first.end();
  using client = new GrpcClient(socket);
  const name = nameAt(client);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const second = await serve(`${socket}.new`, "second");
  await Deno.rename(`${socket}.new`, socket);
  assert.equal(await name, "second");
  second.end();
});

Deno.test("a stand-in takes the place of a process that was killed, and of nobody else", async () => {
  await using directory = await runDirectory();
  const socket = `${directory.path}/own.sock`;
  // What a process leaves that is killed: a socket at which nobody listens.
  const dead = await serve(`${directory.path}/moved.sock`, "dead");
  await Deno.rename(`${directory.path}/moved.sock`, socket);
  dead.end();
  const one = await startStandIn(socket);
  assert.ok(await one.takePlace(0));

  await Deno.remove(socket);
  const next = await serve(socket, "next");
  const two = await startStandIn(socket);
  // Somebody has come before it was asked.
  await Deno.remove(socket);
  const third = await serve(socket, "third");
  assert.equal(await two.takePlace(0), false);
  using client = new GrpcClient(socket);
  assert.equal(await nameAt(client), "third");
  next.end();
  third.end();
});

Deno.test("a sandboxer that ends before it listens leaves the place to who stands in", async () => {
  await using directory = await runDirectory();
  const socket = `${directory.path}/own.sock`;
  const first = await serve(socket, "first");
  const standIn = await startStandIn(socket);
  await first.leave(standIn);
  first.end();
  const early = await StandIn.start({ launcher: launcher.path, socket, holdMs: 20_000 });
  assert.ok(await hasStandIn(socket));
  await early.dismiss();
  // The next one must see that nobody serves here.
  assert.ok(await hasStandIn(socket));
  await Deno.remove(socket);
  const second = await serve(socket, "second");
  await until("the stand-in to be gone", async () => !await exists(`${socket}.stand-in`));
  second.end();
});

Deno.test("a stand-in that is not needed goes, and leaves nothing", async () => {
  await using directory = await runDirectory();
  const socket = `${directory.path}/own.sock`;
  const first = await serve(socket, "first");
  const standIn = await startStandIn(socket);
  assert.match(await Deno.readTextFile(`/proc/${standIn.pid}/status`), /^CapEff:\s+0+$/m);
  await standIn.dismiss();
  first.end();
  const left = await Array.fromAsync(Deno.readDir(directory.path), ({ name }) => name);
  assert.deepEqual(left.filter((name) => name.startsWith("own")), []);
});

Deno.test("garbage ends its connection, and others go on waiting", async () => {
  await using directory = await runDirectory();
  const socket = `${directory.path}/own.sock`;
  const first = await serve(socket, "first");
  const standIn = await startStandIn(socket);
  await first.leave(standIn);
  first.end();
  using client = new GrpcClient(socket);
  const asked = nameAt(client);
  for (const byte of [0xff, 0x00, 0x06]) {
    using peer = await Deno.connect({ transport: "unix", path: socket });
    await peer.write(new Uint8Array(100_000).fill(byte)).catch(() => undefined);
  }
  await Deno.remove(socket);
  const second = await serve(socket, "second");
  assert.equal(await asked, "second");
  second.end();
});

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}
