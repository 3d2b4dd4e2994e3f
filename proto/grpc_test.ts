import assert from "node:assert/strict";
import {
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  status,
} from "@grpc/grpc-js";
import { create } from "@bufbuild/protobuf";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import {
  Content,
  type ReadContentRequest,
  type ReadContentResponse,
  ReadContentResponseSchema,
} from "./gen/containerd/services/content/v1/content_pb.ts";
import {
  type PodSandboxStatusRequest,
  type PodSandboxStatusResponse,
  RuntimeService,
  type VersionRequest,
  type VersionResponse,
  VersionResponseSchema,
} from "./gen/runtime/v1/api_pb.ts";
import { GrpcClient, MESSAGE_BYTES_MAX, serviceDefinition } from "./grpc.ts";

/**
 * A server that answers Version with the size of what it was sent, never answers PodSandboxStatus,
 * and streams as many messages as Read asks for, or one and an error, or no end of them.
 */
async function startServer(cancelled: () => void = () => {}) {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-grpc-" });
  const socketPath = `${directory}/server.sock`;
  const server = new Server({ "grpc.max_receive_message_length": MESSAGE_BYTES_MAX });
  server.addService(serviceDefinition(RuntimeService), {
    version(
      call: ServerUnaryCall<VersionRequest, VersionResponse>,
      callback: sendUnaryData<VersionResponse>,
    ) {
      if (call.request.version === "missing") {
        callback({ code: status.NOT_FOUND, details: 'No sandbox "missing"' });
        return;
      }
      const namespace = call.metadata.get("containerd-namespace").join();
      callback(
        null,
        create(VersionResponseSchema, {
          version: String(call.request.version.length),
          runtimeName: namespace,
        }),
      );
    },
    podSandboxStatus(call: ServerUnaryCall<PodSandboxStatusRequest, PodSandboxStatusResponse>) {
      call.on("cancelled", cancelled);
    },
  });
  server.addService(serviceDefinition(Content), {
    read(call: ServerWritableStream<ReadContentRequest, ReadContentResponse>) {
      call.on("cancelled", cancelled);
      const { digest, size } = call.request;
      const send = (offset: bigint) => call.write(create(ReadContentResponseSchema, { offset }));
      if (digest === "endless") {
        send(0n);
      } else if (digest === "missing") {
        send(0n);
        call.emit("error", { code: status.NOT_FOUND, details: "gone" });
      } else {
        for (let offset = 0n; offset < size; offset++) send(offset);
        call.end();
      }
    },
  });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(
      `unix://${socketPath}`,
      ServerCredentials.createInsecure(),
      (error) => error === null ? resolve() : reject(error),
    );
  });
  return {
    socketPath,
    async [Symbol.asyncDispose]() {
      server.forceShutdown();
      await Deno.remove(directory, { recursive: true });
    },
  };
}

Deno.test("a call carries messages and metadata both ways", async () => {
  await using server = await startServer();
  using client = new GrpcClient(server.socketPath);
  await client.ready(5_000);
  const response = await client.call(
    RuntimeService.method.version,
    { version: "0.1" },
    { metadata: { "containerd-namespace": "k8s.io" } },
  );
  assert.equal(response.version, "3");
  assert.equal(response.runtimeName, "k8s.io");
});

Deno.test("a message of 6 MiB passes", async () => {
  await using server = await startServer();
  using client = new GrpcClient(server.socketPath);
  const size = 6 * 1024 * 1024;
  const response = await client.call(RuntimeService.method.version, { version: "x".repeat(size) });
  assert.equal(response.version, String(size));
});

Deno.test("a failed call throws the server's code and message", async () => {
  await using server = await startServer();
  using client = new GrpcClient(server.socketPath);
  await assert.rejects(
    client.call(RuntimeService.method.version, { version: "missing" }),
    (error) =>
      error instanceof SandboxError && error.code === "NotFound" &&
      error.message === 'No sandbox "missing"',
  );
});

Deno.test("a method that the server does not implement is Unimplemented", async () => {
  await using server = await startServer();
  using client = new GrpcClient(server.socketPath);
  await assert.rejects(
    client.call(RuntimeService.method.listContainers, {}),
    (error) => error instanceof SandboxError && error.code === "Unimplemented",
  );
});

Deno.test("a call that is not answered in time ends with DeadlineExceeded", async () => {
  await using server = await startServer();
  using client = new GrpcClient(server.socketPath);
  await assert.rejects(
    client.call(RuntimeService.method.podSandboxStatus, {}, { timeoutMs: 50 }),
    (error) => error instanceof SandboxError && error.code === "DeadlineExceeded",
  );
});

Deno.test("an aborted call is cancelled on the server too", async () => {
  const { promise: cancelled, resolve } = Promise.withResolvers<void>();
  await using server = await startServer(resolve);
  using client = new GrpcClient(server.socketPath);
  await client.ready(5_000);
  const controller = new AbortController();
  const call = client.call(RuntimeService.method.podSandboxStatus, {}, {
    signal: controller.signal,
  });
  // Let the request reach the server before it is cancelled.
  await client.call(RuntimeService.method.version, {});
  controller.abort();
  await assert.rejects(
    call,
    (error) => error instanceof SandboxError && error.code === "Cancelled",
  );
  await cancelled;
});

Deno.test("ready() fails when nobody listens", async () => {
  using client = new GrpcClient("/nonexistent/server.sock");
  await assert.rejects(
    client.ready(100),
    (error) => error instanceof SandboxError && error.code === "Unavailable",
  );
});

Deno.test("a stream brings its messages in order, and its error at the end", async () => {
  await using server = await startServer();
  using client = new GrpcClient(server.socketPath);
  const { read } = Content.method;
  const offsets = async (digest: string, size: bigint) => {
    const found: bigint[] = [];
    for await (const { offset } of client.stream(read, { digest, size })) found.push(offset);
    return found;
  };
  assert.deepEqual(await offsets("", 3n), [0n, 1n, 2n]);
  assert.deepEqual(await offsets("", 0n), []);
  await assert.rejects(offsets("missing", 0n), { code: "NotFound", message: "gone" });
});

Deno.test("leaving a stream, or aborting it, cancels the call", async () => {
  let cancelled = Promise.withResolvers<void>();
  await using server = await startServer(() => cancelled.resolve());
  using client = new GrpcClient(server.socketPath);
  const request = { digest: "endless" };
  for await (const _ of client.stream(Content.method.read, request)) break;
  await cancelled.promise;

  cancelled = Promise.withResolvers<void>();
  const abort = new AbortController();
  const { signal } = abort;
  await assert.rejects(async () => {
    for await (const _ of client.stream(Content.method.read, request, { signal })) abort.abort();
  }, { code: "Cancelled" });
  await cancelled.promise;
  const late = client.stream(Content.method.read, request, { signal });
  await assert.rejects(late.next(), { code: "Cancelled" });
});
