/**
 * Compiles modules ahead of their first start, with all that a process needs to run them compiled.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Engine } from "../engine.ts";
import { checkModule } from "../module_sections.ts";
import { sha256 } from "../digest.ts";
import { KEEPER_MODULE } from "../wasmedge/keeper.ts";
import type { CompiledCache, CompileResult } from "./cache.ts";

/** What became of a module. */
export type PrecompileResult = CompileResult | {
  /** It can be run in no way. */
  readonly kind: "invalid";
  /** Why. */
  readonly reason: string;
};

/** Compiles modules into a cache, one after the other. */
export class Precompiler {
  readonly #cache: CompiledCache;
  readonly #engine: Engine;
  #keeper: Promise<CompileResult> | undefined;

  /**
   * Does nothing yet.
   *
   * @param cache Takes the code.
   * @param engine Refuses what it would not run; without a cache of its own.
   */
  constructor(cache: CompiledCache, engine: Engine) {
    this.#cache = cache;
    this.#engine = engine;
  }

  /**
   * Compiles a module, unless it is there.
   *
   * @param bytes The file as it is in the image.
   * @param signal Aborting it gives it up.
   */
  async compile(bytes: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<PrecompileResult> {
    try {
      using _module = await this.#engine.load(bytes);
    } catch (error) {
      const { code, message } = SandboxError.from(error);
      if (code !== "InvalidArgument") throw error;
      return {
        kind: "invalid",
        reason: message.replace("cannot load the WebAssembly module: ", ""),
      };
    }
    // Without the keeper's code a process runs no other.
    this.#keeper ??= this.#compile(KEEPER_MODULE, signal);
    const keeper = await this.#keeper;
    return "reason" in keeper ? keeper : await this.#compile(bytes, signal);
  }

  /** Under the digest, and of the bytes, that the engine will look for. */
  async #compile(bytes: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<CompileResult> {
    const checked = checkModule(bytes).bytes;
    return await this.#cache.compile(await sha256(checked), checked, signal);
  }
}
