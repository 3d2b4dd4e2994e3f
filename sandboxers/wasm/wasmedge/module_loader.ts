/**
 * Modules for guests: one for each content that all its guests share, compiled where compiled code
 * is to be had, else interpreted. Two of one content may live at once: guests that run keep theirs.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { assertModuleHeader } from "../module_bytes.ts";
import { ModuleCache } from "../module_cache.ts";
import { type CheckedModule, checkModule, type ModuleShape } from "../module_sections.ts";
import type { CompiledCode } from "./compiled_code.ts";
import { sha256 } from "../digest.ts";
import type { Keeper } from "./keeper.ts";
import type { WasmEdgeLibrary } from "./library.ts";
import { WasmEdgeModule } from "./module.ts";

/** Unused modules that are kept for the next guest. */
const IDLE_MODULES_MAX = 64;
/** Size of their files; in memory it is some 14 times as much, 35 times for odd ones. */
const IDLE_MODULE_BYTES_MAX = 16_777_216;

/** Compiled code and what it needs to run. */
export interface CompiledMode {
  /** Finds and loads it. */
  readonly code: CompiledCode;
  /** Has to be ready before any of it runs. */
  readonly keeper: Keeper;
}

/** A module that a guest can be made of. */
export interface LoadedModule {
  /** The module; valid until `release` is disposed of. */
  readonly module: WasmEdgeModule;
  /** SHA-256 of the bytes as they came. */
  readonly digest: string;
  /** Gives this one reference up. */
  readonly release: Disposable;
}

/** Loads modules and shares them. One for an engine. */
export class ModuleLoader {
  readonly #library: WasmEdgeLibrary;
  readonly #compiled: CompiledMode | undefined;
  readonly #modules = new ModuleCache<CachedModule>({
    idleMax: IDLE_MODULES_MAX,
    idleBytesMax: IDLE_MODULE_BYTES_MAX,
  });

  /**
   * Does nothing yet.
   *
   * @param library The engine.
   * @param compiled Without it modules are interpreted.
   */
  constructor(library: WasmEdgeLibrary, compiled: CompiledMode | undefined) {
    this.#library = library;
    this.#compiled = compiled;
  }

  /** Modules in memory. */
  stats(): {
    readonly modules: number;
    readonly moduleBytes: number;
    readonly compiledModules: number;
    readonly moduleHits: number;
    readonly moduleMisses: number;
  } {
    return {
      moduleHits: this.#modules.hits,
      moduleMisses: this.#modules.misses,
      modules: this.#modules.size,
      moduleBytes: this.#modules.bytes,
      compiledModules: [...this.#modules.modules()].filter(({ module }) => module.compiled).length,
    };
  }

  /**
   * Makes a module, or finds the one that was made of the same bytes before.
   *
   * @param bytes The file as it is in the image.
   * @throws {SandboxError} `InvalidArgument` with the reason when it cannot be run.
   */
  async load(bytes: Uint8Array<ArrayBuffer>): Promise<LoadedModule> {
    const loaded = await this.#load(await sha256(bytes), bytes);
    if (loaded === undefined) throw lost();
    return loaded;
  }

  /**
   * Finds a module that was made before.
   *
   * @param digest SHA-256 of the bytes.
   * @returns Undefined when the bytes are needed for it.
   */
  async loadKnown(digest: string): Promise<LoadedModule | undefined> {
    return await this.#load(digest, undefined);
  }

  /** Drops unused modules, now and from here on. */
  close(): void {
    this.#modules.close();
  }

  async #load(
    digest: string,
    bytes: Uint8Array<ArrayBuffer> | undefined,
  ): Promise<LoadedModule | undefined> {
    // What almost every start of a busy node is: no access to the disk, no look at the bytes.
    if (this.#modules.has(compiledKey(digest))) {
      const shared = await this.#acquireCompiled(digest, 0, () => Promise.resolve(undefined));
      if (shared !== undefined) return shared;
    }
    const known = this.#modules.peek(digest);
    if (known !== undefined && !this.#isDue(known.codeDigest)) {
      return await this.#acquire(digest, known.module.shape, () => Promise.reject(lost()));
    }
    if (bytes === undefined) return undefined;
    assertModuleHeader(bytes);
    const checked = checkModule(bytes);
    const codeDigest = checked.bytes === bytes ? digest : await sha256(checked.bytes);
    return await this.#loadCode(digest, codeDigest, checked.shape) ??
      await this.#interpret(digest, codeDigest, checked);
  }

  #isDue(codeDigest: string): boolean {
    if (this.#compiled === undefined) return false;
    const { code, keeper } = this.#compiled;
    return keeper.isDue && code.isDue(codeDigest);
  }

  async #loadCode(
    digest: string,
    codeDigest: string,
    shape: ModuleShape,
  ): Promise<LoadedModule | undefined> {
    if (this.#compiled === undefined || !this.#isDue(codeDigest)) return undefined;
    const { code, keeper } = this.#compiled;
    if (!(await keeper.ready())) return undefined;
    const loaded = await this.#acquireCompiled(digest, shape.sizeBytes, async () => {
      const module = await code.load(codeDigest, shape);
      return module && new CachedModule(module, codeDigest);
    });
    // Guests that run the interpreted one keep it until they end.
    if (loaded !== undefined) this.#modules.drop(digest);
    return loaded;
  }

  async #interpret(
    digest: string,
    codeDigest: string,
    checked: CheckedModule,
  ): Promise<LoadedModule> {
    const loaded = await this.#acquire(
      digest,
      checked.shape,
      async () => new CachedModule(await WasmEdgeModule.load(this.#library, checked), codeDigest),
    );
    this.#compiled?.code.request(codeDigest, checked.bytes);
    return loaded;
  }

  /** @param load Makes the compiled module; undefined when there is none. */
  async #acquireCompiled(
    digest: string,
    sizeBytes: number,
    load: () => Promise<CachedModule | undefined>,
  ): Promise<LoadedModule | undefined> {
    try {
      const reference = await this.#modules.acquire(compiledKey(digest), sizeBytes, async () => {
        const module = await load();
        if (module === undefined) throw new NoCompiledCode();
        return module;
      });
      return { module: reference.module.module, digest, release: reference };
    } catch (error) {
      if (error instanceof NoCompiledCode) return undefined;
      throw error;
    }
  }

  async #acquire(
    digest: string,
    shape: ModuleShape,
    load: () => Promise<CachedModule>,
  ): Promise<LoadedModule> {
    const reference = await this.#modules.acquire(digest, shape.sizeBytes, load);
    return { module: reference.module.module, digest, release: reference };
  }
}

/** A module in the cache. */
class CachedModule implements Disposable {
  /**
   * @param module The module; owned by this object.
   * @param codeDigest SHA-256 of what compiled code of it is made of.
   */
  constructor(readonly module: WasmEdgeModule, readonly codeDigest: string) {}

  [Symbol.dispose](): void {
    this.module[Symbol.dispose]();
  }
}

/** What the cache's callers get when there is nothing to share after all. */
class NoCompiledCode extends Error {}

function compiledKey(digest: string): string {
  return `${digest}+compiled`;
}

function lost(): SandboxError {
  return new SandboxError("Internal", "The module was freed while it was asked for");
}
