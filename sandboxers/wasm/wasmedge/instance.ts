/**
 * Guests: an instance of a module with its own WASI, run on a thread of its own, by the interpreter
 * or as compiled code.
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
import { FRAME_BYTES_MAX } from "./compiled_file.ts";
import type { WasmEdgeLibrary } from "./library.ts";
import { isOutOfMemory, type MemoryPlan, PAGE_BYTES, planMemory } from "./memory_bounds.ts";
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

/** The interpreter keeps the guest's stack on the heap, so the thread needs little. */
const STACK_BYTES = 1_048_576;
/** Compiled code runs on the thread's own stack. Only what is touched of it takes memory. */
const COMPILED_STACK_BYTES = 8_388_608;
/** It has no stack probes, so the guard has to be wider than any of its frames. */
const COMPILED_GUARD_BYTES = 2 * FRAME_BYTES_MAX;
/**
 * Instances of modules larger than this are made on another thread. For an interpreted one all code
 * is copied, for a compiled one only data.
 */
const INSTANTIATE_INLINE_BYTES_MAX = { interpreted: 262_144, compiled: 4_194_304 } as const;

/** Pause between two attempts to make a guest end, doubled each time up to the second number. */
const KILL_INTERVAL_MS = 1;
const KILL_INTERVAL_MAX_MS = 50;

/** The guest's descriptors from here on are the preopens, in an order of the engine's. */
const FIRST_PREOPEN_FD = 3;

/** Results of WasmEdge_ExecutorInvoke, category 0 (WasmEdge_ErrCode). */
const RESULT_SUCCESS = 0x00;
const RESULT_TERMINATED = 0x01;
const RESULT_INTERRUPTED = 0x07;
/** `WasmEdge_ErrCode_Unreachable`: also what programs end with when an allocation failed. */
const RESULT_UNREACHABLE = 0x040a;

/** What the engine calls an access out of bounds: to it, a fault is a fault. */
const STACK_MESSAGE = "call stack exhausted";

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
  readonly plan: MemoryPlan;
  readonly compiled: boolean;
  readonly descriptorsMax: number | undefined;
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
  #exceeded = false;
  #stopping = false;
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
    const { compiled, plan, descriptorsMax } = this.#parts;
    if (this.#thread !== undefined) {
      throw new SandboxError("Internal", "The guest is started twice");
    }
    const thread = threads.start({
      name: options.name,
      nice: guestNice,
      ...compiled
        ? { stackBytes: COMPILED_STACK_BYTES, guardBytes: COMPILED_GUARD_BYTES }
        : { stackBytes: STACK_BYTES },
      steps: options.steps,
      ...(options.filter === undefined ? {} : { filter: options.filter }),
      ...(descriptorsMax === undefined ? {} : { descriptorsMax }),
      heapBytesMax: plan.heapBytesMax,
      onExceeded: () => this.#onExceeded(),
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
    this.#stop();
    return true;
  }

  /** CPU time of its thread in nanoseconds. */
  cpuNs(): number {
    return this.#thread?.cpuNs() ?? 0;
  }

  /** Its linear memory as it has grown, and the engine's share. */
  memory(): GuestMemory {
    const { plan, release } = this.#parts;
    if (release.disposed) return { linearBytes: 0, engineBytes: 0 };
    return {
      linearBytes: this.#pages() * PAGE_BYTES,
      engineBytes: plan.engineBytes + (this.#thread?.heapBytes() ?? 0),
    };
  }

  /**
   * One byte of its linear memory.
   *
   * @param offset Where in the memory.
   */
  memoryByte(offset: bigint): number | undefined {
    const { library } = this.#context;
    const { memory, release } = this.#parts;
    if (memory === 0n || release.disposed) return undefined;
    const address = library.c.WasmEdge_MemoryInstanceGetPointer(memory, offset, 1n);
    // SAFETY: the engine has checked that the byte is there; it stays until the guest is disposed of.
    return address === 0n ? undefined : library.memory.read(address, 1)[0];
  }

  /** Frees all that the engine holds of it. */
  [Symbol.dispose](): void {
    if (this.#thread !== undefined && !this.#ended) {
      throw new SandboxError("Internal", "cannot dispose of a guest that runs");
    }
    this.#parts.release.dispose();
  }

  #stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#press(KILL_INTERVAL_MS);
  }

  /**
   * Until it ends: a signal for one that waits, and before it, so that it does not go on when it
   * wakes up, the stop flag. Compiled code may not look at the flag: the signal ends it where it
   * computes, and at its next call into the engine.
   */
  #press(intervalMs: number): void {
    if (this.#ended) return;
    const { compiled, stopper } = this.#parts;
    if (stopper.stop() || compiled) this.#thread?.interrupt();
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

  /** Pages of linear memory that it has; what its module declares where it exports none. */
  #pages(): number {
    const { memory, plan } = this.#parts;
    if (memory === 0n) return plan.pagesMin;
    return Number(this.#context.library.c.WasmEdge_MemoryInstanceGetPageSize(memory));
  }

  /** The thread has taken more of the C heap than it may. */
  #onExceeded(): void {
    if (this.#ended || this.#killed) return;
    this.#exceeded = true;
    this.#stop();
  }

  #guestEnd(end: ThreadEnd): GuestEnd {
    const { plan } = this.#parts;
    if (this.#exceeded) {
      const message =
        `the engine took more than ${plan.heapBytesMax} bytes for its stack and tables`;
      return { kind: "oom", message };
    }
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
    if (code === RESULT_UNREACHABLE && isOutOfMemory(this.#pages(), plan.pagesMax)) {
      return {
        kind: "oom",
        message: `it gave up with ${this.#pages() * PAGE_BYTES} bytes of memory`,
      };
    }
    return { kind: "trap", message: end.stackExhausted ? STACK_MESSAGE : library.message(code) };
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
  const { compiled, shape } = module;
  const plan = planMemory(shape, compiled, options);
  // The executor keeps a copy of its configuration.
  const executor = c.WasmEdge_ExecutorCreate(library.guestConfiguration(plan.pagesMax), 0n);
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
  const { descriptorsMax } = options;
  return {
    executor,
    wasi,
    start,
    memory,
    stopper,
    plan,
    compiled,
    descriptorsMax,
    release: release.move(),
  };
}

async function instantiate(
  library: WasmEdgeLibrary,
  executor: Address,
  store: Address,
  module: WasmEdgeModule,
): Promise<Address> {
  const { c } = library;
  const inlineMax = INSTANTIATE_INLINE_BYTES_MAX[module.compiled ? "compiled" : "interpreted"];
  // 128 bytes, so that it lies outside of the JavaScript heap: another thread may write to it.
  const out = new BigUint64Array(16);
  const outBytes = new Uint8Array(out.buffer);
  // SAFETY: writes one pointer to `out`, which is held until the call is over; executor, store
  // and module are the caller's, who waits.
  const code = module.shape.sizeBytes <= inlineMax
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
