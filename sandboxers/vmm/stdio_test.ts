import assert from "node:assert/strict";
import { AgentClient } from "../../guest/client/agent_client.ts";
import { FakeAgent } from "../../guest/client/testing/fake_agent.ts";
import type { InboundStream, OutboundStream } from "../../guest/protocol/peer.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { StdioSpec, StreamSpec } from "../lifecycle/spec.ts";
import { noLog } from "../log.ts";
import { AgentStreams } from "./stdio.ts";

/** An agent, a client of it, and a directory with FIFOs; all is gone with it. */
class World implements AsyncDisposable {
  readonly directory: string;
  readonly agent: FakeAgent;
  readonly client: AgentClient;
  readonly streams: AgentStreams;

  private constructor(directory: string, agent: FakeAgent, client: AgentClient) {
    this.directory = directory;
    this.directory = directory;
    this.agent = agent;
    this.client = client;
    this.streams = new AgentStreams(client, noLog);
  }

  static async open(): Promise<World> {
    const directory = Deno.makeTempDirSync({ prefix: "quasaur-stdio-" });
    const path = `${directory}/agent.sock`;
    const agent = new FakeAgent(path).listen();
    return new World(directory, agent, await AgentClient.connect({ path, timeoutMs: 20_000 }));
  }

  /** Makes a FIFO. */
  fifo(name: string): StreamSpec & { readonly path: string } {
    const path = `${this.directory}/${name}`;
    assert.ok(new Deno.Command("mkfifo", { args: [path] }).outputSync().success);
    return { kind: "path", path };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client[Symbol.dispose]();
    this.agent[Symbol.dispose]();
    await Deno.remove(this.directory, { recursive: true });
  }
}

function stdio(more: Partial<StdioSpec> = {}): StdioSpec {
  const nothing: StreamSpec = { kind: "null" };
  return { stdin: nothing, stdout: nothing, stderr: nothing, terminal: false, ...more };
}

/** Writes as a process would, and ends. */
async function output(stream: OutboundStream, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const room = stream.reserve();
    if (room === undefined) {
      await new Promise<void>((done) => stream.onWritable = done);
      continue;
    }
    const piece = bytes.subarray(at, at + room.length);
    room.set(piece);
    stream.commit(piece.length);
    at += piece.length;
  }
  stream.end();
}

/** Reads up to the end, as a process would. */
async function input(stream: InboundStream): Promise<Uint8Array> {
  const got: number[] = [];
  while (!stream.ended && stream.resetBy === undefined) {
    const piece = stream.peek();
    if (piece === undefined) {
      await new Promise<void>((done) => stream.onReadable = done);
      continue;
    }
    got.push(...piece);
    stream.consume(piece.length);
  }
  return Uint8Array.from(got);
}

async function readFile(path: string): Promise<Uint8Array> {
  const file = await Deno.open(path, { read: true });
  return await new Response(file.readable).bytes();
}

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test("stdio: bytes go from FIFO to process and back", async () => {
  await using world = await World.open();
  const [stdin, stdout, stderr] = [world.fifo("in"), world.fifo("out"), world.fifo("err")];
  const { guest, streams } = world.streams.open(stdio({ stdin, stdout, stderr }), "a");
  assert.deepEqual(guest, { stdin: 1, stdout: 2, stderr: 3 });
  const inside = input(world.agent.peer.openInput(1));
  const bytes = crypto.getRandomValues(new Uint8Array(60_000));
  const out = readFile(stdout.path);
  const err = readFile(stderr.path);
  const writer = await Deno.open(stdin.path, { write: true });
  await new Response(bytes).body?.pipeTo(writer.writable);
  await streams.closeStdin();
  assert.deepEqual(await inside, bytes);
  void output(world.agent.peer.openOutput(2), bytes);
  void output(world.agent.peer.openOutput(3), encode("oh"));
  await streams.finished("exited");
  assert.deepEqual(await out, bytes);
  assert.equal(decode(await err), "oh");
  streams[Symbol.dispose]();
});

Deno.test("stdio: what is null has no stream, and a terminal has one output", async () => {
  await using world = await World.open();
  const none = world.streams.open(stdio(), "a");
  assert.deepEqual(none.guest, {});
  await none.streams.finished("exited");
  const [stdout, stderr] = [world.fifo("out"), world.fifo("err")];
  const { guest, streams } = world.streams.open(stdio({ stdout, stderr, terminal: true }), "b");
  assert.deepEqual(Object.keys(guest), ["stdout", "terminal"]);
  streams[Symbol.dispose]();
});

Deno.test("stdio: an exit waits until somebody opened the output and it was written", async () => {
  await using world = await World.open();
  const stdout = world.fifo("out");
  const { streams } = world.streams.open(stdio({ stdout }), "a");
  void output(world.agent.peer.openOutput(1), encode("last words"));
  let isFinished = false;
  const finished = streams.finished("exited").then(() => isFinished = true);
  await new Promise((done) => setTimeout(done, 300));
  assert.equal(isFinished, false);
  assert.equal(decode(await readFile(stdout.path)), "last words");
  await finished;
});

Deno.test("stdio: a slow reader gets all of a large last output", async () => {
  await using world = await World.open();
  const stdout = world.fifo("out");
  const { streams } = world.streams.open(stdio({ stdout }), "a");
  const bytes = Uint8Array.from({ length: 200_000 }, (_, i) => i * 7 % 251);
  void output(world.agent.peer.openOutput(1), bytes);
  const reader = await Deno.open(stdout.path, { read: true });
  const finished = streams.finished("exited");
  const got: number[] = [];
  const buffer = new Uint8Array(30_000);
  for (let count = await reader.read(buffer); count !== null; count = await reader.read(buffer)) {
    got.push(...buffer.subarray(0, count));
    await new Promise((done) => setTimeout(done, 20));
  }
  reader.close();
  await finished;
  assert.deepEqual(Uint8Array.from(got), bytes);
});

Deno.test("stdio: a reader that may take its time gets all of a large last output", async () => {
  await using world = await World.open();
  const stdout = { ...world.fifo("out"), isPatient: true };
  const { streams } = world.streams.open(stdio({ stdout }), "a");
  const bytes = Uint8Array.from({ length: 200_000 }, (_, i) => i * 7 % 251);
  void output(world.agent.peer.openOutput(1), bytes);
  const reader = await Deno.open(stdout.path, { read: true });
  const finished = streams.finished("exited");
  // Others are given up after a second.
  await new Promise((done) => setTimeout(done, 1_300));
  const all = new Response(reader.readable).bytes();
  await finished;
  assert.deepEqual(await all, bytes);
});

Deno.test("stdio: nobody waits for the output of a killed process that nobody reads", async () => {
  await using world = await World.open();
  const { streams } = world.streams.open(stdio({ stdout: world.fifo("out") }), "a");
  const stream = world.agent.peer.openOutput(1);
  void output(stream, encode("unread"));
  await streams.finished("killed");
  streams[Symbol.dispose]();
  for (let i = 0; i < 200 && stream.resetBy === undefined; i++) {
    await new Promise((done) => setTimeout(done, 10));
  }
  assert.deepEqual(stream.resetBy, { remote: true, reason: "the output is no longer wanted" });
});

Deno.test("stdio: what has come is written although the guest is gone", async () => {
  await using world = await World.open();
  const stdout = world.fifo("out");
  const { streams } = world.streams.open(stdio({ stdout }), "a");
  const stream = world.agent.peer.openOutput(1);
  const room = stream.reserve();
  assert.ok(room);
  encode("before the crash").forEach((byte, i) => room[i] = byte);
  stream.commit(16);
  await new Promise((done) => setTimeout(done, 100));
  world.client[Symbol.dispose]();
  const read = readFile(stdout.path);
  await streams.finished("exited");
  assert.equal(decode(await read), "before the crash");
});

Deno.test("stdio: an input ends with its process", async () => {
  await using world = await World.open();
  const stdin = world.fifo("in");
  const { streams } = world.streams.open(stdio({ stdin }), "a");
  const stream = world.agent.peer.openInput(1);
  stream.reset("the process has ended");
  await streams.finished("exited");
  await streams.closeStdin();
  streams[Symbol.dispose]();
});

Deno.test("stdio: what cannot be opened is said, and nothing stays open", async () => {
  await using world = await World.open();
  const stdout = world.fifo("out");
  const stderr: StreamSpec = { kind: "path", path: `${world.directory}/missing` };
  assert.throws(
    () => world.streams.open(stdio({ stdout, stderr }), 'container "a"'),
    (error) =>
      error instanceof SandboxError && error.code === "NotFound" &&
      /cannot open stderr of container "a" ".*missing": it is not there/.test(error.message),
  );
  assert.throws(
    () => world.streams.open(stdio({ stdout: { kind: "fd", fd: 7 } }), "a"),
    /cannot use descriptor 7 for stdout of a: expected a path, a writable stream, or descriptor 1 or 2/,
  );
});

Deno.test("stdio: streams of this process are taken too", async () => {
  await using world = await World.open();
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const given = new Response("given").body;
  assert.ok(given);
  const { streams } = world.streams.open(
    stdio({ stdin: { kind: "readable", readable: given }, stdout: { kind: "writable", writable } }),
    "a",
  );
  const inside = input(world.agent.peer.openInput(1));
  void output(world.agent.peer.openOutput(2), encode("made"));
  const out = new Response(readable as ReadableStream<Uint8Array<ArrayBuffer>>).text();
  assert.equal(decode(await inside), "given");
  assert.equal(await out, "made");
  await streams.finished("exited");
});

Deno.test("stdio: another sandboxer goes on with the streams of a process", async () => {
  await using world = await World.open();
  const [stdin, stdout] = [world.fifo("in"), world.fifo("out")];
  const spec = stdio({ stdin, stdout });
  const { guest, streams } = world.streams.open(spec, "a");
  const inside = input(world.agent.peer.openInput(1));
  const stream = world.agent.peer.openOutput(2);
  const reader = await Deno.open(stdout.path, { read: true });
  const writer = await Deno.open(stdin.path, { write: true });
  await writer.write(encode("one "));
  void output(stream, encode("all of it"));
  const buffer = new Uint8Array(100);
  assert.equal(decode(buffer.subarray(0, await reader.read(buffer) ?? 0)), "all of it");
  await new Promise((done) => setTimeout(done, 100));
  // Killed: the process ends, and with it its descriptors and its connection.
  world.client[Symbol.dispose]();
  streams[Symbol.dispose]();
  const path = `${world.directory}/agent.sock`;
  using client = await AgentClient.connect({ path, timeoutMs: 20_000, adopt: true });
  const next = new AgentStreams(client, noLog).adopt(spec, guest, "a");
  await writer.write(encode("two"));
  writer.close();
  await next.closeStdin();
  assert.equal(decode(await inside), "one two");
  await next.finished("exited");
  next[Symbol.dispose]();
  reader.close();
});

Deno.test("stdio: adopting a process whose FIFOs are gone leaves them out", async () => {
  await using world = await World.open();
  const gone: StreamSpec = { kind: "path", path: `${world.directory}/gone` };
  const stream = world.agent.peer.openOutput(5);
  const adopted = world.streams.adopt(stdio({ stdout: gone }), { stdout: 5 }, "a");
  await output(stream, new Uint8Array(500_000));
  await adopted.finished("exited");
  adopted[Symbol.dispose]();
});
