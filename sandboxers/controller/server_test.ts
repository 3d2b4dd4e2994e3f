import { Client, credentials } from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import * as http2 from "node:http2";
import * as net from "node:net";
import assert from "node:assert/strict";
import { Controller } from "../../proto/gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { GrpcClient } from "../../proto/grpc.ts";
import { noLog } from "../log.ts";
import { createRequest, type Fixture, NAMESPACE, startFixture } from "./fixture.ts";
import { ControllerServer } from "./server.ts";

const { method } = Controller;

async function startSandbox({ client }: Fixture, sandboxId: string): Promise<void> {
  await client.call(method.create, createRequest(sandboxId), { metadata: NAMESPACE });
  await client.call(method.start, { sandboxId }, { metadata: NAMESPACE });
}

/** Whether the server still answers, on a connection of its own. */
async function serves({ path }: Fixture): Promise<void> {
  using client = new GrpcClient(path);
  const status = client.call(method.status, { sandboxId: "none" }, { metadata: NAMESPACE });
  await assert.rejects(status, { code: "NotFound" });
}

/** Waits for something that takes a moment on the other side of a socket. */
async function until(what: string, isSo: () => boolean): Promise<void> {
  const last = Date.now() + 10_000;
  while (!isSo()) {
    assert.ok(Date.now() < last, `not within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

Deno.test("a thousand Waits that are cancelled leave nothing behind", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  for (let round = 0; round < 4; round++) {
    const caller = new AbortController();
    const options = { metadata: NAMESPACE, signal: caller.signal };
    const waits = Array.from(
      { length: 250 },
      () => fixture.client.call(method.wait, { sandboxId: "a1" }, options),
    );
    await until("all Waits are open", () => fixture.server.openCalls === 250);
    caller.abort();
    for (const wait of waits) await assert.rejects(wait, { code: "Cancelled" });
    await until("no Wait is open", () => fixture.server.openCalls === 0);
  }
  assert.equal(fixture.sandboxer.sandbox("a1").state, "ready");
});

Deno.test("a Wait that misses its deadline leaves nothing behind", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  const options = { metadata: NAMESPACE, timeoutMs: 50 };
  const wait = fixture.client.call(method.wait, { sandboxId: "a1" }, options);
  await assert.rejects(wait, { code: "DeadlineExceeded" });
  await until("no Wait is open", () => fixture.server.openCalls === 0);
});

Deno.test("a connection that breaks ends its Waits", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  const session = http2.connect("http://localhost", {
    createConnection: () => net.connect({ path: fixture.path }),
  });
  const stream = session.request({
    ":method": "POST",
    ":path": "/containerd.services.sandbox.v1.Controller/Wait",
    "content-type": "application/grpc",
    "te": "trailers",
    ...NAMESPACE,
  });
  stream.on("error", () => undefined);
  // An uncompressed message of 4 bytes: field 1 (sandbox_id), "a1".
  stream.end(new Uint8Array([0, 0, 0, 0, 4, 0x0a, 2, 0x61, 0x31]));
  await until("the Wait is open", () => fixture.server.openCalls === 1);
  session.destroy();
  await until("no Wait is open", () => fixture.server.openCalls === 0);
});

Deno.test("close answers open Waits with Unavailable once the lifecycle closes", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  const waits = Array.from(
    { length: 300 },
    () => fixture.client.call(method.wait, { sandboxId: "a1" }, { metadata: NAMESPACE }),
  );
  const failed = waits.map((wait) => assert.rejects(wait, { code: "Unavailable" }));
  await until("all Waits are open", () => fixture.server.openCalls === 300);
  await fixture.sandboxer.close();
  await fixture.server.close(2000);
  await Promise.all(failed);
  assert.equal(fixture.driver.running.size, 1, "the sandbox is left to the next process");
});

Deno.test("close undoes a Start that does not end, and answers Unavailable", async () => {
  await using fixture = await startFixture();
  fixture.driver.slow = "gives up";
  const { client } = fixture;
  await client.call(method.create, createRequest("a1"), { metadata: NAMESPACE });
  const started = client.call(method.start, { sandboxId: "a1" }, { metadata: NAMESPACE });
  const failed = assert.rejects(started, { code: "Unavailable" });
  await fixture.driver.begun.promise;
  await fixture.server.close(100);
  await failed;
  assert.deepEqual(fixture.sandboxer.sandboxes(), []);
});

Deno.test("close removes the socket and may be called twice", async () => {
  await using fixture = await startFixture();
  await Promise.all([fixture.server.close(100), fixture.server.close(100)]);
  await assert.rejects(Deno.stat(fixture.path), Deno.errors.NotFound);
});

Deno.test("the socket belongs to this user alone", async () => {
  await using fixture = await startFixture();
  const { mode } = await Deno.stat(fixture.path);
  assert.equal((mode ?? 0) & 0o777, 0o600);
});

Deno.test("a socket on which somebody listens is not taken", async () => {
  await using fixture = await startFixture();
  const { sandboxer, path } = fixture;
  const second = ControllerServer.listen({
    sandboxer,
    path,
    taskAddress: "/run/test/task.sock",
    log: noLog,
  });
  await assert.rejects(second, { code: "AlreadyExists" });
  await serves(fixture);
});

Deno.test("a pod config of 10 MiB passes", async () => {
  await using fixture = await startFixture();
  const annotations = { big: "x".repeat(10 * 1024 * 1024) };
  const linux = { securityContext: { namespaceOptions: { network: 2 } } };
  const request = createRequest("a1", { linux, annotations });
  await fixture.client.call(method.create, request, { metadata: NAMESPACE });
  const { spec } = fixture.sandboxer.sandbox("a1");
  assert.equal(spec.annotations["big"]?.length, 10 * 1024 * 1024);
});

Deno.test("a message of more than 16 MiB is refused and the server goes on", async () => {
  await using fixture = await startFixture();
  using client = new GrpcClient(fixture.path, { "grpc.max_send_message_length": -1 });
  const request = { sandboxId: "a1", netnsPath: "x".repeat(16 * 1024 * 1024 + 1) };
  const created = client.call(method.create, request, { metadata: NAMESPACE });
  await assert.rejects(created, { code: "ResourceExhausted" });
  await serves(fixture);
  assert.deepEqual(fixture.sandboxer.sandboxes(), []);
});

Deno.test("garbage on the socket leaves the server working", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  const preface = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  const garbage = crypto.getRandomValues(new Uint8Array(4096));
  const pieces = [
    new Uint8Array(0),
    new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"),
    garbage,
    preface,
    new Uint8Array([...preface, ...garbage]),
    // A frame header that promises 16 MiB and brings nothing.
    new Uint8Array([...preface, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
    // HEADERS with an empty header block on stream 1, then on the same again.
    new Uint8Array([
      ...preface,
      ...[0, 0, 0, 4, 0, 0, 0, 0, 0],
      ...[0, 0, 0, 1, 5, 0, 0, 0, 1],
      ...[0, 0, 0, 1, 5, 0, 0, 0, 1],
    ]),
  ];
  for (const piece of pieces) {
    const connection = await Deno.connect({ transport: "unix", path: fixture.path });
    await connection.write(piece).catch(() => 0);
    const reply = new Uint8Array(1024);
    await Promise.race([
      connection.read(reply).catch(() => null),
      new Promise((resolve) => setTimeout(resolve, 50)),
    ]);
    connection.close();
  }
  await serves(fixture);
  assert.equal(fixture.sandboxer.sandbox("a1").state, "ready");
});

Deno.test("bytes that are no request are refused and the server goes on", async () => {
  await using fixture = await startFixture();
  const client = new Client(`unix://${fixture.path}`, credentials.createInsecure());
  const service = "/containerd.services.sandbox.v1.Controller";
  assert.equal(await callWithBytes(client, `${service}/Create`, [255, 255, 255]), 13);
  assert.equal(await callWithBytes(client, `${service}/None`, []), 12);
  assert.equal(await callWithBytes(client, "/some.other.Service/Call", []), 12);
  client.close();
  await serves(fixture);
});

/** Makes a call with any bytes as request; returns the number of its status. */
function callWithBytes(client: Client, path: string, bytes: readonly number[]): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const same = (buffer: Buffer): Buffer => buffer;
  client.makeUnaryRequest(path, same, same, Buffer.from(bytes), (error) => {
    resolve(error?.code ?? 0);
  });
  return promise;
}
