/**
 * The double's task service: what Quark's does with calls, with the words that it answers with, and
 * refusing what does not follow its contract.
 *
 * Source: QuarkContainer/Quark qvisor/src/runc/shim/shim_task.rs and shim/container.rs.
 *
 * @module
 */

import { SandboxError } from "../../../sandboxers/lifecycle/errors.ts";
import type { Task } from "../../../proto/gen/containerd/task/v2/shim_pb.ts";
import { Status } from "../../../proto/gen/containerd/v1/types/task_pb.ts";
import { MetricsSchema } from "../../../proto/gen/io/containerd/cgroups/v1/metrics_pb.ts";
import { create, toBinary } from "@bufbuild/protobuf";
import type { ServiceHandlers } from "../../../task/ttrpc/services.ts";
import type { DoubleConfig } from "./double_config.ts";
import { HostProcess } from "./host_process.ts";
import { mountPoints, mountProc, unmountProc } from "./mounts.ts";
import { parseQuarkProcess, parseQuarkSpec, type QuarkSpecProcess } from "./quark_spec.ts";

const CONTAINER_ID = /^[\w+.-]+$/;
const TYPE_ANNOTATION = "io.kubernetes.cri.container-type";

/** What the service works for. */
export interface ServiceOptions {
  /** The sandbox's bundle: the root directory of Quark. */
  readonly bundle: string;
  /** The sandbox. */
  readonly id: string;
  /** What goes wrong. */
  readonly config: DoubleConfig;
}

interface Streams {
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly terminal: boolean;
}

class Process {
  status = Status.CREATED;
  exitStatus = 0;
  exitedAt: Date | undefined;
  running: HostProcess | undefined;
  readonly exited = Promise.withResolvers<void>();

  constructor(
    readonly spec: QuarkSpecProcess,
    readonly streams: Streams,
    readonly rootfs: string,
  ) {}

  async start(): Promise<void> {
    this.running = await HostProcess.start({
      ...this.streams,
      process: this.spec,
      rootfs: this.rootfs,
    });
    void this.running.ended.then((status) => {
      this.status = Status.STOPPED;
      this.exitStatus = status;
      this.exitedAt = new Date();
      this.exited.resolve();
    });
  }

  get timestamp() {
    const at = this.exitedAt?.getTime() ?? 0;
    return { seconds: BigInt(Math.floor(at / 1000)), nanos: (at % 1000) * 1_000_000 };
  }
}

interface Container {
  readonly init: Process;
  readonly execs: Map<string, Process>;
}

/** The containers of one sandbox. */
export class DoubleTasks {
  readonly #options: ServiceOptions;
  readonly #containers = new Map<string, Container>();

  /** Has no container yet. */
  constructor(options: ServiceOptions) {
    this.#options = options;
  }

  /** What is served. */
  handlers(): ServiceHandlers<typeof Task> {
    const empty = () => ({});
    return {
      state: this.#slow((request) => this.#state(request)),
      create: this.#slow(async (request) => {
        await this.#create(request);
        return { pid: Deno.pid };
      }),
      start: this.#slow((request) => this.#start(request)),
      delete: this.#slow((request) => this.#delete(request)),
      pids: this.#slow(({ id }) => {
        this.#container(id);
        throw unknown('Unimplemented("CommonContainer::pids")');
      }),
      pause: () => Promise.reject(notSupported("Pause")),
      resume: () => Promise.reject(notSupported("Resume")),
      checkpoint: () => Promise.reject(notSupported("Checkpoint")),
      kill: this.#slow((request) => this.#kill(request)),
      exec: this.#slow((request) => this.#exec(request)),
      resizePty: this.#slow(async ({ id, execId, width, height }) => {
        const process = this.#process(id, execId);
        if (!process.streams.terminal) throw unknown('Common("there is no console")');
        await process.running?.resize(width, height);
        return {};
      }),
      closeIO: empty,
      update: this.#slow(({ id, resources }) => {
        this.#container(id);
        JSON.parse(new TextDecoder().decode(resources?.value));
        throw unknown('Unimplemented("CommonContainer::pids")');
      }),
      wait: this.#slow(async ({ id, execId }) => {
        const process = this.#process(id, execId);
        if (process.status !== Status.STOPPED) await process.exited.promise;
        return { exitStatus: process.exitStatus, exitedAt: process.timestamp };
      }),
      stats: this.#slow(({ id }) => this.#stats(id)),
      connect: this.#slow(({ id }) => {
        this.#container(id);
        return { shimPid: Deno.pid, taskPid: Deno.pid };
      }),
      shutdown: empty,
    };
  }

  /** Adds what goes wrong with all calls. */
  #slow<I, O>(handle: (request: I) => O | Promise<O>): (request: I) => Promise<O> {
    return async (request) => {
      const { slowMs = 0, fault } = this.#options.config.Double ?? {};
      if (slowMs > 0) await new Promise((resolve) => setTimeout(resolve, slowMs));
      if (fault === "forgets") this.#containers.clear();
      try {
        return await handle(request);
      } catch (error) {
        if (error instanceof SandboxError) throw error;
        throw unknown(`Common("${error instanceof Error ? error.message : error}")`);
      }
    };
  }

  #state({ id, execId }: { id: string; execId: string }) {
    const { status, exitStatus, timestamp, streams } = this.#process(id, execId);
    return {
      id,
      execId,
      bundle: `/${id}`,
      pid: 123,
      status,
      exitStatus,
      exitedAt: timestamp,
      ...streams,
    };
  }

  async #create(request: Streams & { id: string; rootfs: readonly unknown[] }): Promise<void> {
    const { id } = request;
    if (!CONTAINER_ID.test(id)) throw new Error(`id ${id} is not valid`);
    if (id === this.#options.id) {
      throw new Error("contract: a container is called like its sandbox");
    }
    if (this.#containers.has(id)) throw new Error(`container with id ${id} already exists`);
    if (request.rootfs.length > 0) {
      throw new Error("contract: mounts of the host cannot be made here");
    }
    const bundle = `${this.#options.bundle}/${id}`;
    const spec = parseQuarkSpec(await Deno.readTextFile(`${bundle}/config.json`));
    if (spec.root.path !== "rootfs") throw new Error(`contract: root.path is ${spec.root.path}`);
    if (spec.process.args.length === 0) throw new Error("Spec.Process.Arg must be defined");
    if (spec.annotations[TYPE_ANNOTATION] !== "container") {
      throw new Error("contract: a container that is none of a sandbox is one itself");
    }
    const mounted = await mountPoints();
    if (!mounted.has(`${bundle}/rootfs`)) {
      throw new Error(
        `contract: no root file system is bound at /${id}/rootfs, as is seen in here`,
      );
    }
    for (const { destination, type } of spec.mounts) {
      if (type === "bind") throw new Error(`contract: the bind mount ${destination} is not made`);
      if (type === "cgroup") continue;
      const status = await Deno.stat(`${bundle}/rootfs${destination}`).catch(() => undefined);
      if (status?.isDirectory !== true) throw new Error(`contract: no directory ${destination}`);
    }
    const streams = this.#streams(id, "", request, mounted);
    const init = new Process(spec.process, streams, `${bundle}/rootfs`);
    if (spec.mounts.some(({ destination }) => destination === "/proc")) await mountProc(bundle);
    this.#containers.set(id, { init, execs: new Map() });
  }

  async #start({ id, execId }: { id: string; execId: string }) {
    const process = this.#process(id, execId);
    if (process.running !== undefined) {
      throw new Error(`cannot start container ${id} in state Running`);
    }
    await process.start();
    if (execId === "") {
      const { execs } = this.#container(id);
      // Nothing of a container outlives its first process.
      void process.exited.promise.then(() => {
        for (const exec of execs.values()) exec.running?.signal(9, true);
      });
    }
    // Of execs Quark does not take note that they run.
    if (execId === "" && !isStopped(process)) process.status = Status.RUNNING;
    return { pid: Deno.pid };
  }

  async #delete({ id, execId }: { id: string; execId: string }) {
    const container = this.#container(id);
    const process = this.#process(id, execId);
    if (execId === "") {
      for (const each of [container.init, ...container.execs.values()]) {
        each.running?.signal(9, true);
      }
    } else container.execs.delete(execId);
    if (process.exitedAt === undefined) {
      throw new Error("failed to get exit status from container");
    }
    if (execId === "") {
      this.#containers.delete(id);
      await unmountProc(`${this.#options.bundle}/${id}`);
    }
    return { pid: Deno.pid, exitStatus: process.exitStatus, exitedAt: process.timestamp };
  }

  #kill(request: { id: string; execId: string; signal: number; all: boolean }) {
    const { id, execId, signal, all } = request;
    const { init } = this.#container(id);
    if (isStopped(init)) throw notFound(`container ${id} exit already`);
    const process = this.#process(id, execId);
    if (isStopped(process)) throw notFound(`exec ${execId} of container ${id} exit already`);
    if (process.running === undefined) {
      throw new Error(`cannot signal container ${id} in state Created`);
    }
    process.running.signal(signal, all);
    return {};
  }

  async #exec(
    request: Streams & { id: string; execId: string; spec?: { value: Uint8Array } | undefined },
  ) {
    const { id, execId, spec } = request;
    const { execs } = this.#container(id);
    if (spec === undefined) throw new Error("no spec in request");
    const process = parseQuarkProcess(JSON.parse(new TextDecoder().decode(spec.value)));
    const streams = this.#streams(id, `${execId}-`, request, await mountPoints());
    execs.set(execId, new Process(process, streams, `${this.#options.bundle}/${id}/rootfs`));
    return {};
  }

  #stats(id: string) {
    this.#container(id);
    const metrics = create(
      MetricsSchema,
      this.#options.config.Double?.measures !== true ? {} : {
        cpu: { usage: { total: 5_000n } },
        memory: { usage: { usage: 9_000n }, totalInactiveFile: 1_000n },
        pids: { current: 3n },
      },
    );
    const value = toBinary(MetricsSchema, metrics);
    return { stats: { typeUrl: MetricsSchema.typeName, value } };
  }

  /** Paths in here, as paths of the host; each has to be bound. */
  #streams(id: string, prefix: string, request: Streams, mounted: ReadonlySet<string>): Streams {
    const resolve = (name: "stdin" | "stdout" | "stderr") => {
      const path = request[name];
      if (path === "") return "";
      if (path !== `/${id}/${prefix}${name}`) throw new Error(`contract: ${name} is at ${path}`);
      const host = `${this.#options.bundle}${path}`;
      if (!mounted.has(host)) throw new Error(`contract: no stream is bound at ${path}`);
      return host;
    };
    return {
      stdin: resolve("stdin"),
      stdout: resolve("stdout"),
      stderr: resolve("stderr"),
      terminal: request.terminal,
    };
  }

  #container(id: string): Container {
    const container = this.#containers.get(id);
    if (container === undefined) throw notFound(`can not find container by id ${id}`);
    return container;
  }

  #process(id: string, execId: string): Process {
    const { init, execs } = this.#container(id);
    const process = execId === "" ? init : execs.get(execId);
    if (process === undefined) throw new Error("can not find the exec by id");
    return process;
  }
}

function isStopped({ status }: Process): boolean {
  return status === Status.STOPPED;
}

function unknown(message: string): SandboxError {
  return new SandboxError("Unknown", message);
}

function notFound(message: string): SandboxError {
  return new SandboxError("NotFound", message);
}

/** What a method says that Quark has not written. */
function notSupported(method: string): SandboxError {
  return notFound(`/containerd.task.v2.Task/${method} is not supported`);
}
