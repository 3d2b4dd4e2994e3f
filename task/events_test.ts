import { create, type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { EmptySchema, timestampMs } from "@bufbuild/protobuf/wkt";
import assert from "node:assert/strict";
import { join } from "node:path";
import {
  TaskCreateSchema,
  TaskDeleteSchema,
  TaskExecAddedSchema,
  TaskExecStartedSchema,
  TaskExitSchema,
  TaskOOMSchema,
  TaskPausedSchema,
  TaskResumedSchema,
  TaskStartSchema,
} from "../proto/gen/containerd/events/task_pb.ts";
import { Events } from "../proto/gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import type { Envelope } from "../proto/gen/containerd/types/types_pb.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import type { LifecycleEvent } from "../sandboxers/lifecycle/events.ts";
import type { ContainerSpec, Exit } from "../sandboxers/lifecycle/spec.ts";
import { envelopeOf } from "./event_messages.ts";
import { EventPublisher, type EventPublisherOptions } from "./events.ts";
import type { Call } from "./ttrpc/call.ts";
import { TtrpcServer } from "./ttrpc/server.ts";

const BASE = { namespace: "k8s.io", sandboxId: "sb1", at: 1_700_000_000_456 } as const;
const EXIT: Exit = { status: 3, at: 1_700_000_000_123, reason: "exited" };
const STDIO = {
  stdin: { kind: "null" },
  stdout: { kind: "path", path: "/run/out" },
  stderr: { kind: "fd", fd: 2 },
  terminal: true,
} as const;
const PROCESS = {
  args: ["a"],
  env: [],
  cwd: "/",
  user: { uid: 0, gid: 0, additionalGids: [] },
} as const;
const SPEC: ContainerSpec = {
  id: "c1",
  sandboxId: "sb1",
  bundle: "/run/bundle",
  rootfs: {
    kind: "mounts",
    target: "/run/bundle/rootfs",
    mounts: [{ type: "overlay", source: "overlay", options: ["lowerdir=/a"] }],
  },
  readonlyRootfs: false,
  process: PROCESS,
  mounts: [],
  stdio: STDIO,
  resources: {},
  annotations: {},
};

function exited(pid: number): LifecycleEvent {
  return { ...BASE, kind: "process-exited", containerId: "c1", execId: "", pid, exit: EXIT };
}

/** Unpacks an event, having checked its envelope. */
function unpack<D extends DescMessage>(
  event: LifecycleEvent,
  topic: string,
  schema: D,
): MessageShape<D> {
  const envelope = envelopeOf(event);
  assert.equal(envelope?.topic, topic);
  assert.equal(envelope?.namespace, "k8s.io");
  assert.equal(envelope?.timestamp && timestampMs(envelope.timestamp), BASE.at);
  assert.equal(envelope?.event?.typeUrl, schema.typeName);
  return fromBinary(schema, envelope?.event?.value ?? new Uint8Array());
}

Deno.test("a container's creation is told with its mounts and streams", () => {
  const event: LifecycleEvent = {
    ...BASE,
    kind: "container-created",
    containerId: "c1",
    spec: SPEC,
  };
  const message = unpack(event, "/tasks/create", TaskCreateSchema);
  assert.deepEqual([message.containerId, message.bundle], ["c1", "/run/bundle"]);
  const [mount] = message.rootfs;
  assert.deepEqual([mount?.type, mount?.source, mount?.options], [
    "overlay",
    "overlay",
    ["lowerdir=/a"],
  ]);
  const { io } = message;
  assert.deepEqual([io?.stdin, io?.stdout, io?.stderr, io?.terminal], ["", "/run/out", "", true]);
});

Deno.test("starts, exits and the rest have their topics and fields", () => {
  const process = { ...BASE, containerId: "c1", pid: 9 };
  const start = unpack(
    { ...process, kind: "process-started", execId: "" },
    "/tasks/start",
    TaskStartSchema,
  );
  assert.deepEqual([start.containerId, start.pid], ["c1", 9]);
  const exec = unpack(
    { ...process, kind: "process-started", execId: "e1" },
    "/tasks/exec-started",
    TaskExecStartedSchema,
  );
  assert.deepEqual([exec.containerId, exec.execId, exec.pid], ["c1", "e1", 9]);
  const exit = unpack(exited(9), "/tasks/exit", TaskExitSchema);
  assert.deepEqual([exit.containerId, exit.id, exit.pid, exit.exitStatus], ["c1", "c1", 9, 3]);
  assert.equal(exit.exitedAt && timestampMs(exit.exitedAt), EXIT.at);
  const execExit = unpack(
    { ...process, kind: "process-exited", execId: "e1", exit: EXIT },
    "/tasks/exit",
    TaskExitSchema,
  );
  assert.deepEqual([execExit.containerId, execExit.id], ["c1", "e1"]);
  const deleted = unpack(
    { ...process, kind: "process-deleted", execId: "", exit: EXIT },
    "/tasks/delete",
    TaskDeleteSchema,
  );
  assert.deepEqual([deleted.containerId, deleted.pid, deleted.exitStatus], ["c1", 9, 3]);
  const spec = { id: "e1", process: PROCESS, stdio: STDIO };
  const added = unpack(
    { ...BASE, kind: "exec-added", containerId: "c1", spec },
    "/tasks/exec-added",
    TaskExecAddedSchema,
  );
  assert.deepEqual([added.containerId, added.execId], ["c1", "e1"]);
  for (
    const [kind, topic, schema] of [
      ["container-oom", "/tasks/oom", TaskOOMSchema],
      ["container-paused", "/tasks/paused", TaskPausedSchema],
      ["container-resumed", "/tasks/resumed", TaskResumedSchema],
    ] as const
  ) {
    assert.equal(unpack({ ...BASE, kind, containerId: "c1" }, topic, schema).containerId, "c1");
  }
});

Deno.test("sandboxes and deleted execs have no task event", () => {
  assert.equal(envelopeOf({ ...BASE, kind: "sandbox-created" }), undefined);
  assert.equal(envelopeOf({ ...BASE, kind: "sandbox-stopped", exit: EXIT }), undefined);
  const deleted = { ...BASE, kind: "process-deleted", containerId: "c1", pid: 1, exit: EXIT };
  assert.equal(envelopeOf({ ...deleted, kind: "process-deleted", execId: "e1" }), undefined);
});

interface World extends AsyncDisposable {
  readonly address: string;
  readonly warnings: string[];
  /** Pids of the exits that containerd was told, in order. */
  readonly told: number[];
  publisher(options?: Partial<EventPublisherOptions>): EventPublisher;
  /** Starts containerd's events service; the handler may throw or wait. */
  serve(handler?: (call: Call, envelope: Envelope) => unknown): Promise<TtrpcServer>;
  /** Waits until containerd was told a number of exits. */
  until(count: number): Promise<void>;
}

async function startWorld(): Promise<World> {
  const dir = await Deno.makeTempDir({ prefix: "quasaur-events-" });
  const address = join(dir, "containerd.sock.ttrpc");
  const cleanUp = new AsyncDisposableStack();
  cleanUp.defer(() => Deno.remove(dir, { recursive: true }));
  const warnings: string[] = [];
  const told: number[] = [];
  return {
    address,
    warnings,
    told,
    publisher: (options) =>
      cleanUp.use(
        new EventPublisher({
          address,
          log: { warn: (text, fields) => void warnings.push(`${text} ${JSON.stringify(fields)}`) },
          backoffMs: { first: 1, longest: 4 },
          flushMs: 500,
          ...options,
        }),
      ),
    serve: async (handler = () => undefined) => {
      const server = cleanUp.use(new TtrpcServer());
      server.add(Events, {
        forward: async ({ envelope }, call) => {
          assert.ok(envelope?.event !== undefined);
          await handler(call, envelope);
          told.push(fromBinary(TaskExitSchema, envelope.event.value).pid);
          return create(EmptySchema);
        },
      });
      await server.listen(address);
      return server;
    },
    until: async (count) => {
      while (told.length < count) await new Promise((resolve) => setTimeout(resolve, 1));
    },
    [Symbol.asyncDispose]: () => cleanUp.disposeAsync(),
  };
}

function upTo(count: number, first = 0): number[] {
  return Array.from({ length: count }, (_, index) => first + index);
}

Deno.test("events arrive in order, one at a time, with their namespace", async () => {
  await using world = await startWorld();
  let inFlight = 0;
  await world.serve(async (call, envelope) => {
    assert.equal(inFlight, 0, "one at a time");
    assert.equal(call.metadata("containerd-namespace-ttrpc"), "k8s.io");
    assert.equal(envelope.namespace, "k8s.io");
    inFlight += 1;
    await new Promise((resolve) => setTimeout(resolve, 1));
    inFlight -= 1;
  });
  const publisher = world.publisher();
  for (const pid of upTo(50)) publisher.publish(exited(pid));
  await world.until(50);
  assert.deepEqual(world.told, upTo(50));
  assert.deepEqual(world.warnings, []);
});

Deno.test("an event after a quiet time is sent too", async () => {
  await using world = await startWorld();
  await world.serve();
  const publisher = world.publisher();
  for (const pid of upTo(5)) {
    publisher.publish(exited(pid));
    await world.until(pid + 1);
  }
  assert.deepEqual(world.told, upTo(5));
});

Deno.test("events wait while containerd is away at the start", async () => {
  await using world = await startWorld();
  const publisher = world.publisher();
  for (const pid of upTo(20)) publisher.publish(exited(pid));
  while (world.warnings.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal(publisher.waiting, 20);
  await world.serve();
  await world.until(20);
  assert.deepEqual(world.told, upTo(20));
  const away = world.warnings.filter((text) => text.includes("takes no events"));
  assert.equal(away.length, 1, "said once");
});

Deno.test("events survive a containerd that dies in the middle", async () => {
  await using world = await startWorld();
  const died = Promise.withResolvers<void>();
  const hang = new Promise<never>(() => undefined);
  const first = await world.serve(async (_call, envelope) => {
    const { pid } = fromBinary(TaskExitSchema, envelope.event?.value ?? new Uint8Array());
    if (pid < 10) return;
    died.resolve();
    await hang;
  });
  const publisher = world.publisher();
  for (const pid of upTo(30)) publisher.publish(exited(pid));
  await died.promise;
  await first.close();
  await world.serve();
  await world.until(30);
  assert.deepEqual(world.told, upTo(30), "none is lost, none is out of order");
});

Deno.test("a full queue drops the oldest and says how many", async () => {
  await using world = await startWorld();
  const publisher = world.publisher({ queueLength: 10 });
  for (const pid of upTo(1000)) publisher.publish(exited(pid));
  assert.equal(publisher.waiting, 10);
  await world.serve();
  await world.until(10);
  await publisher[Symbol.asyncDispose]();
  assert.deepEqual(world.told.slice(-10), upTo(10, 990));
  assert.match(world.warnings.join("\n"), /queue is full.*"queueLength":10/);
  // The one that was being sent when it was dropped may have arrived.
  const dropped = 1000 - world.told.length;
  assert.ok(dropped === 990 || dropped === 989, `${dropped}`);
  assert.match(world.warnings.join("\n"), new RegExp(`were dropped.*"count":${dropped}`));
});

Deno.test("an event that containerd refuses is left out", async () => {
  await using world = await startWorld();
  await world.serve((_call, envelope) => {
    const { pid } = fromBinary(TaskExitSchema, envelope.event?.value ?? new Uint8Array());
    if (pid === 1) throw new SandboxError("InvalidArgument", "no such topic");
  });
  const publisher = world.publisher();
  for (const pid of upTo(3)) publisher.publish(exited(pid));
  await world.until(2);
  assert.deepEqual(world.told, [0, 2]);
  assert.match(world.warnings.join("\n"), /cannot publish event.*no such topic/);
});

Deno.test("an event that is never answered is given up after some attempts", async () => {
  await using world = await startWorld();
  let attempts = 0;
  await world.serve(async (call, envelope) => {
    const { pid } = fromBinary(TaskExitSchema, envelope.event?.value ?? new Uint8Array());
    if (pid !== 0) return;
    attempts += 1;
    await new Promise((_, reject) =>
      call.signal.addEventListener("abort", () => reject(call.signal.reason))
    );
  });
  const publisher = world.publisher({ callTimeoutMs: 5 });
  publisher.publish(exited(0));
  publisher.publish(exited(1));
  await world.until(1);
  assert.deepEqual(world.told, [1]);
  assert.equal(attempts, 5);
});

Deno.test("the end sends what waits, takes no more and is the same for all who ask", async () => {
  await using world = await startWorld();
  await world.serve();
  const publisher = world.publisher({ flushMs: 60_000 });
  for (const pid of upTo(100)) publisher.publish(exited(pid));
  const closing = [publisher[Symbol.asyncDispose](), publisher[Symbol.asyncDispose]()];
  publisher.publish(exited(7777));
  await Promise.all(closing);
  assert.deepEqual(world.told, upTo(100));
});

Deno.test("the end does not wait for a containerd that is away or hangs", async () => {
  await using world = await startWorld();
  const away = world.publisher({ flushMs: 10, backoffMs: { first: 60_000, longest: 60_000 } });
  away.publish(exited(1));
  await away[Symbol.asyncDispose]();
  assert.match(world.warnings.join("\n"), /were not published.*"count":1/);
  const called = Promise.withResolvers<void>();
  await world.serve(async () => {
    called.resolve();
    await new Promise(() => undefined);
  });
  const hanging = world.publisher({ flushMs: 10 });
  hanging.publish(exited(1));
  await called.promise;
  await hanging[Symbol.asyncDispose]();
  assert.equal(hanging.waiting, 0);
});

Deno.test("a publisher that was never used ends at once", async () => {
  await using world = await startWorld();
  await world.publisher({ flushMs: 60_000 })[Symbol.asyncDispose]();
  assert.deepEqual(world.warnings, []);
});
