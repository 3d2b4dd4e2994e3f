/**
 * The relay between containerd and the sandboxer, for pods with a process of their own: what happens
 * to calls when the sandboxer goes away in the middle of them. Here a small server stands in for the
 * sandboxer, and a client for containerd.
 *
 * @module
 */

import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import {
  StateResponseSchema,
  Task,
  WaitResponseSchema,
} from "../proto/gen/containerd/task/v3/shim_pb.ts";
import type { SandboxHandle } from "../sandboxers/lifecycle/driver.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { noLog } from "../sandboxers/log.ts";
import { sandboxSpec, signal, system } from "../sandboxers/wasm/fixture.ts";
import { ProcessPods } from "../sandboxers/wasm/pod_process/process_pods.ts";
import { REFUSED_CALLS } from "../task/testing/refused_calls.ts";
import { TtrpcClient } from "../task/ttrpc/client.ts";
import { TtrpcServer } from "../task/ttrpc/server.ts";
import { podProcesses } from "./support/pod_processes.ts";
import { waitFor } from "./support/wait.ts";

/** A frame without data. */
const HELLO_BYTES = 10;

/** A pod with its relay, and the server that the relay looks for. */
class World implements AsyncDisposable {
  /** Requests that the servers have got, by method and id, in order. */
  readonly seen: string[] = [];
  /** What a `wait` resolves with; until then it stays open. */
  readonly end = Promise.withResolvers<number>();
  #server: TtrpcServer | undefined;

  private constructor(
    readonly directory: string,
    readonly pod: SandboxHandle,
    readonly id: string,
  ) {}

  static async start(): Promise<World> {
    const directory = await Deno.makeTempDir({ prefix: "quasaur-relay-" });
    const id = `relay-${crypto.randomUUID().slice(0, 8)}`;
    const pods = new ProcessPods({
      directory: `${directory}/processes`,
      podDirectory: `${directory}/pods`,
      taskSocket: `${directory}/task.sock`,
      system,
      log: noLog,
    });
    return new World(directory, await pods.start(sandboxSpec({ id }), signal), id);
  }

  /** Starts a server; its `wait` waits for {@link World.end}. */
  async serve(): Promise<void> {
    const server = new TtrpcServer({ log: noLog });
    server.add(Task, {
      ...REFUSED_CALLS,
      state: ({ id }) => {
        this.seen.push(`state ${id}`);
        return create(StateResponseSchema, { id, pid: 42 });
      },
      wait: async ({ id }, { signal }) => {
        this.seen.push(`wait ${id}`);
        const gone = Promise.withResolvers<never>();
        const leaving = new SandboxError("Unavailable", "the sandboxer is leaving");
        signal.addEventListener("abort", () => gone.reject(leaving));
        const exitStatus = await Promise.race([this.end.promise, gone.promise]);
        return create(WaitResponseSchema, { exitStatus });
      },
      kill: ({ id }) => {
        this.seen.push(`kill ${id}`);
        return create(EmptySchema);
      },
    });
    await server.listen(`${this.directory}/task.sock`);
    this.#server = server;
  }

  /** Ends the server in good order: it answers what is open before its connections end. */
  async drop(): Promise<void> {
    await this.#server?.close(100);
    this.#server = undefined;
  }

  /** Takes one connection with one request, and then ends without a word, as a death does. */
  async takeAndDie(): Promise<void> {
    const path = `${this.directory}/task.sock`;
    using listener = Deno.listen({ transport: "unix", path });
    using connection = await listener.accept();
    // Behind the relay's hello.
    for (let taken = 0; taken <= HELLO_BYTES;) {
      const count = await connection.read(new Uint8Array(1000));
      assert.ok(count !== null, "the relay has closed its connection");
      taken += count;
    }
  }

  connect(): Promise<TtrpcClient> {
    return TtrpcClient.connect(this.pod.taskSocket ?? "");
  }

  async until(what: string): Promise<void> {
    await waitFor(`"${what}" to be seen`, () => this.seen.includes(what));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pod.stop(0);
    await this.drop();
    await waitFor("the relay to end", async () => !(await podProcesses()).relays.has(this.id), {
      timeoutMs: 45_000,
    });
    await Deno.remove(this.directory, { recursive: true });
  }
}

const { state, wait, kill } = Task.method;

Deno.test("calls go to the sandboxer and answers come back, on many connections", async () => {
  await using world = await World.start();
  await world.serve();
  const clients = await Promise.all(Array.from({ length: 20 }, () => world.connect()));
  const calls = clients.flatMap((client, index) =>
    Array.from({ length: 20 }, async (_, number) => {
      const id = `${index}-${number}-${"x".repeat(number * 1000)}`;
      assert.equal((await client.call(state, { id })).id, id);
    })
  );
  await Promise.all(calls);
  assert.equal(world.seen.length, 400);
  for (const client of clients) client[Symbol.dispose]();
});

Deno.test("an open wait outlives the sandboxer, however it goes, and is answered by the next", async () => {
  await using world = await World.start();
  await world.serve();
  using client = await world.connect();
  const waiting = client.call(wait, { id: "c" });
  for (let restarts = 0; restarts < 3; restarts++) {
    await waitFor("the wait", () => world.seen.filter((it) => it === "wait c").length > restarts);
    await world.drop();
    await world.serve();
  }
  await waitFor("the wait", () => world.seen.filter((it) => it === "wait c").length === 4);
  world.end.resolve(7);
  assert.equal((await waiting).exitStatus, 7);
  assert.ok(client.connected);
});

Deno.test("a call of which nobody knows whether it was done is Unavailable, and is not repeated", async () => {
  await using world = await World.start();
  const taken = world.takeAndDie();
  using client = await world.connect();
  const killing = client.call(kill, { id: "c" });
  killing.catch(() => undefined);
  await taken;
  await assert.rejects(killing, (error) => {
    return error instanceof SandboxError && error.code === "Unavailable" &&
      /not known whether this was done/.test(error.message);
  });
  await world.serve();
  assert.equal((await client.call(state, { id: "after" })).id, "after");
  assert.deepEqual(world.seen, ["state after"]);
});

Deno.test("calls that come while there is no sandboxer wait for it", async () => {
  await using world = await World.start();
  using client = await world.connect();
  const asking = client.call(state, { id: "early" });
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.deepEqual(world.seen, []);
  await world.serve();
  assert.equal((await asking).id, "early");
});

Deno.test("garbage ends its connection, and the others are served", async () => {
  await using world = await World.start();
  await world.serve();
  using client = await world.connect();
  const path = world.pod.taskSocket ?? "";
  const garbage = [
    new Uint8Array(100).fill(0xff),
    new Uint8Array([0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0]),
    new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"),
    new Uint8Array([0, 0, 0]),
  ];
  for (const bytes of garbage) {
    using peer = await Deno.connect({ transport: "unix", path });
    await peer.write(bytes);
    if (bytes.length > 3) assert.equal(await peer.read(new Uint8Array(1)).catch(() => null), null);
  }
  assert.equal((await client.call(state, { id: "c" })).id, "c");
});

Deno.test("what was asked before the pod's process ended is still answered", async () => {
  await using world = await World.start();
  await world.serve();
  using client = await world.connect();
  const waiting = client.call(wait, { id: "c" });
  await world.until("wait c");
  Deno.kill(world.pod.pid, "SIGKILL");
  await world.pod.exited;
  world.end.resolve(137);
  assert.equal((await waiting).exitStatus, 137);
  await assert.rejects(world.connect());
});
