/**
 * A pod with a process of its own, as the lifecycle sees it: every call goes to that process, every
 * exit comes from it. The process outlives this one; the next sandboxer finds it by the record.
 *
 * @module
 */

import type { AdoptedContainer, ContainerHandle, SandboxHandle } from "../../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import {
  type ContainerSpec,
  type Exit,
  type Json,
  KILLED_STATUS,
  type ResourceSpec,
  type SandboxSpec,
  type Stats,
} from "../../lifecycle/spec.ts";
import type { Log, LogLevel } from "../../log.ts";
import type { FileCalls } from "../files.ts";
import type { PodFiles } from "../pod_files.ts";
import { CompileWishes } from "./compile_wishes.ts";
import { type ConnectionCalls, PodConnection, type PodNews, type PodState } from "./connection.ts";
import type { LiveProcess, Processes } from "./live_process.ts";
import { passContainer } from "./passed_files.ts";
import type { Answers, Request } from "./protocol.ts";
import { RemoteContainer, RemoteProcess } from "./remote.ts";

/** How long a pod process may take to end after it has answered, and after SIGKILL. */
const LEAVE_MS = 5_000;
const KILL_MS = 10_000;
/** How often, and for how long, a connection that was lost is made anew. */
const RECONNECT_INTERVAL_MS = 100;
const RECONNECT_ATTEMPTS = 50;
/** What a stop may take beyond its grace. */
const STOP_MS = 20_000;

/** What process pods work with. */
export interface ProcessPodContext extends ConnectionCalls {
  /** Looks processes up. */
  readonly processes: Processes;
  /** Opens the files of containers. */
  readonly files: FileCalls;
  /** Finds compiled code and has it made; missing where there is none. */
  readonly compiled?: CompiledLookup;
  /** Where notes go. */
  readonly log: Log;
}

/** What {@link ProcessPod} needs of a cache of compiled modules; see ../compiled_modules.ts. */
export type CompiledLookup = ConstructorParameters<typeof CompileWishes>[1];

/** A running pod process and what there is of it outside. */
export interface PodProcess {
  /** The pod. */
  readonly spec: SandboxSpec;
  /** Its directory. */
  readonly directory: string;
  /** The process; disposed of with the pod. */
  readonly process: LiveProcess;
  /** Where task calls for it are taken, an absolute path. */
  readonly taskSocket: string;
  /** What its containers mount. */
  readonly files: PodFiles;
  /** Limits its memory; see pod_cgroups.ts. */
  limitMemory(bytes: number | undefined): void;
  /** Lets what is frozen of it go on, so that it can be killed. */
  thaw(): void;
  /** Whether the kernel has killed it for want of memory. */
  ranOutOfMemory(): boolean;
  /** Takes away what is left of it once it has ended: its directory, its cgroups. */
  remove(): Promise<void>;
}

/** A pod that runs in its own process. */
export class ProcessPod implements SandboxHandle {
  /** Its process. */
  readonly pid: number;
  /** What the next sandboxer needs to find the process. */
  readonly record: Json;
  /** The process does not end with this one. */
  readonly outlivesSandboxer = true;
  /** Calls there outlive this process too. */
  readonly taskSocket: string;
  readonly #context: ProcessPodContext;
  readonly #pod: PodProcess;
  readonly #exit = Promise.withResolvers<Exit>();
  readonly #processes = new Map<number, RemoteProcess>();
  readonly #wishes: CompileWishes;
  /** Rejects once the process has ended. */
  #connection: Promise<PodConnection>;
  #lastProcess = 0;
  #over = false;
  #stopping = false;

  private constructor(
    context: ProcessPodContext,
    pod: PodProcess,
    connect: (handle: ProcessPod) => Promise<PodConnection>,
  ) {
    const { pid, startTime } = pod.process.identity;
    this.#context = context;
    this.#pod = pod;
    this.pid = pid;
    this.taskSocket = pod.taskSocket;
    this.record = { isolation: "process", pid, startTime };
    this.#wishes = new CompileWishes(context.files.system, context.compiled);
    this.#connection = connect(this);
  }

  /**
   * Connects to a pod process.
   *
   * @param context See {@link ProcessPodContext}.
   * @param pod The process; the new object owns it.
   * @returns The pod and what the process has in it.
   * @throws {SandboxError} When it does not answer; then it is still the caller's.
   */
  static async connect(
    context: ProcessPodContext,
    pod: PodProcess,
  ): Promise<{ readonly handle: ProcessPod; readonly state: PodState }> {
    const first = Promise.withResolvers<PodState>();
    const handle = new ProcessPod(context, pod, (made) => made.#connect(first.resolve));
    const connection = await handle.#connection;
    void handle.#supervise(connection);
    return { handle, state: await first.promise };
  }

  /** Whether the process has ended. */
  get over(): boolean {
    return this.#over;
  }

  /** Settles when the process has ended. */
  get exited(): Promise<Exit> {
    return this.#exit.promise;
  }

  /** The containers that the process has, for recovery; those that nobody knows are deleted. */
  async adopt(
    state: PodState,
    known: ReadonlyMap<string, ContainerSpec>,
  ): Promise<Map<string, AdoptedContainer>> {
    const adopted = new Map<string, AdoptedContainer>();
    for (const { id, paused } of state.containers) {
      const spec = known.get(id);
      if (spec === undefined) {
        await this.call({ call: "delete", container: id });
        continue;
      }
      const own = state.processes.filter(({ container }) => container === id);
      // An exec may have had the id of an earlier one: the later counts.
      const processes = own.map(({ execId, process, pid, exit }): [string, RemoteProcess] => {
        const remote = this.#newProcess(process, pid);
        if (exit !== undefined) this.#processEnded(process, remote, exit);
        return [execId, remote];
      });
      adopted.set(id, { handle: this.#container(spec), paused, processes: new Map(processes) });
    }
    return adopted;
  }

  /** Makes a container ready to start. */
  async createContainer(spec: ContainerSpec, signal: AbortSignal): Promise<ContainerHandle> {
    throwIfAborted(signal, `cannot create container "${spec.id}"`);
    using files = passContainer(this.#context.files, spec, this.#pod.files.mountsFor(spec));
    const container = this.#container(spec);
    try {
      const ticket = await this.pass(files.descriptors);
      await this.call({ call: "create-container", spec: files.spec, ticket }, { signal });
      return container;
    } catch (error) {
      this.#wishes.remove(spec);
      throw error;
    }
  }

  /** Changes limits. */
  async update(resources: ResourceSpec): Promise<void> {
    await this.call({ call: "update-sandbox", resources });
    this.#pod.limitMemory(resources.memoryBytes);
  }

  /** What its containers use. */
  stats(): Promise<Stats> {
    return this.call({ call: "sandbox-stats" });
  }

  /** Changes what it logs from now on; one that does not answer goes on as it did. */
  async setLogLevel(level: LogLevel): Promise<void> {
    try {
      await this.call({ call: "log-level", level });
    } catch (error) {
      if (this.#over || this.#stopping) return;
      this.#context.log.warn("cannot change the log level of a pod process", {
        sandbox: this.#pod.spec.id,
        level,
        error: SandboxError.from(error),
      });
    }
  }

  /** Ends everything in it, the process, and what there is of it outside. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    const { process } = this.#pod;
    if (!this.#over && process.alive) {
      try {
        await this.call({ call: "stop", graceMs }, { timeoutMs: graceMs + STOP_MS });
        await process.ended(LEAVE_MS);
      } catch (error) {
        this.#context.log.warn("a pod process has to be killed", {
          sandbox: this.#pod.spec.id,
          error: SandboxError.from(error),
        });
      }
    }
    this.#pod.thaw();
    await process.end(KILL_MS);
    await this.#pod.remove();
    this.#ended({ status: 0, at: Date.now(), reason: "exited" });
    process[Symbol.dispose]();
  }

  /** Calls the process; see {@link PodConnection.call}. A lost connection is waited for first. */
  async call<R extends Request>(
    request: R,
    options?: { readonly signal?: AbortSignal; readonly timeoutMs?: number },
  ): Promise<Answers[R["call"]]> {
    return await (await this.#connection).call(request, options);
  }

  /** Hands descriptors over; see {@link PodConnection.pass}. */
  async pass(descriptors: readonly number[]): Promise<number> {
    return (await this.#connection).pass(descriptors);
  }

  /**
   * Has a process started.
   *
   * @param start Calls for it, with the number that it gets.
   * @returns The process.
   */
  async startProcess(start: (process: number) => Promise<number>): Promise<RemoteProcess> {
    const number = ++this.#lastProcess;
    // Its exit may be told before the answer has been read.
    const process = this.#newProcess(number, 0);
    try {
      const tid = await start(number);
      // A process that lies about its threads must not point anybody at another one.
      process.pid = this.#context.processes.hasThread(this.pid, tid) ? tid : this.pid;
      return process;
    } catch (error) {
      this.#processes.delete(number);
      throw error;
    }
  }

  async #connect(hear: (state: PodState) => void): Promise<PodConnection> {
    const { connection, state } = await PodConnection.open(
      this.#context,
      this.#pod.directory,
      (news, from) => this.#onNews(news, from),
    );
    this.#lastProcess = Math.max(this.#lastProcess, state.lastProcess);
    hear(state);
    return connection;
  }

  #onNews(news: PodNews, from: PodConnection): void {
    const { log } = this.#context;
    switch (news.kind) {
      case "exit": {
        const process = this.#processes.get(news.process);
        if (process !== undefined) this.#processEnded(news.process, process, news.exit);
        return;
      }
      case "log":
        return log[news.level](news.message, { ...news.fields, sandbox: this.#pod.spec.id });
      case "find":
        return void this.#find(from, news.id, news.digest);
      case "compile":
        return void this.#wishes.compile(news.digest);
      case "reject":
        return this.#wishes.reject(news.digest);
    }
  }

  /** Answers with the descriptor of a verified file, or with none. */
  async #find(connection: PodConnection, id: number, digest: string): Promise<void> {
    let ticket = 0;
    try {
      const fd = await this.#wishes.find(digest);
      if (fd === undefined) return connection.found(id, 0);
      try {
        ticket = connection.pass([fd]);
      } finally {
        this.#context.system.close(fd);
      }
    } catch (error) {
      this.#context.log.warn("cannot hand compiled code over", {
        sandbox: this.#pod.spec.id,
        error: String(error),
      });
    }
    connection.found(id, ticket);
  }

  /** Has a connection for as long as the process lives, and tells when it does not any more. */
  async #supervise(first: PodConnection): Promise<void> {
    let connection: PodConnection | undefined = first;
    while (connection !== undefined) {
      const reason = await connection.closed;
      const next = this.#reconnect(reason);
      this.#connection = next;
      connection = await next.catch(() => undefined);
    }
    this.#died();
  }

  /**
   * The connection is lost: because the process has ended, or for another reason.
   *
   * @throws {SandboxError} `Unavailable` when the process has ended.
   */
  async #reconnect(reason: string): Promise<PodConnection> {
    const { process, spec } = this.#pod;
    const { log } = this.#context;
    const gone = `sandbox "${spec.id}" does not answer: its process ${this.pid} has ended`;
    for (let attempt = 0; attempt < RECONNECT_ATTEMPTS; attempt++) {
      if (await process.ended(RECONNECT_INTERVAL_MS)) throw new SandboxError("Unavailable", gone);
      // One that is being stopped closes its connection first.
      if (this.#stopping) continue;
      log.warn("connecting to a pod process again", { sandbox: spec.id, reason });
      try {
        return await this.#connect((state) => this.#catchUp(state));
      } catch {
        // It may be about to end, which the next round sees.
      }
    }
    log.error("killing a pod process that does not answer", { sandbox: spec.id, pid: this.pid });
    this.#pod.thaw();
    process.kill(9);
    await process.ended(KILL_MS);
    throw new SandboxError("Unavailable", gone);
  }

  /** What has happened while there was no connection. */
  #catchUp(state: PodState): void {
    const told = new Map(state.processes.map((it) => [it.process, it]));
    for (const [number, process] of this.#processes) {
      const found = told.get(number);
      const at = Date.now();
      const lost: Exit = { status: KILLED_STATUS, at, reason: "lost", message: "it was lost" };
      if (found === undefined) this.#processEnded(number, process, lost);
      else if (found.exit !== undefined) this.#processEnded(number, process, found.exit);
    }
  }

  /** The process has ended without being told to: all that ran in it has ended with it. */
  #died(): void {
    if (this.#stopping) return;
    const oom = this.#pod.ranOutOfMemory();
    this.#ended({
      status: KILLED_STATUS,
      at: Date.now(),
      reason: oom ? "oom" : "lost",
      message: oom
        ? "the pod ran out of memory: the kernel has killed its process"
        : `the process of the pod, ${this.pid}, has ended`,
    });
  }

  #ended(exit: Exit): void {
    if (this.#over) return;
    this.#over = true;
    const { at, message = "the pod was stopped" } = exit;
    const reason = exit.reason === "oom" ? "oom" : "lost";
    for (const [number, process] of this.#processes) {
      this.#processEnded(number, process, { status: KILLED_STATUS, at, reason, message });
    }
    this.#exit.resolve(exit);
  }

  #container(spec: ContainerSpec): RemoteContainer {
    this.#wishes.add(spec);
    return new RemoteContainer(this, spec, {
      system: this.#context.system,
      wishes: this.#wishes,
      onDelete: () => this.#wishes.remove(spec),
    });
  }

  #newProcess(number: number, pid: number): RemoteProcess {
    const process = new RemoteProcess(this, number, pid);
    this.#processes.set(number, process);
    return process;
  }

  #processEnded(number: number, process: RemoteProcess, exit: Exit): void {
    this.#processes.delete(number);
    process.end(exit);
  }
}
