/**
 * The pod process's side of the protocol: does to one sandbox what the sandboxer calls for, and tells
 * of exits. One sandboxer at a time is connected; a new one takes the place of the old. What happens
 * while none is connected is kept and told to the next.
 *
 * @module
 */

import type { ContainerHandle, ProcessHandle, SandboxHandle } from "../../lifecycle/driver.ts";
import { abortError, SandboxError } from "../../lifecycle/errors.ts";
import type { ContainerSpec, ExecSpec, Exit, StdioSpec } from "../../lifecycle/spec.ts";
import type { Log, LogLevel } from "../../log.ts";
import { Channel } from "./channel.ts";
import { placeContainer, placeExec } from "./passed_files.ts";
import {
  type Answers,
  type PodMessage,
  type ProcessState,
  type Request,
  type SandboxerMessage,
  toWire,
} from "./protocol.ts";
import type { PassedDescriptors, Tickets } from "./tickets.ts";

/** Execs of one container that have ended and are still told to the next sandboxer. */
const ENDED_EXECS_MAX = 1_024;

/** A container that was made. */
interface ServedContainer {
  readonly handle: ContainerHandle;
  paused: boolean;
  /** Descriptors that it needs as long as it is there. */
  readonly files: PassedDescriptors;
  /** Those of them that are streams of its init process. */
  readonly streams: readonly number[];
  /** Its processes by their numbers, in the order in which they were started. */
  readonly processes: Map<number, ServedProcess>;
}

/** A process that was started. */
interface ServedProcess {
  readonly state: ProcessState;
  readonly handle: ProcessHandle;
  exit?: Exit;
}

/** What a {@link PodServer} works with. */
export interface PodServerOptions {
  /** The sandbox. */
  readonly sandbox: SandboxHandle;
  /** Descriptors that have arrived. */
  readonly tickets: Tickets;
  /** Hears of an answer to a `find`. */
  readonly onFound: (id: number, ticket: number) => void;
  /** Where calls are told. */
  readonly log: Pick<Log, "debug">;
  /** Hears what is to be logged from now on. */
  readonly onLogLevel: (level: LogLevel) => void;
  /** The sandbox was stopped and its caller told: the process ends. */
  readonly onStopped: () => void;
}

/** Serves one sandbox. */
export class PodServer {
  readonly #options: PodServerOptions;
  readonly #containers = new Map<string, ServedContainer>();
  readonly #calls = new Map<number, AbortController>();
  #channel: Channel | undefined;
  #lastProcess = 0;

  /**
   * Serves nobody yet.
   *
   * @param options See {@link PodServerOptions}.
   */
  constructor(options: PodServerOptions) {
    this.#options = options;
  }

  /** Whether a sandboxer is connected. */
  get connected(): boolean {
    return this.#channel !== undefined;
  }

  /** How many processes run. */
  get running(): number {
    const processes = [...this.#containers.values()].flatMap((it) => [...it.processes.values()]);
    return processes.filter(({ exit }) => exit === undefined).length;
  }

  /**
   * Takes a connection over.
   *
   * @param fd Connected and non-blocking; its hello has been read.
   */
  connect(fd: number): void {
    this.#channel?.close("another sandboxer has connected");
    this.#calls.clear();
    const channel = new Channel(fd, {
      onValue: (value) => this.#onMessage(channel, value),
      onClose: () => {
        if (this.#channel !== channel) return;
        this.#channel = undefined;
        for (const call of this.#calls.values()) call.abort(new SandboxError("Cancelled", "gone"));
        this.#calls.clear();
      },
    });
    this.#channel = channel;
    this.send(this.#state());
  }

  /** Tells the sandboxer something, if one is connected. */
  send(message: PodMessage): void {
    this.#channel?.send(message);
  }

  #state(): PodMessage {
    const processes: ProcessState[] = [];
    for (const container of this.#containers.values()) {
      for (const { state, exit } of container.processes.values()) {
        processes.push(exit === undefined ? state : { ...state, exit });
      }
    }
    return {
      kind: "state",
      containers: [...this.#containers].map(([id, { paused }]) => ({ id, paused })),
      processes,
      lastProcess: this.#lastProcess,
    };
  }

  /** The other side is the sandboxer, which is trusted; what it says is only read, not checked. */
  #onMessage(channel: Channel, value: unknown): void {
    if (!isSandboxerMessage(value)) {
      channel.close("what came is no message");
      return;
    }
    switch (value.kind) {
      case "call":
        return void this.#answer(channel, value.id, value.request);
      case "cancel":
        return this.#calls.get(value.id)?.abort(new DOMException("cancelled", "AbortError"));
      case "found":
        return this.#options.onFound(value.id, value.ticket);
    }
  }

  async #answer(channel: Channel, id: number, request: Request): Promise<void> {
    const abort = new AbortController();
    this.#calls.set(id, abort);
    this.#options.log.debug("called by the sandboxer", { call: request.call });
    let message: PodMessage;
    try {
      message = { kind: "answer", id, value: await this.#do(request, abort.signal) };
    } catch (error) {
      message = { kind: "refusal", id, error: toWire(error) };
    }
    this.#calls.delete(id);
    channel.send(message);
    if (request.call !== "stop" || message.kind !== "answer") return;
    await channel.flushed();
    this.#options.onStopped();
  }

  async #do(request: Request, signal: AbortSignal): Promise<Answers[Request["call"]]> {
    switch (request.call) {
      case "create-container":
        return await this.#create(request.spec, request.ticket, signal);
      case "start":
        return await this.#start(request.container, request.process, signal);
      case "exec":
        return await this.#exec(request, signal);
      case "kill":
        return await this.#process(request.process)?.handle.kill(request.signal) ?? null;
      case "close-stdin":
        return await this.#process(request.process)?.handle.closeStdin() ?? null;
      case "pids":
        return await this.#container(request.container).handle.pids();
      case "stats":
        return await this.#container(request.container).handle.stats();
      case "pause":
      case "resume":
        return await this.#freeze(request.container, request.call === "pause");
      case "update":
        return await this.#container(request.container).handle.update?.(request.resources) ?? null;
      case "delete":
        return await this.#delete(request.container);
      case "update-sandbox":
        return await this.#options.sandbox.update?.(request.resources) ?? null;
      case "sandbox-stats":
        return await this.#options.sandbox.stats();
      case "log-level":
        this.#options.onLogLevel(request.level);
        return null;
      case "stop":
        return await this.#stop(request.graceMs);
    }
  }

  async #create(spec: ContainerSpec, ticket: number, signal: AbortSignal): Promise<null> {
    using files = await this.#options.tickets.take(ticket);
    if (this.#containers.has(spec.id)) {
      throw new SandboxError("AlreadyExists", `container "${spec.id}" is there already`);
    }
    const placed = placeContainer(spec, files.descriptors);
    const handle = await this.#options.sandbox.createContainer(placed, signal);
    if (signal.aborted) {
      // Nobody waits for it any more, so nobody will delete it.
      await handle.delete();
      throw abortError(signal, `cannot create container "${spec.id}"`);
    }
    this.#containers.set(spec.id, {
      handle,
      paused: false,
      files: files.move(),
      streams: streamDescriptors(placed.stdio),
      processes: new Map(),
    });
    return null;
  }

  async #start(id: string, process: number, signal: AbortSignal): Promise<number> {
    const container = this.#container(id);
    const handle = await container.handle.start(signal);
    // Whoever reads its output reads the end of it once all that have it open for writing are gone.
    void handle.exited.then(() => container.streams.forEach((fd) => container.files.close(fd)));
    return this.#follow(container, { container: id, execId: "", process, pid: handle.pid }, handle);
  }

  async #exec(
    { container: id, process, spec, ticket }: {
      readonly container: string;
      readonly process: number;
      readonly spec: ExecSpec;
      readonly ticket: number;
    },
    signal: AbortSignal,
  ): Promise<number> {
    using files = await this.#options.tickets.take(ticket);
    const container = this.#container(id);
    if (container.handle.exec === undefined) {
      throw new SandboxError("Unimplemented", `cannot exec in container "${id}": it has no exec`);
    }
    const handle = await container.handle.exec(placeExec(spec, files.descriptors), signal);
    const kept = files.move();
    void handle.exited.then(() => kept[Symbol.dispose]());
    const state = { container: id, execId: spec.id, process, pid: handle.pid };
    return this.#follow(container, state, handle);
  }

  /** Tells of the exit once the answer of the start is out. */
  #follow(container: ServedContainer, state: ProcessState, handle: ProcessHandle): number {
    const served: ServedProcess = { state, handle };
    container.processes.set(state.process, served);
    this.#lastProcess = Math.max(this.#lastProcess, state.process);
    void handle.exited.then((exit) => {
      served.exit = exit;
      this.send({ kind: "exit", process: state.process, exit });
      forgetOld(container);
    });
    return handle.pid;
  }

  async #freeze(id: string, paused: boolean): Promise<null> {
    const container = this.#container(id);
    await (paused ? container.handle.pause?.() : container.handle.resume?.());
    container.paused = paused;
    return null;
  }

  async #delete(id: string): Promise<null> {
    const container = this.#containers.get(id);
    if (container === undefined) return null;
    await container.handle.delete();
    container.files[Symbol.dispose]();
    this.#containers.delete(id);
    return null;
  }

  async #stop(graceMs: number): Promise<null> {
    await this.#options.sandbox.stop(graceMs);
    // The exits that this brought are told before it answers.
    const processes = [...this.#containers.values()].flatMap((it) => [...it.processes.values()]);
    await Promise.all(processes.map(({ handle }) => handle.exited));
    return null;
  }

  #container(id: string): ServedContainer {
    const container = this.#containers.get(id);
    if (container !== undefined) return container;
    throw new SandboxError("NotFound", `container "${id}" is not in the pod process`);
  }

  /** A process by its number; one that is not known any more has ended long ago. */
  #process(number: number): ServedProcess | undefined {
    for (const { processes } of this.#containers.values()) {
      const found = processes.get(number);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

/** The streams of a process that were passed as they were open, and are nobody else's. */
function streamDescriptors({ stdin, stdout, stderr }: StdioSpec): number[] {
  return [stdin, stdout, stderr].flatMap((stream) => stream.kind === "fd" ? [stream.fd] : []);
}

/** Execs come and go for as long as a container lives; the exits of the latest are kept. */
function forgetOld({ processes }: ServedContainer): void {
  const ended = [...processes.values()].filter(({ state, exit }) =>
    state.execId !== "" && exit !== undefined
  );
  for (const { state } of ended.slice(0, Math.max(0, ended.length - ENDED_EXECS_MAX))) {
    processes.delete(state.process);
  }
}

function isSandboxerMessage(value: unknown): value is SandboxerMessage {
  return typeof value === "object" && value !== null && "kind" in value && "id" in value &&
    typeof value.id === "number" && ["call", "cancel", "found"].includes(String(value.kind));
}
