/**
 * Guests: an instance of a module with its own WASI, run by the interpreter on a thread of its own.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type {
  EngineGuest,
  GuestEnd,
  GuestMemory,
  GuestOptions,
  GuestThreadOptions,
} from "../engine.ts";
import { holding } from "../native/hold.ts";
import type { Address } from "../native/library.ts";
import type { System } from "../native/system.ts";
import type { GuestThread, GuestThreads, ThreadEnd } from "../native/threads.ts";
import type { WasmEdgeLibrary } from "./library.ts";
import { START_FUNCTION, type WasmEdgeModule } from "./module.ts";
import { type NothingFunction, Stopper } from "./stopper.ts";

/** What guests share. */
export interface GuestContext {
  /** The engine. */
  readonly library: WasmEdgeLibrary;
  /** System calls. */
  readonly system: System;
  /** Starts the threads. */
  readonly threads: GuestThreads;
  /** For stopping guests. */
  readonly nothing: NothingFunction;
  /** Address of `WasmEdge_ExecutorInvoke`. */
  readonly invoke: Address;
  /** Nice value of guests' threads. */
  readonly guestNice: number;
}

/** A page of linear memory in bytes. */
const PAGE_BYTES = 65_536;
/** What an idle guest holds beside its linear memory, measured; big modules hold more. */
const ENGINE_BYTES = 131_072;
/** The interpreter keeps the guest's stack on the heap, so the thread needs little. */
const STACK_BYTES = 1_048_576;
/** Instances of modules larger than this are made on another thread: that copies all their code. */
const INSTANTIATE_INLINE_BYTES_MAX = 262_144;

/** Pause between two attempts to make a guest end, doubled each time up to the second number. */
const KILL_INTERVAL_MS = 1;
const KILL_INTERVAL_MAX_MS = 50;

/** The guest's descriptors from here on are the preopens, in an order of the engine's. */
const FIRST_PREOPEN_FD = 3;

/** Results of WasmEdge_ExecutorInvoke, category 0 (WasmEdge_ErrCode). */
const RESULT_SUCCESS = 0x00;
const RESULT_TERMINATED = 0x01;
const RESULT_INTERRUPTED = 0x07;

const MEMORY_NAME = new TextEncoder().encode("memory");
const START_NAME = new TextEncoder().encode(START_FUNCTION);

/** What a guest is made of: addresses of engine objects, released in reverse order of creation. */
interface GuestParts {
  readonly executor: Address;
  readonly wasi: Address;
  /** The function to call. */
  readonly start: Address;
  /** The exported memory; `0n` where there is none. */
  readonly memory: Address;
  readonly stopper: Stopper;
  readonly release: DisposableStack;
}

/** A guest of WasmEdge. */
export class WasmEdgeGuest implements EngineGuest {
  readonly #context: GuestContext;
  readonly #parts: GuestParts;
  readonly #end = Promise.withResolvers<GuestEnd>();
  #thread: GuestThread | undefined;
  #killTimer: ReturnType<typeof setTimeout> | undefined;
  #killed = false;
  #ended = false;

  private constructor(context: GuestContext, parts: GuestParts) {
    this.#context = context;
    this.#parts = parts;
  }

  /**
   * Makes a guest, ready to run.
   *
   * @param context What guests share.
   * @param module Must outlive the guest.
   * @param options What the guest gets.
   * @param onDispose Called once, when the guest is disposed of.
   * @throws {SandboxError} `InvalidArgument` when module and options do not fit together.
   */
  static async create(
    context: GuestContext,
    module: WasmEdgeModule,
    options: GuestOptions,
    onDispose: () => void,
  ): Promise<WasmEdgeGuest> {
    const parts = await createParts(context, module, options);
    parts.release.defer(onDispose);
    return new WasmEdgeGuest(context, parts);
  }

  /** Settles when a started guest has ended. */
  get ended(): Promise<GuestEnd> {
    return this.#end.promise;
  }

  /** Runs it on a thread of its own. */
  async start(options: GuestThreadOptions): Promise<number> {
    const { threads, invoke, guestNice } = this.#context;
    if (this.#thread !== undefined) {
      throw new SandboxError("Internal", "The guest is started twice");
    }
    const thread = threads.start({
      name: options.name,
      nice: guestNice,
      stackBytes: STACK_BYTES,
      steps: options.steps,
      // SAFETY: Result WasmEdge_ExecutorInvoke(executor, function, params, 0, returns, 0): all six
      // are integers or pointers, and executor and function live until this guest is disposed of,
      // which is refused while the thread runs.
      function: invoke,
      args: [this.#parts.executor, this.#parts.start, 0n, 0n, 0n, 0n],
    });
    this.#thread = thread;
    const started = await thread.started;
    if (started.kind === "refused") {
      this.#thread = undefined;
      throw started.error;
    }
    thread.ended.then((end) => this.#onThreadEnd(end));
    return started.tid;
  }

  /** Makes it end; see {@link EngineGuest.kill}. */
  kill(): boolean {
    if (this.#thread === undefined || this.#ended) return false;
    if (this.#killed) return true;
    if (!this.#thread.running) return false;
    this.#killed = true;
    this.#press(KILL_INTERVAL_MS);
    return true;
  }

  /** CPU time of its thread in nanoseconds. */
  cpuNs(): number {
    return this.#thread?.cpuNs() ?? 0;
  }

  /** Its linear memory as it has grown, and the engine's share. */
  memory(): GuestMemory {
    const { memory, release } = this.#parts;
    if (release.disposed) return { linearBytes: 0, engineBytes: 0 };
    if (memory === 0n) return { linearBytes: 0, engineBytes: ENGINE_BYTES };
    const pages = this.#context.library.c.WasmEdge_MemoryInstanceGetPageSize(memory);
    return { linearBytes: Number(pages) * PAGE_BYTES, engineBytes: ENGINE_BYTES };
  }

  /** Frees all that the engine holds of it. */
  [Symbol.dispose](): void {
    if (this.#thread !== undefined && !this.#ended) {
      throw new SandboxError("Internal", "cannot dispose of a guest that runs");
    }
    this.#parts.release.dispose();
  }

  /** Until it ends: the stop flag for a guest that computes, a signal for one that waits. */
  #press(intervalMs: number): void {
    if (this.#ended) return;
    // The flag first: a guest that wakes up without it would go on.
    if (this.#parts.stopper.stop()) this.#thread?.interrupt();
    this.#killTimer = setTimeout(
      () => this.#press(Math.min(intervalMs * 2, KILL_INTERVAL_MAX_MS)),
      intervalMs,
    );
  }

  async #onThreadEnd(end: ThreadEnd): Promise<void> {
    clearTimeout(this.#killTimer);
    this.#ended = true;
    const result = this.#guestEnd(end);
    while (!this.#parts.stopper.settled) await new Promise((resolve) => setTimeout(resolve, 1));
    this.#end.resolve(result);
  }

  #guestEnd(end: ThreadEnd): GuestEnd {
    if (this.#killed || end.value === undefined) return { kind: "killed" };
    const { library } = this.#context;
    // WasmEdge_Result is 32 bits; the upper half of the register says nothing.
    const code = Number(end.value & 0xffff_ffffn);
    if (code === RESULT_SUCCESS) return { kind: "exit", code: 0 };
    if (code === RESULT_TERMINATED) {
      return {
        kind: "exit",
        code: library.c.WasmEdge_ModuleInstanceWASIGetExitCode(this.#parts.wasi),
      };
    }
    if (code === RESULT_INTERRUPTED) return { kind: "killed" };
    return { kind: "trap", message: library.message(code) };
  }
}

/** Makes the engine's objects of a guest; on failure nothing is left. */
async function createParts(
  context: GuestContext,
  module: WasmEdgeModule,
  options: GuestOptions,
): Promise<GuestParts> {
  const { library, nothing } = context;
  const { c } = library;
  assertStreams(context.system, options);
  using release = new DisposableStack();
  const configuration = library.configure(limitInPages(module, options.memoryLimitBytes));
  release.defer(() => c.WasmEdge_ConfigureDelete(configuration));
  const executor = c.WasmEdge_ExecutorCreate(configuration, 0n);
  release.defer(() => c.WasmEdge_ExecutorDelete(executor));
  const wasi = createWasi(library, options);
  release.defer(() => c.WasmEdge_ModuleInstanceDelete(wasi));
  assertPreopens(library, wasi, options);
  const store = c.WasmEdge_StoreCreate();
  release.defer(() => c.WasmEdge_StoreDelete(store));
  assertInstantiated(library, c.WasmEdge_ExecutorRegisterImport(executor, store, wasi));
  const instance = await instantiate(library, executor, store, module);
  release.defer(() => c.WasmEdge_ModuleInstanceDelete(instance));
  // SAFETY: names with their lengths; what is found lives as long as the instance.
  const start = c.WasmEdge_ModuleInstanceFindFunction(instance, START_NAME.length, START_NAME);
  const memory = c.WasmEdge_ModuleInstanceFindMemory(instance, MEMORY_NAME.length, MEMORY_NAME);
  if (start === 0n) throw new SandboxError("Internal", "The start function is gone");
  const stopper = release.use(new Stopper(library, executor, nothing));
  return { executor, wasi, start, memory, stopper, release: release.move() };
}

async function instantiate(
  library: WasmEdgeLibrary,
  executor: Address,
  store: Address,
  module: WasmEdgeModule,
): Promise<Address> {
  const { c } = library;
  // 128 bytes, so that it lies outside of the JavaScript heap: another thread may write to it.
  const out = new BigUint64Array(16);
  const outBytes = new Uint8Array(out.buffer);
  // SAFETY: writes one pointer to `out`, which is held until the call is over; executor, store
  // and module are the caller's, who waits.
  const code = module.sizeBytes <= INSTANTIATE_INLINE_BYTES_MAX
    ? c.WasmEdge_ExecutorInstantiate(executor, outBytes, store, module.ast)
    : await holding(
      [outBytes],
      () => c.instantiateAsync(executor, outBytes, store, module.ast),
    );
  assertInstantiated(library, code);
  return out[0] ?? 0n;
}

function assertInstantiated(library: WasmEdgeLibrary, code: number): void {
  if (code === RESULT_SUCCESS) return;
  throw new SandboxError(
    "InvalidArgument",
    `cannot instantiate the WebAssembly module: ${library.message(code)}`,
  );
}

/**
 * The memory limit in pages. A module that starts with more is refused here: the engine would start
 * it with less memory than it declares.
 */
function limitInPages(module: WasmEdgeModule, limitBytes: number | undefined): number | undefined {
  if (limitBytes === undefined) return undefined;
  const pages = Math.floor(limitBytes / PAGE_BYTES);
  if (pages >= module.memoryPagesMin) return pages;
  throw new SandboxError(
    "InvalidArgument",
    `cannot instantiate the WebAssembly module: it starts with ` +
      `${module.memoryPagesMin * PAGE_BYTES} bytes of memory, the limit is ${limitBytes}: ` +
      "raise the container's memory limit",
  );
}

/** With a closed descriptor the engine would run the guest without arguments and directories. */
function assertStreams(system: System, options: GuestOptions): void {
  for (const name of ["stdin", "stdout", "stderr"] as const) {
    if (system.isOpen(options[name])) continue;
    throw new SandboxError(
      "InvalidArgument",
      `cannot make a guest: ${name} is not an open descriptor: ${options[name]}`,
    );
  }
}

function createWasi(library: WasmEdgeLibrary, options: GuestOptions): Address {
  // Through /proc/self/fd the engine opens exactly the directory that was checked before, whatever
  // its path looks like: a colon would end the path, and a link at its end would be refused.
  const preopens = options.preopens.map(({ guestPath, fd, readonly }) =>
    `${guestPath}:/proc/self/fd/${fd}/.${readonly ? ":readonly" : ""}`
  );
  using strings = library.memory.stringArrays(options.args, options.env, preopens);
  const [args, env, dirs] = strings.arrays;
  if (args === undefined || env === undefined || dirs === undefined) {
    throw new SandboxError("Internal", "cannot pass the arguments of a guest");
  }
  // SAFETY: three arrays of C strings with their lengths; the engine copies them.
  return library.c.WasmEdge_ModuleInstanceCreateWASIWithFds(
    args.address,
    args.count,
    env.address,
    env.count,
    dirs.address,
    dirs.count,
    options.stdin,
    options.stdout,
    options.stderr,
  );
}

/** A directory that the engine cannot open is left out without a word. */
function assertPreopens(library: WasmEdgeLibrary, wasi: Address, options: GuestOptions): void {
  const count = options.preopens.length;
  if (count === 0) return;
  // SAFETY: writes one 64-bit integer.
  const missing = library.c.WasmEdge_ModuleInstanceWASIGetNativeHandler(
    wasi,
    FIRST_PREOPEN_FD + count - 1,
    new Uint8Array(8),
  );
  if (missing === 0) return;
  const paths = options.preopens.map(({ guestPath }) => guestPath).join(", ");
  throw new SandboxError(
    "Internal",
    `cannot make a guest: the engine did not open all of its directories: ${paths}`,
  );
}
