/**
 * A container of a node under attack: its bundle, its FIFOs and the calls of the Task API.
 *
 * @module
 */

import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { Task } from "../../proto/gen/containerd/task/v3/shim_pb.ts";
import { MetricsSchema } from "../../proto/gen/io/containerd/cgroups/v2/metrics_pb.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import type { TtrpcClient } from "../../task/ttrpc/client.ts";
import { FifoReader, FifoWriter, makeFifos } from "./fifos.ts";

/** What a container runs. */
export interface ContainerRequest {
  /** Program and arguments. */
  readonly args: readonly string[];
  /** Its environment. */
  readonly env?: readonly string[];
  /** A host directory as its root file system; it is bind-mounted. Default: the node's image. */
  readonly rootfs?: string;
  /** Host directories that it sees: source and destination. */
  readonly mounts?: readonly (readonly [string, string])[];
  /** Memory limit in bytes. */
  readonly memoryBytes?: number;
  /** Whether it has a standard input that stays open. */
  readonly stdin?: boolean;
  /**
   * What becomes of its standard output: its text is `kept` (the default), only `counted`, the
   * client opens its end and is `stuck`, or there is `nobody` at the other end.
   */
  readonly stdout?: "kept" | "counted" | "stuck" | "nobody";
  /** User id. */
  readonly uid?: number;
}

/** Where a container is made. */
export interface ContainerPlace {
  /** The Task API. */
  readonly task: TtrpcClient;
  /** Its pod. */
  readonly podId: string;
  /** Its own id. */
  readonly id: string;
  /** Its bundle directory; made here. */
  readonly bundle: string;
}

/** How it ended. */
export interface Ending {
  /** Exit status. */
  readonly status: number;
  /** From the call that killed it to the answer that it has ended, in milliseconds; 0 else. */
  readonly afterMs: number;
}

/** How long an end may take, in milliseconds. */
const END_TIMEOUT_MS = 60_000;
const SIGKILL = 9;

/** A started container. Disposing of it kills and deletes it. */
export class HostileContainer implements AsyncDisposable {
  readonly #place: ContainerPlace;
  readonly #owned: DisposableStack;
  readonly #stdin: FifoWriter | undefined;
  readonly #stdout: FifoReader | undefined;
  readonly #stderr: FifoReader;
  #deleted = false;

  private constructor(
    place: ContainerPlace,
    streams: {
      readonly owned: DisposableStack;
      readonly stdin: FifoWriter | undefined;
      readonly stdout: FifoReader | undefined;
      readonly stderr: FifoReader;
    },
  ) {
    this.#place = place;
    this.#owned = streams.owned;
    this.#stdin = streams.stdin;
    this.#stdout = streams.stdout;
    this.#stderr = streams.stderr;
  }

  /**
   * Creates and starts one.
   *
   * @param place Where.
   * @param request What it runs.
   * @throws {SandboxError} Where the sandboxer refuses; nothing is left of it then.
   */
  static async start(
    place: ContainerPlace,
    request: ContainerRequest & { readonly rootfs: string },
  ): Promise<HostileContainer> {
    const { task, id, bundle } = place;
    await writeBundle(place, request);
    const container = await openStreams(place, request)
      .then((streams) => new HostileContainer(place, streams));
    try {
      await task.call(Task.method.create, {
        id,
        bundle,
        rootfs: [{ type: "bind", source: request.rootfs, options: ["rbind", "rw"] }],
        stdin: request.stdin === true ? `${bundle}/stdin` : "",
        stdout: `${bundle}/stdout`,
        stderr: `${bundle}/stderr`,
      }, { timeoutMs: END_TIMEOUT_MS });
      container.#stdout?.follow();
      container.#stderr.follow();
      await task.call(Task.method.start, { id }, { timeoutMs: END_TIMEOUT_MS });
      return container;
    } catch (error) {
      await container[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Its id. */
  get id(): string {
    return this.#place.id;
  }

  /** The id of its process, or of its thread. */
  async pid(): Promise<number> {
    const { task, id } = this.#place;
    return (await task.call(Task.method.state, { id })).pid;
  }

  /** What it wrote to standard output so far. */
  get stdout(): string {
    return this.#stdout?.text ?? "";
  }

  /** How many bytes it wrote to standard output so far. */
  get stdoutBytes(): number {
    return this.#stdout?.bytes ?? 0;
  }

  /** What it wrote to standard error so far. */
  get stderr(): string {
    return this.#stderr.text;
  }

  /** Writes to its standard input; see {@link FifoWriter.write}. */
  write(text: string): boolean {
    if (this.#stdin === undefined) throw new Error("The container has no standard input");
    return this.#stdin.write(text);
  }

  /** Settles when its standard input has room again. */
  async drained(): Promise<void> {
    await this.#stdin?.drained();
  }

  /**
   * Waits until its standard output has a text.
   *
   * @param text The text.
   * @param timeoutMs How long at most, in milliseconds.
   */
  async printed(text: string, timeoutMs = 20_000): Promise<void> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#stdout?.[Symbol.dispose]();
    }, timeoutMs);
    let over = false;
    void this.#stdout?.ended.then(() => over = true);
    try {
      while (!this.stdout.includes(text)) {
        if (late || over || this.#stdout === undefined) {
          const why = late ? `in ${timeoutMs} ms` : "before its end";
          throw new Error(`"${text}" was not printed ${why}: ${this.stdout.slice(-200)}`);
        }
        await this.#stdout.more();
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits for its end. */
  async wait(): Promise<Ending> {
    const { task, id } = this.#place;
    const { exitStatus } = await task.call(Task.method.wait, { id }, {
      timeoutMs: END_TIMEOUT_MS,
    });
    return { status: exitStatus, afterMs: 0 };
  }

  /** Kills it, unless it has ended by itself, and waits for its end. */
  async kill(signal: number = SIGKILL): Promise<Ending> {
    const { task, id } = this.#place;
    const begin = performance.now();
    await task.call(Task.method.kill, { id, signal }, { timeoutMs: END_TIMEOUT_MS })
      .catch(unlessNotFound);
    const { status } = await this.wait();
    return { status, afterMs: performance.now() - begin };
  }

  /** What the sandboxer says that it holds, in bytes. */
  async memoryBytes(): Promise<number> {
    const { task, id } = this.#place;
    const { stats } = await task.call(Task.method.stats, { id });
    const metrics = stats === undefined ? undefined : anyUnpack(stats, MetricsSchema);
    return Number(metrics?.memory?.usage ?? 0);
  }

  /** Waits until all its output has been read. */
  async read(): Promise<void> {
    await this.#stdout?.ended;
    await this.#stderr.ended;
  }

  /** Kills what still runs, and deletes it with its bundle. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#deleted) return;
    this.#deleted = true;
    const { task, id, bundle } = this.#place;
    // One that was never created, or has ended, cannot be killed.
    await task.call(Task.method.kill, { id, signal: SIGKILL }).catch(() => {});
    await task.call(Task.method.wait, { id }, { timeoutMs: END_TIMEOUT_MS }).catch(() => {});
    await task.call(Task.method.delete, { id }, { timeoutMs: END_TIMEOUT_MS }).catch(() => {});
    this.#owned.dispose();
    await Deno.remove(bundle, { recursive: true });
  }
}

/** What has ended already cannot be killed: that is an answer too. */
function unlessNotFound(error: unknown): void {
  if (!(error instanceof SandboxError && error.code === "NotFound")) throw error;
}

/** Writes the bundle as containerd does. */
async function writeBundle(place: ContainerPlace, request: ContainerRequest): Promise<void> {
  const { bundle, podId } = place;
  const { args, env = [], mounts = [], memoryBytes, uid = 0 } = request;
  const config = {
    ociVersion: "1.2.0",
    process: { args, env, cwd: "/", user: { uid, gid: uid } },
    root: { path: "rootfs" },
    mounts: mounts.map(([source, destination]) => ({
      source,
      destination,
      type: "bind",
      options: ["rbind", "rw"],
    })),
    ...(memoryBytes === undefined
      ? {}
      : { linux: { resources: { memory: { limit: memoryBytes } } } }),
  };
  await Deno.mkdir(`${bundle}/rootfs`, { recursive: true });
  await Deno.writeTextFile(`${bundle}/config.json`, JSON.stringify(config));
  await Deno.writeTextFile(`${bundle}/sandbox`, podId, { mode: 0o600 });
}

/** Makes the FIFOs and opens the client's ends. */
async function openStreams(place: ContainerPlace, request: ContainerRequest) {
  const { bundle } = place;
  const { stdin = false, stdout = "kept" } = request;
  await makeFifos(`${bundle}/stdin`, `${bundle}/stdout`, `${bundle}/stderr`);
  using owned = new DisposableStack();
  const writer = stdin ? owned.use(new FifoWriter(`${bundle}/stdin`)) : undefined;
  const stderr = owned.use(new FifoReader(`${bundle}/stderr`));
  const reader = stdout === "kept" || stdout === "counted"
    ? owned.use(new FifoReader(`${bundle}/stdout`, stdout === "kept"))
    : undefined;
  if (stdout === "stuck") {
    const path = `${bundle}/stdout`;
    const held = await Deno.open(path, { read: true, write: true });
    owned.defer(() => held.close());
  }
  return { owned: owned.move(), stdin: writer, stdout: reader, stderr };
}
