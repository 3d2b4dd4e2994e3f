import assert from "node:assert/strict";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import type { AgentEvent } from "../protocol/messages.ts";
import { AgentError } from "../protocol/agent_error.ts";
import type { RequestHandlers } from "../protocol/peer.ts";
import { AgentClient } from "./agent_client.ts";
import { FAKE_HELLO, FakeAgent } from "./testing/fake_agent.ts";
import type { AgentClientOptions } from "./options.ts";

/** A socket path in a directory that is removed with it. */
function place(): { readonly path: string } & Disposable {
  const directory = Deno.makeTempDirSync({ prefix: "quasaur-agent-" });
  return {
    path: `${directory}/agent.sock`,
    [Symbol.dispose]: () => Deno.removeSync(directory, { recursive: true }),
  };
}

/** Connects, for a bounded time. */
function connect(path: string, more: Partial<AgentClientOptions> = {}): Promise<AgentClient> {
  return AgentClient.connect({ path, timeoutMs: 20_000, ...more });
}

function isError(code: string, message: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof SandboxError && error.code === code && message.test(error.message);
}

/** Waits until something is so. */
async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 2000 && !what(); i++) await new Promise((done) => setTimeout(done, 10));
  assert.ok(what());
}

const NOTHING_DONE: RequestHandlers = { pids: ({ container }) => ({ pids: [container.length] }) };

Deno.test("agent client: waits for a socket that is not there yet, and knows who answers", async () => {
  using at = place();
  const events: AgentEvent[] = [];
  const connecting = connect(at.path, { onEvent: (event) => events.push(event) });
  using agent = await new Promise<FakeAgent>((done) =>
    setTimeout(() => done(new FakeAgent(at.path, NOTHING_DONE).listen()), 30)
  );
  using client = await connecting;
  assert.deepEqual(client.hello, FAKE_HELLO);
  assert.deepEqual(await client.request("pids", { container: "four" }), { pids: [4] });
  agent.peer.event({ kind: "oom", container: "a" });
  await until(() => events.length === 2);
  assert.deepEqual(events, [
    { kind: "ready", hello: FAKE_HELLO },
    { kind: "oom", container: "a" },
  ]);
});

Deno.test("agent client: says what it waited for when nobody comes in time", async () => {
  using at = place();
  await assert.rejects(
    connect(at.path, { timeoutMs: 50 }),
    isError(
      "DeadlineExceeded",
      /cannot reach the agent at ".*": not ready within 0\.05 s: No such/,
    ),
  );
  using _agent = new FakeAgent(at.path).listen();
  _agent.deaf = true;
  await assert.rejects(
    connect(at.path, { timeoutMs: 50 }),
    isError("DeadlineExceeded", /it did not answer/),
  );
});

Deno.test("agent client: gives up connecting when it is told to", async () => {
  using at = place();
  const abort = new AbortController();
  const connecting = connect(at.path, { signal: abort.signal });
  abort.abort();
  await assert.rejects(connecting, isError("Cancelled", /cancelled by the caller/));
  await assert.rejects(
    connect(at.path, { signal: AbortSignal.abort() }),
    isError("Cancelled", /cancelled by the caller/),
  );
});

Deno.test("agent client: uses the connector that it is given", async () => {
  using at = place();
  using _agent = new FakeAgent(at.path).listen();
  const asked: string[] = [];
  using client = await connect("/elsewhere", {
    connect: (path) => {
      asked.push(path);
      return Deno.connect({ transport: "unix", path: at.path });
    },
  });
  assert.equal(client.connected, true);
  assert.deepEqual(asked, ["/elsewhere"]);
});

Deno.test("agent client: failures come out with their code and words", async () => {
  using at = place();
  using _agent = new FakeAgent(at.path, {
    pause: () => {
      throw new AgentError("FailedPrecondition", "cannot pause: it is not running");
    },
  }).listen();
  using client = await connect(at.path);
  await assert.rejects(
    client.request("pause", { container: "a" }),
    isError("FailedPrecondition", /^cannot pause: it is not running$/),
  );
  await assert.rejects(
    client.request("resume", { container: "a" }),
    isError("Unimplemented", /does not know it/),
  );
});

Deno.test("agent client: stops waiting for an answer in time, when told to, and at the end", async () => {
  using at = place();
  using _agent = new FakeAgent(at.path, { pids: () => new Promise(() => {}) }).listen();
  const client = await connect(at.path);
  const args = { container: "a" };
  await assert.rejects(
    client.request("pids", args, { timeoutMs: 20 }),
    isError("Unavailable", /cannot ask the agent for "pids": no answer within 0\.02 s/),
  );
  const abort = new AbortController();
  const aborted = client.request("pids", args, { signal: abort.signal });
  abort.abort();
  await assert.rejects(aborted, isError("Cancelled", /cannot ask the agent for "pids"/));
  const open = client.request("pids", args);
  client[Symbol.dispose]();
  await assert.rejects(open, isError("Cancelled", /connection to the agent was closed/));
  await assert.rejects(client.request("pids", args), isError("Cancelled", /closed/));
  assert.throws(() => client.openInput(1), isError("Unavailable", /cannot open stream 1/));
  assert.equal((await client.closed).code, "Cancelled");
});

Deno.test("agent client: connects again when the connection drops, and loses nothing", async () => {
  using at = place();
  const gate = Promise.withResolvers<{ readonly pids: readonly number[] }>();
  let calls = 0;
  using agent = new FakeAgent(at.path, {
    pids: () => {
      calls++;
      return gate.promise;
    },
  }).listen();
  using client = await connect(at.path);
  const open = client.request("pids", { container: "a" });
  const output = client.openOutput(client.nextStreamId());
  const bytes = crypto.getRandomValues(new Uint8Array(60_000));
  const stream = agent.peer.openOutput(1);
  await until(() => calls === 1);
  for (let i = 0; i < 4; i++) {
    for (let at = i * 15_000; at < (i + 1) * 15_000;) {
      const room = stream.reserve();
      assert.ok(room);
      const piece = bytes.subarray(at, Math.min((i + 1) * 15_000, at + room.length));
      room.set(piece);
      stream.commit(piece.length);
      at += piece.length;
    }
    agent.cut();
    await until(() => agent.connections === i + 2 && client.connected);
  }
  stream.end();
  const got: number[] = [];
  await until(() => {
    for (let piece = output.peek(); piece !== undefined; piece = output.peek()) {
      got.push(...piece);
      output.consume(piece.length);
    }
    return output.ended;
  });
  assert.deepEqual(Uint8Array.from(got), bytes);
  gate.resolve({ pids: [7] });
  assert.deepEqual(await open, { pids: [7] });
  assert.equal(calls, 1);
});

Deno.test("agent client: gives up when the socket does not come back", async () => {
  using at = place();
  const agent = new FakeAgent(at.path).listen();
  using client = await connect(at.path, { reconnectMs: 30 });
  agent[Symbol.dispose]();
  const error = await client.closed;
  assert.equal(error.code, "Unavailable");
  assert.match(error.message, /connection to the agent was lost: /);
});

Deno.test("agent client: finds out when the agent no longer answers", async () => {
  using at = place();
  using agent = new FakeAgent(at.path, NOTHING_DONE).listen();
  using client = await connect(at.path, { heartbeat: { everyMs: 20, answerMs: 100 } });
  // One that answers is left alone for longer than it may be silent.
  await new Promise((done) => setTimeout(done, 300));
  assert.deepEqual(await client.request("pids", { container: "a" }), { pids: [1] });
  agent.deaf = true;
  const error = await client.closed;
  assert.equal(error.code, "Unavailable");
  assert.match(error.message, /agent does not answer: silent for more than 0\.1 s/);
});

Deno.test("agent client: does not watch a machine that stands still", async () => {
  using at = place();
  using agent = new FakeAgent(at.path, NOTHING_DONE).listen();
  using client = await connect(at.path, { heartbeat: { everyMs: 10, answerMs: 30 } });
  client.watch(false);
  agent.deaf = true;
  await new Promise((done) => setTimeout(done, 150));
  agent.deaf = false;
  client.watch(true);
  assert.deepEqual(await client.request("pids", { container: "a" }), { pids: [1] });
});

Deno.test("agent client: an agent that breaks the protocol is given up for good", async () => {
  using at = place();
  using agent = new FakeAgent(at.path).listen();
  using client = await connect(at.path);
  const stream = client.openOutput(client.nextStreamId());
  const open = client.request("pids", { container: "a" });
  open.catch(() => undefined);
  await agent.sendRaw(new Uint8Array(100));
  const error = await client.closed;
  assert.equal(error.code, "Internal");
  assert.match(error.message, /agent broke the protocol: bytes came that are no frame/);
  assert.equal(stream.resetBy?.remote, true);
  await until(() => agent.connections === 1);
});

Deno.test("agent client: a client that takes over goes on where the one before let go", async () => {
  using at = place();
  using agent = new FakeAgent(at.path).listen();
  const first = await connect(at.path);
  const id = first.nextStreamId();
  const output = first.openOutput(id);
  const stream = agent.peer.openOutput(id);
  const send = (text: string) => {
    const room = stream.reserve();
    assert.ok(room);
    const { written } = new TextEncoder().encodeInto(text, room);
    stream.commit(written);
  };
  send("first ");
  await until(() => output.peek() !== undefined);
  output.consume(output.peek()?.length ?? 0);
  await first.release();
  send("second");
  using second = await connect(at.path, { adopt: true });
  second.useStreamsAfter(id);
  assert.equal(second.nextStreamId(), id + 1);
  const again = second.openOutput(id, { adopt: true });
  await until(() => again.peek() !== undefined);
  assert.equal(new TextDecoder().decode(again.peek()), "second");
});
