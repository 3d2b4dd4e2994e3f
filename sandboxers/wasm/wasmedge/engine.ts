/**
 * WasmEdge as an {@link Engine}: in this process, one shared module for each content, interpreted
 * until its compiled code is there, guests on threads of our own.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { CompiledModules } from "../compiled_modules.ts";
import type { Engine, EngineGuest, EngineModule, EngineStats, GuestOptions } from "../engine.ts";
import { GuestCount } from "../guest_count.ts";
import { DEFAULT_LIBRARY_PATH } from "../native/library.ts";
import { System } from "../native/system.ts";
import { GuestThreads } from "../native/threads.ts";
import { CompiledCode } from "./compiled_code.ts";
import { type GuestContext, WasmEdgeGuest } from "./instance.ts";
import { Keeper } from "./keeper.ts";
import { WasmEdgeLibrary } from "./library.ts";
import type { WasmEdgeModule } from "./module.ts";
import { type LoadedModule, ModuleLoader } from "./module_loader.ts";
import { NothingFunction } from "./stopper.ts";

/**
 * Most guests in one process. Each reserves 12 GiB of addresses for its linear memory; near the end
 * of the address space (about 10,800 guests) no thread could be made to stop one.
 */
export const GUESTS_MAX = 8_000;

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
  /** Where compiled code comes from; without it guests are interpreted. */
  readonly compiled?: CompiledModules;
}

/** The WasmEdge engine. One for a process. */
export class WasmEdgeEngine implements Engine {
  /** `wasmedge`. */
  readonly name = "wasmedge";
  /** The version of the library that was found. */
  readonly version: string;
  readonly #context: GuestContext;
  readonly #modules: ModuleLoader;
  readonly #keeper: Keeper | undefined;
  readonly #references = new WeakMap<EngineModule, WasmEdgeModule>();
  readonly #guests: GuestCount;
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
    const code = options.compiled && new CompiledCode(library, system, threads, options.compiled);
    this.#keeper = code && new Keeper(this.#context, code);
    this.#modules = new ModuleLoader(
      library,
      code && this.#keeper && { code, keeper: this.#keeper },
    );
    this.#guests = new GuestCount(options.guestsMax ?? GUESTS_MAX);
    this.version = library.version;
  }

  /** System calls through the same library. */
  get system(): System {
    return this.#context.system;
  }

  /** Parses, validates and checks a module, or finds it in the cache. */
  async load(bytes: Uint8Array<ArrayBuffer>): Promise<EngineModule> {
    return this.#reference(await this.#modules.load(bytes));
  }

  /** Finds a module in the cache; see {@link Engine.loadKnown}. */
  async loadKnown(digest: string): Promise<EngineModule | undefined> {
    const loaded = await this.#modules.loadKnown(digest);
    return loaded && this.#reference(loaded);
  }

  /** Makes a guest of a module of this engine. */
  async instantiate(module: EngineModule, options: GuestOptions): Promise<EngineGuest> {
    const shared = this.#references.get(module);
    if (shared === undefined) {
      throw new SandboxError("Internal", "cannot make a guest of another engine's module");
    }
    this.#guests.take();
    try {
      return await WasmEdgeGuest.create(this.#context, shared, options, () => this.#onGuestGone());
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
      ...this.#modules.stats(),
    };
  }

  /**
   * Releases everything.
   *
   * @throws {SandboxError} `FailedPrecondition` while guests run.
   */
  async close(): Promise<void> {
    // Before the keeper goes: compiled guests cannot be without it.
    const running = this.#context.threads.size - (this.#keeper?.isRunning ? 1 : 0);
    if (running > 0) {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot close the engine: ${running} guests still run`,
      );
    }
    await this.#trim;
    await this.#keeper?.close();
    await this.#context.threads.close();
    this.#context.nothing[Symbol.dispose]();
    this.#modules.close();
    this.#context.library.releaseConfigurations();
  }

  #reference({ module, digest, release }: LoadedModule): EngineModule {
    const reference: EngineModule = {
      digest,
      compiled: module.compiled,
      [Symbol.dispose]: () => release[Symbol.dispose](),
    };
    this.#references.set(reference, module);
    return reference;
  }

  #onGuestGone(): void {
    this.#guests.give();
    this.#guestsSinceTrim++;
    this.#trimIfDue();
  }

  #trimIfDue(): void {
    if (this.#trim !== undefined || this.#guestsSinceTrim < GUESTS_PER_TRIM) return;
    this.#guestsSinceTrim = 0;
    this.#trim = this.#context.library.memory.trim().finally(() => {
      this.#trim = undefined;
      this.#trimIfDue();
    });
  }
}
