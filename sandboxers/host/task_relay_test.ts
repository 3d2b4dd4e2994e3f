/**
 * The resident relay: it outlives sandboxers, is found again, and goes when nobody needs it.
 *
 * @module
 */

import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  StartResponseSchema,
  StateResponseSchema,
  Task,
  WaitResponseSchema,
} from "../../proto/gen/containerd/task/v3/shim_pb.ts";
import { REFUSED_CALLS } from "../../task/testing/refused_calls.ts";
import { ResponseSchema } from "../../proto/gen/ttrpc/request_pb.ts";
import { TtrpcClient } from "../../task/ttrpc/client.ts";
import { encodeFrame, MESSAGE_TYPE, RELAY_MESSAGE_TYPE } from "../../task/ttrpc/frames.ts";
import { TtrpcServer } from "../../task/ttrpc/server.ts";
import { RESTARTING, SandboxError } from "../lifecycle/errors.ts";
import { noLog } from "../log.ts";
import { startResident } from "./resident.ts";
import { TaskRelay } from "./task_relay.ts";
import { assertFails, launcher, runDirectory, until } from "./testing/fixture.ts";

const { state, wait, kill, start } = Task.method;

/** A stand-in for a sandboxer: it answers `state` with its name, and `wait` when it is told to. */
async function sandboxer(path: string, name: string, end?: Promise<number>) {
  const server = new TtrpcServer({ log: noLog });
  server.add(Task, {
    ...REFUSED_CALLS,
    state: ({ id }) => create(StateResponseSchema, { id, bundle: name }),
    wait: async (_, { signal }) => {
      const gone = Promise.withResolvers<never>();
      const leaving = new SandboxError("Unavailable", "leaving");
      signal.addEventListener("abort", () => gone.reject(leaving));
      return create(WaitResponseSchema, {
        exitStatus: await Promise.race([end ?? gone.promise, gone.promise]),
      });
    },
  });
  await server.listen(path);
  return { [Symbol.asyncDispose]: () => server.close(50) };
}

function options(dir: string) {
  return { launcher, listen: `${dir}/task.sock`, server: `${dir}/own.sock`, dir, log: noLog };
}

/** A file's text at once: what a dead process leaves. */
async function note(dir: string): Promise<string> {
  return await Deno.readTextFile(`${dir}/task-relay.json`).catch(() => "");
}

Deno.test("a call that waits outlives the sandboxer and is answered by the next one", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const end = Promise.withResolvers<number>();
  const first = await TaskRelay.open(options(path));
  const old = await sandboxer(options(path).server, "old");
  using client = await TtrpcClient.connect(first.socket);
  assert.equal((await client.call(state, { id: "c" })).bundle, "old");
  const waiting = client.call(wait, { id: "c" });
  await old[Symbol.asyncDispose]();
  first.release();

  const second = await TaskRelay.open(options(path));
  assert.deepEqual(second.identity, first.identity);
  await using _new = await sandboxer(options(path).server, "new", end.promise);
  assert.equal((await client.call(state, { id: "c" })).bundle, "new");
  end.resolve(7);
  assert.equal((await waiting).exitStatus, 7);
  client[Symbol.dispose]();
  await second.stop();
  assert.equal(await launcher.alive(first.identity), false);
  await assert.rejects(Deno.lstat(first.socket), Deno.errors.NotFound);
  assert.equal(await note(path), "");
});

/**
 * Takes connections until so many calls came on one, and ends without a word, as a death does. A
 * call is a header of ten bytes, which begins with the length of what follows (ttrpc).
 */
async function takeAndDie(path: string, calls: number): Promise<void> {
  {
    using resources = new DisposableStack();
    const listener = resources.use(Deno.listen({ transport: "unix", path }));
    const asked = Promise.withResolvers<void>();
    void (async () => {
      for await (const connection of listener) {
        resources.use(connection);
        takeCalls(connection, calls).then(() => asked.resolve(), () => undefined);
      }
    })().catch(() => undefined);
    await asked.promise;
  }
  // The accept that was under way keeps it listening for a moment, and its file there.
  await until("nobody to listen", async () => !await isListening(path));
}

async function isListening(path: string): Promise<boolean> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionReset) return true;
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function takeCalls(connection: Deno.Conn, calls: number): Promise<void> {
  const requests = requestsOf(connection);
  for (let taken = 0; taken < calls; taken++) await requests.next();
}

/** The requests on a connection: each with its header. */
async function* requestsOf(connection: Deno.Conn): AsyncGenerator<DataView, never> {
  let bytes = new Uint8Array();
  for (;;) {
    const length = bytes.length < 10 ? Infinity : 10 + new DataView(bytes.buffer).getUint32(0);
    if (bytes.length >= length) {
      const frame = bytes.slice(0, length);
      bytes = bytes.slice(length);
      if (frame[8] === MESSAGE_TYPE.request) yield new DataView(frame.buffer);
      continue;
    }
    const more = new Uint8Array(1000);
    const count = await connection.read(more);
    if (count === null) throw new Error("the connection has ended");
    bytes = Uint8Array.from([...bytes, ...more.subarray(0, count)]);
  }
}

/** A sandboxer that takes note of calls, and can refuse them because it is about to leave. */
async function counting(path: string, seen: string[], options: { leaving?: boolean } = {}) {
  const server = new TtrpcServer({ log: noLog });
  const note = (what: string) => {
    seen.push(what);
    if (options.leaving) throw new SandboxError("Unavailable", `the sandboxer ${RESTARTING}`);
  };
  server.add(Task, {
    ...REFUSED_CALLS,
    state: ({ id }) => {
      note(`state ${id}`);
      return create(StateResponseSchema, { id });
    },
    start: ({ id }) => {
      note(`start ${id}`);
      return { pid: 7 };
    },
    kill: ({ signal }) => {
      note(`kill ${signal}`);
      return {};
    },
  });
  await server.listen(path);
  return { [Symbol.asyncDispose]: () => server.close(50) };
}

Deno.test("of what died with the sandboxer, only what can be made twice is made again", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const relay = await TaskRelay.open(options(path));
  const { server } = options(path);
  const taken = takeAndDie(server, 3);
  using client = await TtrpcClient.connect(relay.socket);
  const calls = [
    client.call(kill, { id: "c", signal: 9 }),
    client.call(kill, { id: "c", signal: 15 }),
    client.call(start, { id: "c" }),
  ].map((call) => call.then(() => "done", (error: SandboxError) => error.message));
  await taken;
  const seen: string[] = [];
  await using _next = await counting(server, seen);
  const unknown = "the sandboxer has gone away: it is not known whether this was done";
  assert.deepEqual(await Promise.all(calls), ["done", unknown, unknown]);
  assert.deepEqual(seen, ["kill 9"]);
  client[Symbol.dispose]();
  await relay.stop();
});

/** The connections of a relay with one client, and on which of them a call has come. */
async function takeCall(listener: Deno.Listener) {
  // The relay has one for each of its clients, of which one says nothing.
  const connections = [await listener.accept(), await listener.accept()];
  const [connection, asked] = await Promise.any(connections.map(async (each) => {
    return [each, (await requestsOf(each).next()).value] as const;
  }));
  return { connections, connection, asked };
}

Deno.test("a sandboxer's last answer counts, and what came too late for it is asked of the next", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const relay = await TaskRelay.open(options(path));
  const { server } = options(path);
  const listener = Deno.listen({ transport: "unix", path: server });
  using client = await TtrpcClient.connect(relay.socket);
  const first = client.call(start, { id: "first" });
  const { connections, connection, asked } = await takeCall(listener);
  // The relay hears of the second call, of the answer to the first and of the end at once.
  Deno.kill(relay.identity.pid, "SIGSTOP");
  const second = client.call(start, { id: "second" });
  await new Promise((resolve) => setTimeout(resolve, 100));
  const payload = toBinary(StartResponseSchema, create(StartResponseSchema, { pid: 5 }));
  const answer = toBinary(ResponseSchema, create(ResponseSchema, { payload }));
  const header = { streamId: asked.getUint32(4), type: MESSAGE_TYPE.response, flags: 0 };
  await connection.write(encodeFrame(header, answer));
  for (const each of connections) each.close();
  listener.close();
  Deno.kill(relay.identity.pid, "SIGCONT");
  assert.equal((await first).pid, 5);
  const seen: string[] = [];
  await using _next = await counting(server, seen);
  assert.equal((await second).pid, 7);
  assert.deepEqual(seen, ["start second"]);
  client[Symbol.dispose]();
  await relay.stop();
});

Deno.test("what was not answered before a sandboxer's farewell is asked of the next, whatever it is", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const relay = await TaskRelay.open(options(path));
  const { server } = options(path);
  const listener = Deno.listen({ transport: "unix", path: server });
  using client = await TtrpcClient.connect(relay.socket);
  const before = client.call(start, { id: "before" });
  const { connections, connection } = await takeCall(listener);
  const header = { streamId: 0, type: RELAY_MESSAGE_TYPE.farewell, flags: 0 };
  await connection.write(encodeFrame(header, new Uint8Array()));
  const after = client.call(start, { id: "after" });
  listener.close();
  await until("nobody to listen", async () => !await isListening(server));
  for (const each of connections) each.close();
  const seen: string[] = [];
  await using _next = await counting(server, seen);
  assert.deepEqual([(await before).pid, (await after).pid], [7, 7]);
  assert.deepEqual(seen, ["start before", "start after"]);
  client[Symbol.dispose]();
  await relay.stop();
});

Deno.test("what a sandboxer refuses because it is about to leave is asked of the next, whatever it is", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const relay = await TaskRelay.open(options(path));
  const { server } = options(path);
  const seen: string[] = [];
  const old = await counting(server, seen, { leaving: true });
  using client = await TtrpcClient.connect(relay.socket);
  const starting = client.call(start, { id: "c" });
  await until("it to be refused", () => seen.length > 0);
  await old[Symbol.asyncDispose]();
  await using _next = await counting(server, seen);
  assert.equal((await starting).pid, 7);
  assert.deepEqual(seen, ["start c", "start c"]);
  client[Symbol.dispose]();
  await relay.stop();
});

Deno.test("a call whose caller has given up is not made later", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const relay = await TaskRelay.open(options(path));
  using client = await TtrpcClient.connect(relay.socket);
  const late = client.call(start, { id: "late" }, { timeoutMs: 150 });
  await assert.rejects(late, { code: "DeadlineExceeded" });
  // The relay counts for itself, and looks at intervals.
  await new Promise((resolve) => setTimeout(resolve, 200));
  const seen: string[] = [];
  await using _next = await counting(options(path).server, seen);
  assert.equal((await client.call(state, { id: "c" })).id, "c");
  assert.deepEqual(seen, ["state c"]);
  client[Symbol.dispose]();
  await relay.stop();
});

Deno.test("more containers than a process has descriptors by default are relayed", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const relay = await TaskRelay.open(options(path));
  await using _server = await sandboxer(options(path).server, "own");
  using clients = new DisposableStack();
  for (let i = 0; i < 700; i++) {
    const client = clients.use(await TtrpcClient.connect(relay.socket));
    assert.equal((await client.call(state, { id: `c${i}` })).id, `c${i}`);
  }
  clients.dispose();
  await relay.stop();
});

Deno.test("a relay that dies is replaced, and the new one serves", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const relay = await TaskRelay.open(options(path));
  await using _server = await sandboxer(options(path).server, "own");
  const { identity } = relay;
  await launcher.kill(identity);
  await until("another relay", () => relay.identity.pid !== identity.pid);
  using client = await TtrpcClient.connect(relay.socket);
  assert.equal((await client.call(state, { id: "c" })).bundle, "own");
  client[Symbol.dispose]();
  await relay.stop();
  assert.equal(await launcher.alive(relay.identity), false);
});

Deno.test("a relay that was left for another configuration is ended", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const first = await TaskRelay.open(options(path));
  first.release();
  const other = { ...options(path), server: `${path}/other.sock` };
  const second = await TaskRelay.open(other);
  await using _server = await sandboxer(other.server, "other");
  assert.equal(await launcher.alive(first.identity), false);
  using client = await TtrpcClient.connect(second.socket);
  assert.equal((await client.call(state, { id: "c" })).bundle, "other");
  client[Symbol.dispose]();
  await second.stop();
});

Deno.test("what a dead relay left is taken over", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const first = await TaskRelay.open(options(path));
  first.release();
  await launcher.kill(first.identity);
  assert.notEqual(await note(path), "");
  assert.ok((await Deno.lstat(first.socket)).isSocket);
  const second = await TaskRelay.open(options(path));
  assert.equal(((await Deno.lstat(second.socket)).mode ?? 0) & 0o777, 0o600);
  await second.stop();
});

Deno.test("a socket of somebody else, and a file, are left alone", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  using _taken = Deno.listen({ transport: "unix", path: `${path}/task.sock` });
  await assertFails(TaskRelay.open(options(path)), "AlreadyExists", /another process serves it/);
  await Deno.writeTextFile(`${path}/file`, "mine");
  const file = { ...options(path), listen: `${path}/file` };
  await assertFails(TaskRelay.open(file), "FailedPrecondition", /a file that is no socket/);
  assert.equal(await Deno.readTextFile(`${path}/file`), "mine");
});

Deno.test("a socket whose owner takes no more connections is somebody else's", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const relay = await TaskRelay.open(options(path));
  using connections = new DisposableStack();
  Deno.kill(relay.identity.pid, "SIGSTOP");
  try {
    for (let i = 0; i < 1_000; i++) {
      connections.use(await Deno.connect({ transport: "unix", path: relay.socket }));
    }
    assert.fail("it takes connections without end");
  } catch (error) {
    assert.ok(!(error instanceof assert.AssertionError), `${error}`);
  }
  const args = ["relay", relay.socket, `${path}/other.sock`];
  await assertFails(
    startResident(launcher.path, args, "cannot start"),
    "AlreadyExists",
    /serves it/,
  );
  Deno.kill(relay.identity.pid, "SIGCONT");
  connections.dispose();
  await relay.stop();
});

Deno.test("the relay has no rights", async () => {
  await using directory = await runDirectory();
  const relay = await TaskRelay.open(options(directory.path));
  const read = () => Deno.readTextFile(`/proc/${relay.identity.pid}/status`);
  // It gives them up between saying that it has started and its first connection.
  await until("it to give up its rights", async () => /^NoNewPrivs:\s+1$/m.test(await read()));
  const status = await read();
  assert.match(status, /^Name:\s+quasaur-relay$/m);
  assert.match(status, /^CapEff:\s+0000000000000000$/m);
  assert.match(status, /^CapBnd:\s+0000000000000000$/m);
  assert.match(status, /^NoNewPrivs:\s+1$/m);
  await relay.stop();
});
