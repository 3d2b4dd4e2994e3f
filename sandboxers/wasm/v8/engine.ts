/**
 * V8 as an {@link Engine}: guests run in workers of this Deno process, with a WASI of our own on the
 * system calls of the guest library. It needs no library of an engine, and stands in where WasmEdge
 * is not installed. See {@link V8_LACKS} for what it cannot do.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { sha256 } from "../digest.ts";
import type { Engine, EngineGuest, EngineModule, EngineStats, GuestOptions } from "../engine.ts";
import { GuestCount } from "../guest_count.ts";
import { ModuleCache } from "../module_cache.ts";
import { DEFAULT_LIBRARY_PATH } from "../native/library.ts";
import { System } from "../native/system.ts";
import { type GuestContext, V8Guest } from "./guest.ts";
import { V8Module } from "./module.ts";
import { ThreadControl } from "./thread_control.ts";

/** What is different for guests of V8, for people. */
export const V8_LACKS =
  "guests have no sockets, and each takes some 30 ms to start and 12 MB of memory";

/** Most guests in one process: each is a V8 isolate of some megabytes. */
const GUESTS_MAX = 256;
/** Unused modules that are kept for the next guest. */
const IDLE_MODULES_MAX = 16;
const IDLE_MODULE_BYTES_MAX = 67_108_864;
const GUEST_NICE = 5;

/** Options of {@link V8Engine}. */
export interface V8EngineOptions {
  /** The guest library, as it is named in `--allow-ffi`; default: beside the source. */
  readonly libraryPath?: string;
  /** Nice value of guests' threads, 0 to 19 (default 5). */
  readonly guestNice?: number;
  /** Most guests at a time (default 256). */
  readonly guestsMax?: number;
}

/** The V8 engine. One for a process. */
export class V8Engine implements Engine {
  /** `v8`. */
  readonly name = "v8";
  /** The version of V8. */
  readonly version: string = Deno.version.v8;
  readonly #context: GuestContext;
  readonly #modules = new ModuleCache<V8Module>({
    idleMax: IDLE_MODULES_MAX,
    idleBytesMax: IDLE_MODULE_BYTES_MAX,
  });
  readonly #references = new WeakMap<EngineModule, V8Module>();
  readonly #guests: GuestCount;
  /** Threads that are on their way out. */
  readonly #leaving = new Set<Promise<void>>();

  /**
   * Opens the engine.
   *
   * @param options Where the library is, and bounds.
   * @throws {SandboxError} `FailedPrecondition` when the guest library is missing.
   */
  constructor(options: V8EngineOptions = {}) {
    const { libraryPath = DEFAULT_LIBRARY_PATH, guestNice = GUEST_NICE } = options;
    const system = new System(libraryPath);
    const threads = new ThreadControl(libraryPath);
    this.#context = { libraryPath, system, threads, guestNice };
    this.#guests = new GuestCount(options.guestsMax ?? GUESTS_MAX);
  }

  /** System calls through the guest library. */
  get system(): System {
    return this.#context.system;
  }

  /** Compiles and checks a module, or finds it in the cache. */
  async load(bytes: Uint8Array<ArrayBuffer>): Promise<EngineModule> {
    const digest = await sha256(bytes);
    const reference = await this.#modules.acquire(
      digest,
      bytes.length,
      () => V8Module.load(bytes),
    );
    const module: EngineModule = {
      digest,
      compiled: true,
      [Symbol.dispose]: () => reference[Symbol.dispose](),
    };
    this.#references.set(module, reference.module);
    return module;
  }

  /** Makes a guest of a module of this engine. */
  async instantiate(module: EngineModule, options: GuestOptions): Promise<EngineGuest> {
    const shared = this.#references.get(module);
    if (shared === undefined) {
      throw new SandboxError("Internal", "cannot make a guest of another engine's module");
    }
    this.#guests.take();
    try {
      const compiled = await shared.withLimit(options.memoryLimitBytes);
      const guest: V8Guest = V8Guest.create(this.#context, compiled, options, () => {
        this.#guests.give();
        const leaving = guest.gone.finally(() => this.#leaving.delete(leaving));
        this.#leaving.add(leaving);
      });
      return guest;
    } catch (error) {
      this.#guests.give();
      throw error;
    }
  }

  /** Guests and modules in memory. */
  stats(): EngineStats {
    return {
      guests: this.#guests.count,
      guestsMax: this.#guests.max,
      modules: this.#modules.size,
      moduleBytes: this.#modules.bytes,
      compiledModules: this.#modules.size,
      moduleHits: this.#modules.hits,
      moduleMisses: this.#modules.misses,
    };
  }

  /** Releases everything and waits for the threads of ended guests; no guest may be left. */
  async close(): Promise<void> {
    await Promise.all(this.#leaving);
    this.#modules.close();
  }
}
