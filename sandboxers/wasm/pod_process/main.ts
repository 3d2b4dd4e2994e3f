/**
 * The process of one pod: the same driver as in the sandboxer, with one sandbox, called over a
 * socket. quasaur-launcher starts it and shuts it off from the rest of the machine; nobody else does.
 * What it is to run comes on standard input, the listening socket is descriptor 3.
 *
 * @module
 */

import type { SandboxHandle } from "../../lifecycle/driver.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { SandboxSpec } from "../../lifecycle/spec.ts";
import type { Log } from "../../log.ts";
import { Cgroups } from "../cgroups/cgroups.ts";
import { SystemCgroupFiles } from "../cgroups/files.ts";
import { WasmDriver } from "../driver.ts";
import { ISOLATION_ANNOTATION } from "../isolation.ts";
import { DEFAULT_LIBRARY_PATH } from "../native/library.ts";
import { AT_FDCWD, OPEN } from "../native/syscalls.ts";
import { System } from "../native/system.ts";
import { openResidentEngine } from "../resident.ts";
import { decodeHello, HELLO_BYTES, PROTOCOL_VERSION, SOCKET_FILE } from "./hello.ts";
import { orphaned } from "./orphan.ts";
import { OwnProcess } from "./own_process.ts";
import { PassedTrees } from "./passed_trees.ts";
import { PodCgroups } from "./pod_cgroups.ts";
import { podLog } from "./pod_log.ts";
import { type PodMessage, type PodStart, type PodStarted, toWire } from "./protocol.ts";
import { RemoteCompiled } from "./remote_compiled.ts";
import { PodServer } from "./server.ts";
import { UnixSockets } from "./sockets.ts";
import { Tickets } from "./tickets.ts";

/** The socket that the launcher left. */
const LISTENER = 3;
/** How long a caller may take to say who it is, in milliseconds. */
const HELLO_MS = 1_000;
/** Most bytes on standard input. */
const START_BYTES_MAX = 16_777_216;
/** How long the end of the guests of an orphan may take, in milliseconds. */
const ORPHAN_STOP_MS = 15_000;

/** Starts the pod and serves it until it is stopped. */
async function run(start: PodStart): Promise<Pod> {
  const system = new System(DEFAULT_LIBRARY_PATH);
  const own = new OwnProcess(system);
  own.refuseTracing();
  own.setName(`pod-${start.spec.id}`);
  const tickets = new Tickets((fd) => system.close(fd));
  let server: PodServer | undefined = undefined;
  const send = (message: PodMessage): void => server?.send(message);
  const log = podLog(start.logLevel, send);
  surviveStrayErrors(log);
  const connected = (): boolean => server?.connected === true;
  const compiled = new RemoteCompiled({ send, connected, tickets });
  const sandbox = await startSandbox(start, log, compiled);
  server = new PodServer({
    sandbox,
    tickets,
    log,
    onFound: (id, ticket) => compiled.onFound(id, ticket),
    onLogLevel: (level) => log.level = level,
    onStopped: () => Deno.exit(0),
  });
  return { start, system, own, tickets, server, sandbox, log };
}

/** The parts of this process. */
interface Pod {
  readonly start: PodStart;
  readonly system: System;
  readonly own: OwnProcess;
  readonly tickets: Tickets;
  readonly server: PodServer;
  readonly sandbox: SandboxHandle;
  readonly log: Log;
}

/** The driver with its one sandbox. */
async function startSandbox(
  { spec }: PodStart,
  log: Log,
  compiled: RemoteCompiled,
): Promise<SandboxHandle> {
  const engine = await openResidentEngine(log, compiled);
  const { system } = engine;
  const cgroups = new Cgroups({
    files: new SystemCgroupFiles(system, system.libraryPath),
    log,
    directory: PodCgroups.directoryName(spec.id),
  });
  const driver = new WasmDriver({ engine, system, log, cgroups, trees: new PassedTrees(system) });
  return await driver.start(asSeenFromInside(spec), new AbortController().signal);
}

/** The pod in this process: the launcher has put it into the pod's network, and it is isolated. */
function asSeenFromInside({ runtime: _, annotations, ...spec }: SandboxSpec): SandboxSpec {
  const others = Object.entries(annotations).filter(([name]) => name !== ISOLATION_ANNOTATION);
  return { ...spec, network: { kind: "host" }, annotations: Object.fromEntries(others) };
}

/** Takes connections for as long as this process lives. */
async function acceptAll({ system, tickets, server, log }: Pod): Promise<never> {
  const sockets = new UnixSockets(system.libraryPath, system);
  for (;;) {
    const fd = await sockets.accept(LISTENER, HELLO_MS);
    try {
      await greet(fd, { sockets, system, tickets, server });
    } catch (error) {
      system.close(fd);
      log.warn("a connection was refused", { error: SandboxError.from(error).message });
    }
  }
}

/** Reads who calls and what for. */
async function greet(
  fd: number,
  { sockets, system, tickets, server }: Pick<Pod, "system" | "tickets" | "server"> & {
    readonly sockets: UnixSockets;
  },
): Promise<void> {
  const { bytes, descriptors } = await sockets.receive(fd, HELLO_BYTES);
  const hello = decodeHello(bytes);
  if (hello?.version !== PROTOCOL_VERSION) {
    for (const descriptor of descriptors) system.close(descriptor);
    throw new SandboxError("InvalidArgument", "what came is no greeting of this version");
  }
  if (hello.kind === "descriptors") {
    tickets.add(hello.ticket, descriptors);
    system.close(fd);
    return;
  }
  for (const descriptor of descriptors) system.close(descriptor);
  system.setNonblocking(fd, true);
  server.connect(fd);
}

/** Ends when nobody will ever need this process again. */
async function endAsOrphan({ start, system, server, sandbox }: Pod): Promise<never> {
  const path = `${start.directory}/${SOCKET_FILE}`;
  await orphaned(() => {
    const fd = system.openAt(AT_FDCWD, path, OPEN.path, 0);
    if (fd >= 0) system.close(fd);
    const { connected, running } = server;
    return { connected, running, reachable: fd >= 0, now: performance.now() };
  });
  const late = new Promise<void>((resolve) => setTimeout(resolve, ORPHAN_STOP_MS));
  await Promise.race([sandbox.stop(0).catch(() => undefined), late]);
  Deno.exit(0);
}

async function readStart(): Promise<PodStart> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of Deno.stdin.readable) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > START_BYTES_MAX) {
      throw new SandboxError("InvalidArgument", "too much to read");
    }
  }
  const start: unknown = JSON.parse(text);
  if (isStart(start)) return start;
  throw new SandboxError("InvalidArgument", "there is nothing to run on standard input");
}

/** It comes from the sandboxer, which is trusted; it may only have ended in the middle of it. */
function isStart(value: unknown): value is PodStart {
  return typeof value === "object" && value !== null && "spec" in value && "directory" in value &&
    "logLevel" in value;
}

function tell(started: PodStarted): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(started)}\n`));
}

/** An error that nobody handled must not end what runs in the pod. */
function surviveStrayErrors(log: Log): void {
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    log.error("error that nobody handled", { error: event.reason });
  });
  globalThis.addEventListener("error", (event) => {
    event.preventDefault();
    log.error("error that nobody handled", { error: event.error });
  });
}

if (import.meta.main) {
  try {
    const pod = await run(await readStart());
    void acceptAll(pod);
    tell({ ready: true });
    pod.own.leaveStandardStreams();
    await endAsOrphan(pod);
  } catch (error) {
    tell({ ready: false, error: toWire(error) });
    Deno.exit(1);
  }
}
