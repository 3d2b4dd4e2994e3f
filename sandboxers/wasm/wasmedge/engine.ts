/**
 * WasmEdge as an {@link Engine}: the interpreter, in this process, one shared parsed module for
 * each content, guests on threads of our own.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { Engine, EngineGuest, EngineModule, EngineStats, GuestOptions } from "../engine.ts";
import { ModuleCache } from "../module_cache.ts";
import { DEFAULT_LIBRARY_PATH } from "../native/library.ts";
import { System } from "../native/system.ts";
import { GuestThreads } from "../native/threads.ts";
import { type GuestContext, WasmEdgeGuest } from "./instance.ts";
import { WasmEdgeLibrary } from "./library.ts";
import { WasmEdgeModule } from "./module.ts";
import { NothingFunction } from "./stopper.ts";

/**
 * Most guests in one process. Each reserves 12 GiB of addresses for its linear memory; near the end
 * of the address space (about 10,800 guests) no thread could be made to stop one.
 */
export const GUESTS_MAX = 8_000;

/** Files larger than this are hashed on another thread. */
const HASH_INLINE_BYTES_MAX = 1_048_576;
/** Unused modules that are kept for the next guest. */
const IDLE_MODULES_MAX = 64;
const IDLE_MODULE_BYTES_MAX = 67_108_864;

/** After so many guests, the memory that they have left is given back to the system. */
const GUESTS_PER_TRIM = 1_000;

/** See {@link WasmEdgeEngineOptions.guestNice}. */
const GUEST_NICE = 5;

/** Options of {@link WasmEdgeEngine}. */
export interface WasmEdgeEngineOptions {
  /** The guest library, as it is named in `--allow-ffi`; default: beside the source. */
  readonly libraryPath?: string;
  /**
   * Nice value of guests' threads, 0 to 19 (default 5). Guests yield to the event loop: a busy one
   * must not delay another one's start.
   */
  readonly guestNice?: number;
  /** Most guests at a time (default {@link GUESTS_MAX}). */
  readonly guestsMax?: number;
}

/** The WasmEdge engine. One for a process. */
export class WasmEdgeEngine implements Engine {
  /** `wasmedge`. */
  readonly name = "wasmedge";
  /** The version of the library that was found. */
  readonly version: string;
  readonly #context: GuestContext;
  readonly #modules = new ModuleCache<WasmEdgeModule>({
    idleMax: IDLE_MODULES_MAX,
    idleBytesMax: IDLE_MODULE_BYTES_MAX,
  });
  readonly #references = new WeakMap<EngineModule, WasmEdgeModule>();
  readonly #guestsMax: number;
  #guests = 0;
  #guestsSinceTrim = 0;
  #trim: Promise<void> | undefined;

  /**
   * Opens the engine.
   *
   * @param options Where the library is, and bounds.
   * @throws {SandboxError} `FailedPrecondition` when the engine or the guest library is missing.
   */
  constructor(options: WasmEdgeEngineOptions = {}) {
    const path = options.libraryPath ?? DEFAULT_LIBRARY_PATH;
    const library = new WasmEdgeLibrary(path);
    const system = new System(path);
    const threads = new GuestThreads(path, system);
    const nothing = new NothingFunction(library);
    const invoke = threads.symbol("WasmEdge_ExecutorInvoke");
    const { guestNice = GUEST_NICE } = options;
    this.#context = { library, system, threads, nothing, invoke, guestNice };
    this.#guestsMax = options.guestsMax ?? GUESTS_MAX;
    this.version = library.version;
  }

  /** System calls through the same library. */
  get system(): System {
    return this.#context.system;
  }

  /** Parses, validates and checks a module, or finds it in the cache. */
  async load(bytes: Uint8Array<ArrayBuffer>): Promise<EngineModule> {
    const digest = await sha256(bytes);
    const reference = await this.#modules.acquire(
      digest,
      bytes.length,
      () => WasmEdgeModule.load(this.#context.library, bytes),
    );
    const module: EngineModule = {
      digest,
      compiled: false,
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
    if (this.#guests >= this.#guestsMax) {
      throw new SandboxError(
        "ResourceExhausted",
        `cannot make one more wasm guest: this sandboxer has ${this.#guests}, the most it may have`,
      );
    }
    this.#guests++;
    try {
      return await WasmEdgeGuest.create(this.#context, shared, options, () => this.#onGuestGone());
    } catch (error) {
      this.#guests--;
      throw error;
    }
  }

  /** Guests and modules in memory. */
  stats(): EngineStats {
    return {
      guests: this.#guests,
      guestsMax: this.#guestsMax,
      modules: this.#modules.size,
      moduleBytes: this.#modules.bytes,
      compiledModules: 0,
    };
  }

  /** Releases everything; no guest may be left. */
  async close(): Promise<void> {
    await this.#trim;
    await this.#context.threads.close();
    this.#context.nothing[Symbol.dispose]();
    this.#modules.close();
  }

  #onGuestGone(): void {
    this.#guests--;
    if (++this.#guestsSinceTrim < GUESTS_PER_TRIM) return;
    this.#guestsSinceTrim = 0;
    this.#trim ??= this.#context.library.memory.trim().finally(() => this.#trim = undefined);
  }
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  if (bytes.length <= HASH_INLINE_BYTES_MAX) {
    return createHash("sha256").update(bytes).digest("hex");
  }
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return new Uint8Array(digest).toHex();
}
