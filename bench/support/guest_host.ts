/**
 * A wasm driver in this process, without containerd: starts guests, knows when they have written
 * something, and ends them.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { ProcessHandle, SandboxHandle } from "../../sandboxers/lifecycle/driver.ts";
import type {
  ContainerSpec,
  NetworkSpec,
  ProcessSpec,
  SeccompSpec,
} from "../../sandboxers/lifecycle/spec.ts";
import { sandboxSpec } from "../../sandboxers/lifecycle/testing/specs.ts";
import { openEngineCache } from "../../sandboxers/wasm/compiled/open.ts";
import { WasmDriver } from "../../sandboxers/wasm/driver.ts";
import type { System } from "../../sandboxers/wasm/native/system.ts";
import { WasmEdgeEngine } from "../../sandboxers/wasm/wasmedge/engine.ts";
import type { GuestName } from "../../tests/guests/build.ts";
import { waitFor } from "../../tests/support/wait.ts";
import { guestPath } from "./guests.ts";
import { PipePoll } from "./pipe_poll.ts";
import { within } from "./within.ts";

/** How long a guest may take to write its first byte, in milliseconds. */
const FIRST_BYTE_TIMEOUT_MS = 10_000;

/** Most bytes of {@link GuestHost.output}: what fits into a pipe without a reader. */
const OUTPUT_BYTES_MAX = 4_096;

/** How long compiled code may take to be used, in milliseconds. */
const COMPILED_TIMEOUT_MS = 30_000;

/** What a {@link GuestHost} is like. */
export interface GuestHostOptions {
  /** The guests that can be run. */
  readonly guests: readonly GuestName[];
  /** Whether they are compiled, or interpreted. */
  readonly engine: "compiled" | "interpreted";
  /** The network of the pod. Default: the host's. */
  readonly network?: NetworkSpec;
  /** Most guests at a time. Default: the engine's own. */
  readonly guestsMax?: number;
  /** Aborted when the run is given up. */
  readonly signal: AbortSignal;
}

/** What a guest is started with. */
export interface GuestRequest {
  /** Which guest. */
  readonly guest: GuestName;
  /** Its arguments. */
  readonly args?: readonly string[];
  /** Who it runs as. Default: root. */
  readonly user?: ProcessSpec["user"];
  /** System calls that it may make. Default: all but those that are never allowed. */
  readonly seccomp?: SeccompSpec;
  /** Whether it has a standard input that nobody writes to. */
  readonly stdin?: boolean;
  /** Whether its standard output goes nowhere. Default: to a pipe. */
  readonly silent?: boolean;
}

/** A guest that was started. Disposing of it kills it and releases everything. */
export interface StartedGuest extends AsyncDisposable {
  /** Its process. */
  readonly process: ProcessHandle;
  /** The read end of its standard output; -1 where that goes nowhere. */
  readonly output: number;
}

/** Runs guests. */
export class GuestHost implements AsyncDisposable {
  readonly #pod: SandboxHandle;
  readonly #rootfs: string;
  readonly #poll: PipePoll;
  readonly #system: System;
  readonly #owned: AsyncDisposableStack;
  #count = 0;

  private constructor(
    parts: {
      readonly pod: SandboxHandle;
      readonly rootfs: string;
      readonly poll: PipePoll;
      readonly system: System;
    },
    owned: AsyncDisposableStack,
  ) {
    this.#pod = parts.pod;
    this.#rootfs = parts.rootfs;
    this.#poll = parts.poll;
    this.#system = parts.system;
    this.#owned = owned;
  }

  /**
   * Opens a host with one pod.
   *
   * @param options What it is like.
   */
  static async open(options: GuestHostOptions): Promise<GuestHost> {
    const { guests, engine: mode, network = { kind: "host" }, guestsMax, signal } = options;
    await using owned = new AsyncDisposableStack();
    const directory = await Deno.makeTempDir({ prefix: "quasaur-bench-" });
    owned.defer(() => Deno.remove(directory, { recursive: true }));
    const rootfs = `${directory}/rootfs`;
    await Deno.mkdir(rootfs);
    for (const name of guests) await Deno.copyFile(guestPath(name), `${rootfs}/${name}.wasm`);
    const cache = mode === "compiled" ? await compileAll(`${directory}/cache`, guests) : undefined;
    if (cache !== undefined) owned.defer(() => cache.close());
    const engine = new WasmEdgeEngine({
      ...(cache === undefined ? {} : { compiled: cache }),
      ...(guestsMax === undefined ? {} : { guestsMax }),
    });
    owned.defer(() => engine.close());
    const { system } = engine;
    const poll = owned.use(new PipePoll());
    const driver = new WasmDriver({ engine, system });
    const spec = sandboxSpec("bench", { namespace: "bench", network });
    const pod = owned.adopt(await driver.start(spec, signal), (handle) => handle.stop(0));
    const host = new GuestHost({ pod, rootfs, poll, system }, owned.move());
    if (mode === "compiled") await host.#untilCompiled(engine, guests);
    return host;
  }

  /** The pod of all guests. */
  get pod(): SandboxHandle {
    return this.#pod;
  }

  /**
   * Starts a guest.
   *
   * @param request Which, and how.
   */
  async start(request: GuestRequest): Promise<StartedGuest> {
    return (await this.#start(request)).guest;
  }

  /**
   * Starts a guest and waits for the first byte that it writes, without the event loop: what counts
   * is when any reader could have it. Then it waits for its end.
   *
   * @param request Which, and how.
   * @returns The milliseconds from the wish for the container to the byte.
   */
  async timeToFirstByte(request: GuestRequest): Promise<number> {
    const { guest, beganAt } = await this.#start(request);
    await using started = guest;
    const written = this.#poll.waitForByte(started.output, FIRST_BYTE_TIMEOUT_MS);
    const elapsedMs = performance.now() - beganAt;
    const { status, reason } = await started.process.exited;
    if (!written || status !== 0) throw new Error(`the guest failed: ${reason}, status ${status}`);
    return elapsedMs;
  }

  /**
   * Runs a guest to its end.
   *
   * @param request Which, and how; it writes no more than a pipe holds.
   * @param timeoutMs How long it may take, in milliseconds.
   * @returns What it wrote to standard output.
   */
  async output(request: GuestRequest, timeoutMs: number): Promise<string> {
    await using guest = await this.start(request);
    const { status } = await within(timeoutMs, "the end of a guest", guest.process.exited);
    if (status !== 0) throw new Error(`"${request.guest}" ended with status ${status}`);
    const bytes = new Uint8Array(OUTPUT_BYTES_MAX);
    const count = this.#poll.read(guest.output, bytes);
    return new TextDecoder().decode(bytes.subarray(0, count));
  }

  /**
   * Waits until a guest has written something, without the event loop.
   *
   * @param guest A guest with an output.
   */
  waitForByte(guest: StartedGuest): void {
    if (this.#poll.waitForByte(guest.output, FIRST_BYTE_TIMEOUT_MS)) return;
    throw new Error("a guest has written nothing");
  }

  /** Ends all guests and removes everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }

  async #start(request: GuestRequest): Promise<{ guest: StartedGuest; beganAt: number }> {
    await using owned = new AsyncDisposableStack();
    const pipe = () => this.#pipe(owned);
    const [output, stdout] = request.silent === true ? [-1, -1] : pipe();
    const [stdin] = request.stdin === true ? pipe() : [-1];
    const spec = containerSpec(`bench-${++this.#count}`, this.#rootfs, request, { stdin, stdout });
    const { signal } = new AbortController();
    const beganAt = performance.now();
    const container = owned.adopt(
      await this.#pod.createContainer(spec, signal),
      (handle) => handle.delete(),
    );
    const process = await container.start(signal);
    const release = owned.move();
    const guest = { process, output, [Symbol.asyncDispose]: () => release.disposeAsync() };
    return { guest, beganAt };
  }

  #pipe(owned: AsyncDisposableStack): readonly [number, number] {
    const ends = this.#system.pipe();
    for (const fd of ends) owned.defer(() => this.#system.close(fd));
    return ends;
  }

  /** The first guest of each module may still be interpreted. */
  async #untilCompiled(engine: WasmEdgeEngine, guests: readonly GuestName[]): Promise<void> {
    for (const name of guests) {
      const bytes = await Deno.readFile(guestPath(name));
      await waitFor(`compiled code of "${name}" to be used`, async () => {
        using module = await engine.load(bytes);
        return module.compiled;
      }, { timeoutMs: COMPILED_TIMEOUT_MS });
    }
  }
}

/** Compiles guests into a cache of their own, as the sandboxer would in the background. */
async function compileAll(directory: string, guests: readonly GuestName[]) {
  await Deno.mkdir(directory, { mode: 0o700 });
  const cache = await openEngineCache(directory);
  const { signal } = new AbortController();
  for (const name of guests) {
    const bytes = await Deno.readFile(guestPath(name));
    const digest = createHash("sha256").update(bytes).digest("hex");
    const result = await cache.compile(digest, bytes, signal);
    if ("reason" in result) throw new Error(`cannot compile "${name}": ${result.reason}`);
  }
  return cache;
}

/** A container without anything but its module and its streams. */
function containerSpec(
  id: string,
  rootfs: string,
  request: GuestRequest,
  fds: { readonly stdin: number; readonly stdout: number },
): ContainerSpec {
  const { guest, args = [], user = ROOT, seccomp } = request;
  const stream = (fd: number) => fd < 0 ? { kind: "null" as const } : { kind: "fd" as const, fd };
  return {
    id,
    sandboxId: "bench",
    bundle: "",
    rootfs: { kind: "directory", path: rootfs },
    readonlyRootfs: true,
    process: { args: [`/${guest}.wasm`, ...args], env: [], cwd: "/", user },
    mounts: [],
    stdio: {
      stdin: stream(fds.stdin),
      stdout: stream(fds.stdout),
      stderr: { kind: "null" },
      terminal: false,
    },
    resources: {},
    annotations: {},
    ...(seccomp === undefined ? {} : { seccomp }),
  };
}

const ROOT = { uid: 0, gid: 0, additionalGids: [] };
