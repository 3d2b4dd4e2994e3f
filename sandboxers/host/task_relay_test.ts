/**
 * The resident relay: it outlives sandboxers, is found again, and goes when nobody needs it.
 *
 * @module
 */

import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import {
  StateResponseSchema,
  Task,
  WaitResponseSchema,
} from "../../proto/gen/containerd/task/v3/shim_pb.ts";
import { TtrpcClient } from "../../task/ttrpc/client.ts";
import { TtrpcServer } from "../../task/ttrpc/server.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import { noLog } from "../log.ts";
import { TaskRelay } from "./task_relay.ts";
import { assertFails, launcher, runDirectory, until } from "./testing/fixture.ts";

const refuse = (): never => {
  throw new SandboxError("Unimplemented", "not in this test");
};
const OTHERS = {
  create: refuse,
  start: refuse,
  delete: refuse,
  pids: refuse,
  pause: refuse,
  resume: refuse,
  checkpoint: refuse,
  kill: refuse,
  exec: refuse,
  resizePty: refuse,
  closeIO: refuse,
  update: refuse,
  stats: refuse,
  connect: refuse,
  shutdown: refuse,
};
const { state, wait } = Task.method;

/** A stand-in for a sandboxer: it answers `state` with its name, and `wait` when it is told to. */
async function sandboxer(path: string, name: string, end?: Promise<number>) {
  const server = new TtrpcServer({ log: noLog });
  server.add(Task, {
    ...OTHERS,
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
