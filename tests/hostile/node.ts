/**
 * A sandboxer process with nobody else on it, driven through its two sockets as containerd drives
 * it, and watched while guests misbehave: a neighbour has to go on, and the process has to answer.
 *
 * @module
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Controller } from "../../proto/gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { NamespaceMode, PodSandboxConfigSchema } from "../../proto/gen/runtime/v1/pod_pb.ts";
import { GrpcClient } from "../../proto/grpc.ts";
import { openEngineCache } from "../../sandboxers/wasm/compiled/open.ts";
import { NAMESPACE_KEY } from "../../task/service.ts";
import { TtrpcClient } from "../../task/ttrpc/client.ts";
import { type GuestName, GUESTS_BUILD_DIR } from "../guests/build.ts";
import { leaks, type Snapshot, snapshot } from "../support/leaks.ts";
import { unmountBelow } from "../support/mount_table.ts";
import { SandboxerPaths, SandboxerProcess, sandboxerProgram } from "../support/sandboxer.ts";
import { claimBed, sweepStaleBeds } from "../support/stale_beds.ts";
import { waitFor } from "../support/wait.ts";
import { type ContainerRequest, HostileContainer } from "./container.ts";
import type { Mode } from "./modes.ts";
import { Neighbour, Probe, type Watched } from "./watch.ts";

/** Where the directories of nodes are, and how their names begin: as those of test beds. */
const PARENT = "/var/tmp";
const PREFIX = "qs-hostile-";

/** The namespace of everything here. */
const NAMESPACE = "k8s.io";

/** The guests that every node runs. */
const COMMON_GUESTS: readonly GuestName[] = ["cat", "hello"];

/** See {@link NodeOptions.memorySlackBytes}. */
const MEMORY_SLACK_BYTES = 64 << 20;

/** How long what is gone may take to be gone, in milliseconds. */
const SETTLE_TIMEOUT_MS = 40_000;

/** What a node was like before anything happened. */
interface Baseline {
  readonly things: Snapshot;
  readonly memoryBytes: number;
}

/** Options of {@link HostileNode.start}. */
export interface NodeOptions {
  /** The built guests that its tests run, beside those that every node runs. */
  readonly guests?: readonly GuestName[];
  /** More modules of its image: names without ending, and bytes. */
  readonly modules?: readonly (readonly [string, Uint8Array<ArrayBuffer>])[];
  /** How much more memory it may hold after its guests than before them, in bytes. Default 64 MiB. */
  readonly memorySlackBytes?: number;
}

/** A sandboxer under attack. */
export class HostileNode implements AsyncDisposable {
  readonly #sandboxer: SandboxerProcess;
  readonly #owned = new AsyncDisposableStack();
  readonly #mode: Mode;
  readonly #options: NodeOptions;
  #grpc: GrpcClient | undefined;
  #ttrpc: TtrpcClient | undefined;
  #baseline: Baseline | undefined;
  #count = 0;

  private constructor(
    /** The directory that holds everything. */
    readonly directory: string,
    mode: Mode,
    options: NodeOptions,
  ) {
    this.#mode = mode;
    this.#options = options;
    const flags = mode.engine === "interpreted" ? ["--engine-mode=interpreter"] : [];
    const program = { ...sandboxerProgram("wasm"), flags };
    this.#sandboxer = new SandboxerProcess(program, new SandboxerPaths("wasm", directory), "info");
  }

  /**
   * Starts a node.
   *
   * @param mode How its guests run.
   * @param options See {@link NodeOptions}.
   */
  static async start(mode: Mode, options: NodeOptions): Promise<HostileNode> {
    await sweepStaleBeds(PARENT, PREFIX);
    const directory = await Deno.makeTempDir({ dir: PARENT, prefix: PREFIX });
    await claimBed(directory);
    const node = new HostileNode(directory, mode, options);
    try {
      await node.#start();
      return node;
    } catch (error) {
      await node[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The process id of the sandboxer. */
  get pid(): number {
    return this.#sandboxer.process.pid;
  }

  /** The directory that is the root file system of containers that name no other. */
  get image(): string {
    return `${this.directory}/image`;
  }

  /** The Task API. */
  get task(): TtrpcClient {
    if (this.#ttrpc === undefined) throw new Error("The node has not started");
    return this.#ttrpc;
  }

  /** The Sandbox API. */
  get controller(): GrpcClient {
    if (this.#grpc === undefined) throw new Error("The node has not started");
    return this.#grpc;
  }

  /** Starts a pod on the host's network. Disposing of it ends it with all that it holds. */
  async pod(): Promise<HostilePod> {
    const id = `pod-${this.#count++}`;
    const config = create(PodSandboxConfigSchema, {
      metadata: { name: id, uid: id, namespace: "hostile", attempt: 0 },
      annotations: this.#mode.isolation === "thread"
        ? {}
        : { "quasaur.dev/isolation": this.#mode.isolation },
      linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE } } },
    });
    const options = anyPack(PodSandboxConfigSchema, config);
    await this.call(Controller.method.create, { sandboxId: id, options });
    await this.call(Controller.method.start, { sandboxId: id });
    return new HostilePod(this, id);
  }

  /**
   * Calls the Sandbox API.
   *
   * @param method The method.
   * @param request Its request.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    const metadata = { "containerd-namespace": NAMESPACE };
    return await this.controller.call(method, request, { metadata, timeoutMs: 60_000 });
  }

  /** A name that nothing here has had. */
  freshId(): string {
    return `c-${this.#count++}`;
  }

  /**
   * Does something while a neighbour and the sandboxer's answers are watched, and waits until all
   * that it has brought is gone.
   *
   * @param what What it is, for the line that tells how long answers took.
   * @param attack What to do; it leaves nothing running.
   */
  async watch(what: string, attack: () => Promise<void>): Promise<void> {
    const watched = await this.#watched(attack);
    tell(`${what}: ${watched.neighbour}; ${watched.answers}`);
    await this.settled();
  }

  async #watched(attack: () => Promise<void>): Promise<Watched> {
    await using pod = await this.pod();
    await using neighbour = await Neighbour.start(pod);
    await using probe = Probe.start(this.controller, pod.id, NAMESPACE);
    neighbour.begin();
    await attack();
    return { neighbour: await neighbour.finish(), answers: await probe.finish() };
  }

  /**
   * Waits until the sandboxer holds no more than before: descriptors, threads, mounts, files of
   * containers, memory.
   */
  async settled(): Promise<void> {
    const baseline = this.#baseline;
    assert.ok(baseline !== undefined);
    const slackBytes = this.#options.memorySlackBytes ?? MEMORY_SLACK_BYTES;
    await waitFor("everything to be gone", async () => {
      const found = leaks(baseline.things, await this.#look());
      const grownBytes = await anonymousBytes(this.pid) - baseline.memoryBytes;
      for (const words of await this.#podProcesses()) found.push(`process: ${words}`);
      if (grownBytes > slackBytes) found.push(`memory: ${grownBytes} bytes more`);
      if (found.length > 0) throw new Error(found.join("\n"));
      return true;
    }, { timeoutMs: SETTLE_TIMEOUT_MS, intervalMs: 50 });
    assert.ok(this.#sandboxer.process.running, "the sandboxer lives");
  }

  /** The end of the sandboxer's log. */
  async logTail(): Promise<string> {
    return await this.#sandboxer.process.logTail(60);
  }

  /** Stops the sandboxer and deletes the directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
    await unmountBelow(this.directory);
    await Deno.remove(this.directory, { recursive: true });
  }

  async #start(): Promise<void> {
    await Deno.mkdir(this.image);
    const { guests = [], modules = [] } = this.#options;
    const names = [...new Set([...COMMON_GUESTS, ...guests])];
    for (const name of names) {
      await Deno.copyFile(`${GUESTS_BUILD_DIR}/${name}.wasm`, `${this.image}/${name}.wasm`);
    }
    for (const [name, bytes] of modules) {
      await Deno.writeFile(`${this.image}/${name}.wasm`, bytes, { mode: 0o755 });
    }
    if (this.#mode.engine === "compiled") await this.#compile();
    await Deno.mkdir(`${this.directory}/state/io.containerd.runtime.v2.task/${NAMESPACE}`, {
      recursive: true,
    });
    this.#owned.use(this.#sandboxer);
    await this.#sandboxer.start();
    const { socketPath, taskSocketPath } = this.#sandboxer.paths;
    const grpc = new GrpcClient(socketPath);
    this.#owned.defer(() => grpc.close());
    this.#grpc = grpc;
    const metadata = { [NAMESPACE_KEY]: NAMESPACE };
    this.#ttrpc = this.#owned.use(await TtrpcClient.connect(taskSocketPath, { metadata }));
    await this.#warmUp();
    await this.#checkMode();
    this.#baseline = { things: await this.#look(), memoryBytes: await anonymousBytes(this.pid) };
  }

  /** Has all modules of the image compiled, as far as they can be. */
  async #compile(): Promise<void> {
    const directory = `${this.#sandboxer.paths.cacheDirectory}/wasm`;
    await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
    const cache = await openEngineCache(directory);
    const { signal } = new AbortController();
    for await (const { name } of Deno.readDir(this.image)) {
      const bytes = await Deno.readFile(`${this.image}/${name}`);
      const digest = createHash("sha256").update(bytes).digest("hex");
      const { kind } = await cache.compile(digest, bytes, signal);
      if (kind === "unavailable") throw new Error(`Cannot compile ${name}: the cache is off`);
    }
    await cache.close();
  }

  /** What the first guests bring and what stays, such as threads of pools, is no leak. */
  async #warmUp(): Promise<void> {
    for (let round = 0; round < 3; round++) {
      await using pod = await this.pod();
      await Promise.all(Array.from({ length: 8 }, async () => {
        const container = await pod.run({ args: ["/hello.wasm"] });
        assert.equal((await container.wait()).status, 0);
        await container[Symbol.asyncDispose]();
      }));
    }
  }

  /**
   * Waits until guests run as they should: compiled code is mapped where it is used, and nowhere
   * else. A busy machine may need some time to have it ready.
   */
  async #checkMode(): Promise<void> {
    const { engine, isolation } = this.#mode;
    await waitFor(`guests to be ${engine}`, async () => {
      await using pod = await this.pod();
      await using guest = await pod.run({ args: ["/cat.wasm"], stdin: true });
      const maps = await Deno.readTextFile(`/proc/${await guest.pid()}/maps`);
      const inside = (await tasks(this.pid)).includes(await guest.pid());
      assert.equal(inside, isolation === "thread", "whether guests are threads of the sandboxer");
      return maps.includes(this.#sandboxer.paths.cacheDirectory) === (engine === "compiled");
    }, { timeoutMs: SETTLE_TIMEOUT_MS });
  }

  /** The processes that were started for pods of this node: each names its directory. */
  async #podProcesses(): Promise<string[]> {
    const found: string[] = [];
    for await (const { name } of Deno.readDir("/proc")) {
      if (!/^\d+$/.test(name) || Number(name) === this.pid) continue;
      const words = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
      // The stand-in is the sandboxer's own, for as long as that lives.
      if (words.includes("\0stand-in\0")) continue;
      if (words.includes(this.directory)) found.push(words.replaceAll("\0", " ").slice(0, 200));
    }
    return found;
  }

  async #look(): Promise<Snapshot> {
    return await snapshot({
      mountsBelow: [this.directory],
      filesBelow: [`${this.directory}/state`, this.#sandboxer.paths.runDirectory],
      pid: this.pid,
    });
  }
}

/** A pod of a {@link HostileNode}. */
export class HostilePod implements AsyncDisposable {
  readonly #containers = new Set<HostileContainer>();

  /** Wraps a started pod. */
  constructor(readonly node: HostileNode, readonly id: string) {}

  /**
   * Creates and starts a container.
   *
   * @param request What it runs.
   * @throws {SandboxError} Where the sandboxer refuses; nothing is left of it then.
   */
  async run(request: ContainerRequest): Promise<HostileContainer> {
    const { node } = this;
    const id = node.freshId();
    const bundles = `${node.directory}/state/io.containerd.runtime.v2.task/${NAMESPACE}`;
    const place = { task: node.task, podId: this.id, id, bundle: `${bundles}/${id}` };
    const container = await HostileContainer.start(place, { rootfs: node.image, ...request });
    this.#containers.add(container);
    return container;
  }

  /** Ends the pod, and what runs in it. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const container of this.#containers) await container[Symbol.asyncDispose]();
    await this.node.call(Controller.method.stop, { sandboxId: this.id });
    await this.node.call(Controller.method.shutdown, { sandboxId: this.id });
  }
}

/** The threads of a process. */
async function tasks(pid: number): Promise<number[]> {
  return await Array.fromAsync(Deno.readDir(`/proc/${pid}/task`), ({ name }) => Number(name));
}

/** The memory of a process that belongs to no file, in bytes. */
async function anonymousBytes(pid: number): Promise<number> {
  const text = await Deno.readTextFile(`/proc/${pid}/smaps_rollup`);
  return Number(/^Anonymous: +(\d+) kB$/m.exec(text)?.[1] ?? 0) * 1024;
}

/** Tells a figure to whoever reads the output of the tests. */
function tell(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`    ${text}\n`));
}
