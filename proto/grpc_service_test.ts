import assert from "node:assert/strict";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { refused } from "../sandboxers/lifecycle/testing/refused.ts";
import {
  type AttachRequest,
  type AttachResponse,
  Management,
} from "./gen/quasaur/management/v1/management_pb.ts";
import { type DuplexCall, GrpcClient } from "./grpc.ts";
import {
  type EndedCall,
  servedDefinition,
  type ServiceHandlers,
  serviceImplementation,
  type ServiceOptions,
  STREAMED_BYTES_MAX,
} from "./grpc_service.ts";

const { attach, get, kill, logs } = Management.method;

type Attach = ServiceHandlers<typeof Management>["attach"];
type Logs = ServiceHandlers<typeof Management>["logs"];

/** What a test has the server do; the other methods answer nothing. */
interface Served {
  readonly attach?: Attach;
  readonly logs?: Logs;
  readonly get?: ServiceHandlers<typeof Management>["get"];
  readonly kill?: ServiceHandlers<typeof Management>["kill"];
}

/** A server with a client. */
async function serve(handlers: Served) {
  const stack = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir({ prefix: "quasaur-service-" });
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  const aborts = new Set<AbortController>();
  const ended: EndedCall[] = [];
  const options: ServiceOptions = {
    open(call) {
      const abort = new AbortController();
      aborts.add(abort);
      call.once("cancelled", () => abort.abort());
      return { signal: abort.signal, [Symbol.dispose]: () => void aborts.delete(abort) };
    },
    ended: (call) => void ended.push(call),
  };
  const none = () => Promise.reject(new SandboxError("Unimplemented", "not here"));
  const all = Object.fromEntries(Management.methods.map(({ localName }) => [localName, none]));
  const implementation = serviceImplementation(
    Management,
    // Only the methods of a test are called.
    Object.assign(all, handlers) as Partial<ServiceHandlers<typeof Management>> as ServiceHandlers<
      typeof Management
    >,
    options,
  );
  const server = new Server();
  server.addService(servedDefinition(Management), implementation);
  const path = `${directory}/server.sock`;
  await new Promise<void>((resolve, reject) => {
    const credentials = ServerCredentials.createInsecure();
    server.bindAsync(`unix://${path}`, credentials, (e) => e === null ? resolve() : reject(e));
  });
  stack.defer(() => server.forceShutdown());
  const client = stack.use(new GrpcClient(path));
  return {
    client,
    ended,
    /** How many calls are open. */
    open: () => aborts.size,
    /** Makes all calls give up. */
    abort: (reason: SandboxError) => aborts.forEach((abort) => abort.abort(reason)),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** A message of input of some bytes. */
function input(bytes: number) {
  return { message: { case: "stdin", value: new Uint8Array(bytes) } } as const;
}

/** Answers every input with as many bytes of output. */
const echo: Attach = async function* (requests) {
  for await (const { message } of requests) {
    if (message.case !== "stdin") continue;
    yield { message: { case: "stdout", value: message.value } };
  }
};

function bytesOf({ message }: AttachResponse): number {
  return message.case === "stdout" ? message.value.length : -1;
}

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setTimeout(resolve, 1));
}

Deno.test("a call that streams both ways carries messages and ends when both have said all", async () => {
  await using server = await serve({ attach: echo });
  using call = server.client.duplex(attach);
  const answers = call[Symbol.asyncIterator]();
  await call.send(input(3));
  assert.equal(bytesOf((await answers.next()).value), 3);
  await call.send(input(5));
  call.end();
  assert.equal(bytesOf((await answers.next()).value), 5);
  assert.equal((await answers.next()).done, true);
  await refused(call.send(input(1)), "Cancelled", /has ended/);
  await until(() => server.ended.length === 1);
  assert.equal(server.ended[0]?.error, undefined);
});

Deno.test("what is sent waits for a peer that does not read, both ways", async () => {
  let got = 0;
  const { promise: go, resolve } = Promise.withResolvers<void>();
  await using server = await serve({
    attach: async function* (requests) {
      await go;
      for await (const _ of requests) got++;
      yield { message: { case: "stdout", value: new Uint8Array() } };
    },
  });
  const call = server.client.duplex(attach);
  const count = 200;
  let sent = 0;
  const sending = (async () => {
    for (; sent < count; sent++) await call.send(input(64 * 1024));
    call.end();
  })();
  // Far more than what windows and buffers hold: were it not waited for, all would be gone by now.
  await until(() => sent > 0);
  await turns();
  assert.ok(sent < count / 2, `${sent} messages were taken without a reader`);
  resolve();
  assert.equal((await Array.fromAsync(call)).length, 1);
  await sending;
  assert.equal(got, count);
});

Deno.test("a message that is too large for a stream ends it", async () => {
  await using server = await serve({ attach: echo });
  const call = server.client.duplex(attach);
  const answers = call[Symbol.asyncIterator]();
  await call.send(input(STREAMED_BYTES_MAX - 1000));
  assert.equal(bytesOf((await answers.next()).value), STREAMED_BYTES_MAX - 1000);
  await call.send(input(STREAMED_BYTES_MAX + 1));
  await refused(answers.next(), "Internal", /deserializing/);
  await until(() => server.open() === 0);
});

Deno.test("a handler is not asked for more than its peer reads", async () => {
  let given = 0;
  let ended = false;
  await using server = await serve({
    logs: async function* () {
      try {
        for (;;) {
          given++;
          yield await Promise.resolve({ content: new Uint8Array(64 * 1024) });
        }
      } finally {
        ended = true;
      }
    },
  });
  const entries = server.client.stream(logs, {});
  await entries.next();
  await turns();
  assert.ok(given < 100, `${given} messages were made for one that was read`);
  await entries.return(undefined);
  await until(() => ended && server.open() === 0);
});

Deno.test("a call is open until its peer has taken the answer", async () => {
  const count = 20;
  await using server = await serve({
    get: () => Promise.resolve({ detailJson: "x".repeat(1 << 20) }),
  });
  const abort = new AbortController();
  const { signal } = abort;
  // Answers that have to wait for a window that nobody widens: the reader is not let to its work.
  const answers = Array.from({ length: count }, () => server.client.call(get, {}, { signal }));
  let most = 0;
  await until(() => {
    most = Math.max(most, server.open());
    return server.ended.length === count;
  });
  for (const { detailJson } of await Promise.all(answers)) assert.equal(detailJson.length, 1 << 20);
  assert.ok(most > 1, `${most} calls were open at a time`);
  assert.equal(server.open(), 0);
});

Deno.test("errors keep their code and message through streams", async () => {
  const failing = (error: Error): Logs =>
    async function* () {
      yield await Promise.resolve({ content: new Uint8Array(1) });
      throw error;
    };
  for (
    const [error, code] of [
      [new SandboxError("NotFound", 'no "x"'), "NotFound"],
      [new Error("who knows"), "Internal"],
    ] as const
  ) {
    await using server = await serve({ logs: failing(error) });
    const entries = server.client.stream(logs, {});
    await entries.next();
    await refused(entries.next(), code, new RegExp(error.message));
    assert.equal(server.ended[0]?.planned, code !== "Internal");
  }
  await using server = await serve({
    attach: async function* () {
      yield await Promise.reject(new SandboxError("FailedPrecondition", "not now"));
    },
  });
  await refused(Array.fromAsync(server.client.duplex(attach)), "FailedPrecondition", /not now/);
  const late = server.client.duplex(attach);
  await until(() => server.ended.length === 2);
  await turns();
  await refused(Array.fromAsync(late), "FailedPrecondition", /not now/);
  await refused(late.send(input(1)), "FailedPrecondition", /not now/);
});

Deno.test("messages of a stream that were taken are let go while it goes on", async () => {
  let kept = 0;
  const freed = new FinalizationRegistry(() => kept--);
  await using server = await serve({
    logs: async function* () {
      for (;;) {
        const content = new Uint8Array(64 * 1024);
        freed.register(content, undefined);
        kept++;
        yield await Promise.resolve({ content });
      }
    },
  });
  let taken = 0;
  for await (const _ of server.client.stream(logs, {})) {
    taken++;
    // What is told of what was freed comes between two messages.
    await new Promise((resolve) => setTimeout(resolve, 0));
    if (kept < taken / 2) break;
    assert.ok(taken < 1_500, `${kept} of ${taken} messages are still kept`);
  }
});

Deno.test("a caller that goes ends the handler, whatever it waits for", async () => {
  const ways: ((call: DuplexCall<unknown, unknown>, abort: AbortController) => void)[] = [
    (call) => call.cancel(),
    (call) => call[Symbol.dispose](),
    (_, abort) => abort.abort(),
  ];
  for (const leave of ways) {
    let read: unknown;
    await using server = await serve({
      attach: async function* (requests: AsyncIterable<AttachRequest>) {
        yield { message: { case: "stdout", value: new Uint8Array() } };
        try {
          for await (const _ of requests);
        } catch (error) {
          read = error;
        }
      },
    });
    const abort = new AbortController();
    const call = server.client.duplex(attach, { signal: abort.signal });
    const answers = call[Symbol.asyncIterator]();
    await answers.next();
    leave(call, abort);
    await refused(answers.next(), "Cancelled", /./);
    await until(() => read !== undefined && server.open() === 0);
    assert.ok(read instanceof SandboxError && read.code === "Cancelled", String(read));
  }
});

Deno.test("the server ends streams at once, though their handlers do not listen", async () => {
  await using server = await serve({
    logs: async function* () {
      yield await Promise.resolve({ content: new Uint8Array() });
      await new Promise<never>(() => undefined);
    },
    attach: async function* (requests) {
      for await (const _ of requests) {
        yield { message: { case: "stdout", value: new Uint8Array() } };
      }
    },
  });
  const entries = server.client.stream(logs, {});
  await entries.next();
  const call = server.client.duplex(attach);
  const answers = call[Symbol.asyncIterator]();
  await call.send(input(1));
  await answers.next();
  server.abort(new SandboxError("Unavailable", "going"));
  await refused(entries.next(), "Unavailable", /going/);
  await refused(answers.next(), "Unavailable", /going/);
  await until(() => server.open() === 0);
});

Deno.test("streams have a time-out only where one is asked for", async () => {
  await using server = await serve({ attach: echo, kill: () => new Promise(() => undefined) });
  using call = server.client.duplex(attach, { timeoutMs: 50 });
  await refused(Array.fromAsync(call), "DeadlineExceeded", /./);
  await refused(server.client.call(kill, {}, { timeoutMs: 50 }), "DeadlineExceeded", /./);
});

Deno.test("a server that is not there is told in words", async () => {
  using client = new GrpcClient("/nowhere/server.sock");
  await refused(
    client.call(kill, {}),
    "Unavailable",
    /^cannot reach the server: connect ENOENT \/nowhere\/server.sock$/,
  );
});

/** Lets everything happen that is about to. */
async function turns(): Promise<void> {
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setTimeout(resolve, 1));
}
