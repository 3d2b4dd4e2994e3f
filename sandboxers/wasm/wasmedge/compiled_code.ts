/**
 * Compiled code on its way into the engine: found, looked at, mapped, and made known to the
 * handler that stops it. What does not work out is remembered, so that a module that cannot run
 * compiled costs its next start nothing.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { CompiledModules } from "../compiled_modules.ts";
import type { ModuleShape } from "../module_sections.ts";
import type { System } from "../native/system.ts";
import type { GuestThreads } from "../native/threads.ts";
import { COMPILE_OPTIONS } from "./compile_options.ts";
import { compiledFlaw } from "./compiled_file.ts";
import type { WasmEdgeLibrary } from "./library.ts";
import { WasmEdgeModule } from "./module.ts";

/** Digests that are remembered as not to be used; beyond it all are forgotten. */
const UNFIT_MAX = 10_000;
/** How often a damaged file is made again before its module is left to the interpreter. */
const REJECTS_MAX = 2;

/** Loads compiled code. One for an engine. */
export class CompiledCode {
  readonly #library: WasmEdgeLibrary;
  readonly #system: System;
  readonly #threads: GuestThreads;
  readonly #modules: CompiledModules;
  /** How often the code of a module was rejected; Infinity where it can never be used. */
  readonly #rejects = new Map<string, number>();
  /** Whether there is no room to make more code known; until some of it goes. */
  #full = false;

  /**
   * Does nothing yet.
   *
   * @param library The engine.
   * @param system Reads the files.
   * @param threads Where code is made known.
   * @param modules Where the code comes from.
   */
  constructor(
    library: WasmEdgeLibrary,
    system: System,
    threads: GuestThreads,
    modules: CompiledModules,
  ) {
    this.#library = library;
    this.#system = system;
    this.#threads = threads;
    this.#modules = modules;
  }

  /**
   * Whether it may be worth it to look for a module's code now. Costs no access to the disk.
   *
   * @param digest What the code was made of.
   */
  isDue(digest: string): boolean {
    if (this.#full || !this.#isUsable() || this.#isUnfit(digest)) return false;
    const state = this.#modules.state(digest);
    return state === "unknown" || state === "ready";
  }

  /**
   * Asks for a module to be compiled, unless that is under way or of no use.
   *
   * @param digest SHA-256 of the bytes.
   * @param bytes The module; validated.
   */
  request(digest: string, bytes: Uint8Array<ArrayBuffer>): void {
    if (!this.#isUsable() || this.#isUnfit(digest)) return;
    if (this.#modules.state(digest) === "unknown") this.#modules.request(digest, bytes);
  }

  /**
   * Loads the code of a module; never fails.
   *
   * @param digest What the code was made of.
   * @param shape What the module asks for.
   * @returns Undefined when there is none that can be used.
   */
  async load(digest: string, shape: ModuleShape): Promise<WasmEdgeModule | undefined> {
    const path = await this.#modules.find(digest);
    if (path === undefined) return undefined;
    const flaw = await compiledFlaw(this.#system, path);
    if (flaw === "frames") this.#remember(digest, Infinity);
    if (flaw === "damaged") this.#reject(digest);
    if (flaw !== undefined) return undefined;
    try {
      const module = await WasmEdgeModule.loadCompiled(this.#library, path, shape);
      return this.#register(module, path);
    } catch (error) {
      if (!(error instanceof SandboxError)) throw error;
      this.#reject(digest);
      return undefined;
    }
  }

  /** Code that nothing can stop is not run. */
  #isUsable(): boolean {
    return COMPILE_OPTIONS.interruptible || this.#threads.canInterruptCode();
  }

  #isUnfit(digest: string): boolean {
    return (this.#rejects.get(digest) ?? 0) > REJECTS_MAX;
  }

  #reject(digest: string): void {
    this.#remember(digest, (this.#rejects.get(digest) ?? 0) + 1);
    this.#modules.reject(digest);
  }

  #remember(digest: string, rejects: number): void {
    if (this.#rejects.size >= UNFIT_MAX) this.#rejects.clear();
    this.#rejects.set(digest, rejects);
  }

  /**
   * Lets faults and interrupts leave the code; where there is no room for that, it does not run.
   *
   * @throws {SandboxError} When the code is not what it should be.
   */
  #register(module: WasmEdgeModule, path: string): WasmEdgeModule | undefined {
    try {
      const code = this.#threads.addCode(path);
      module.onDispose(() => {
        this.#threads.removeCode(code);
        this.#full = false;
      });
      return module;
    } catch (error) {
      module[Symbol.dispose]();
      if (!(error instanceof SandboxError) || error.code !== "ResourceExhausted") throw error;
      this.#full = true;
      return undefined;
    }
  }
}
