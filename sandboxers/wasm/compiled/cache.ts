/**
 * The cache of compiled code: finds what is there, has compiled what is not, and remembers what
 * cannot be. Whatever goes wrong, modules are interpreted and pods run: nothing here throws, each
 * kind of trouble is told once.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { type Log, noLog } from "../../log.ts";
import type { CompiledModules, CompiledState } from "../compiled_modules.ts";
import type { CacheKey } from "./cache_key.ts";
import type { Compiler } from "./compiler.ts";
import { CompiledDirectory, type DirectoryUsage } from "./directory.ts";
import { JobQueue, type Taken } from "./queue.ts";

/** Options of {@link CompiledCache.open}. */
export interface CompiledCacheOptions {
  /** Where entries lie, an absolute path. */
  readonly directory: string;
  /** See {@link CacheKey}. */
  readonly key: CacheKey;
  /** Compiles; undefined where the process only uses what others have compiled. */
  readonly compiler?: Compiler;
  /** Most bytes on disk (default 1 GiB). */
  readonly bytesMax?: number;
  /** Most files (default 4096). */
  readonly entriesMax?: number;
  /** Compiles at a time (default 1). */
  readonly compilesMax?: number;
  /** Modules that may wait to be compiled (default 64). */
  readonly waitingMax?: number;
  /**
   * How long a module waits before it is compiled, in milliseconds (default 100): not to compete
   * with the very start that asked for it.
   */
  readonly delayMs?: number;
  /** Where notes go (default: nowhere). */
  readonly log?: Log;
  /** Milliseconds since the epoch (default: the clock of this machine). */
  readonly now?: () => number;
}

/** How {@link CompiledCache.compile} ended. */
export type CompileResult =
  /** `compiled` just now, or `present` from before. */
  | { readonly kind: "compiled" | "present" }
  /** Not, and why; `failed` is the module's fault. */
  | { readonly kind: "failed" | "unavailable"; readonly reason: string };

/** Figures of a cache since it was opened. */
export interface CompiledCacheStats {
  /** Modules whose code was found and verified. */
  readonly hits: number;
  /** Modules whose code was looked for in vain. */
  readonly misses: number;
  /** Modules that were compiled. */
  readonly compiled: number;
  /** Modules that could not be compiled. */
  readonly failed: number;
  /** How long compiling took altogether, in milliseconds. */
  readonly compileMs: number;
  /** Requests that were not taken because too many waited. */
  readonly dropped: number;
  /** Entries that were damaged, or did not load. */
  readonly rejected: number;
}

const BYTES_MAX = 1_073_741_824;
const ENTRIES_MAX = 4_096;
const WAITING_MAX = 64;
/** Most bytes of modules that wait. */
const WAITING_BYTES_MAX = 268_435_456;
const DELAY_MS = 100;
/** How long it is remembered that a module cannot be compiled, in milliseconds: a day. */
const FAILURE_MS = 86_400_000;
/** How long a module is not asked for again after trouble that is not its own: five minutes. */
const TROUBLE_MS = 300_000;
/** How long the end of a running compile is waited for, in milliseconds. */
const CLOSE_MS = 2_000;
/** Most modules of which something is remembered in memory. */
const REMEMBERED_MAX = 16_384;

/** See {@link CompiledModules}. Close it at the end. */
export class CompiledCache implements CompiledModules {
  readonly #options: CompiledCacheOptions;
  readonly #directory: CompiledDirectory | undefined;
  readonly #queue: JobQueue;
  readonly #log: Log;
  readonly #now: () => number;
  /** Modules whose code is there, as far as is known. */
  readonly #ready = new Set<string>();
  /** Modules whose code may be in use by this process. */
  readonly #used = new Set<string>();
  /** When a module that cannot be had may be asked for again. */
  readonly #unavailable = new Map<string, number>();
  /** Modules whose code did not load. */
  readonly #rejected = new Set<string>();
  readonly #told = new Set<string>();
  /** Settled when what was rejected is removed. */
  #removed: Promise<void> = Promise.resolve();
  readonly #counts = {
    ...{ hits: 0, misses: 0, compiled: 0, failed: 0, dropped: 0, rejected: 0 },
    compileMs: 0,
  };

  private constructor(options: CompiledCacheOptions, directory: CompiledDirectory | undefined) {
    const { log = noLog, now = Date.now, compilesMax = 1, delayMs = DELAY_MS } = options;
    this.#options = options;
    this.#directory = directory;
    this.#log = log;
    this.#now = now;
    this.#queue = new JobQueue({
      runningMax: compilesMax,
      waitingMax: options.waitingMax ?? WAITING_MAX,
      waitingWeightMax: WAITING_BYTES_MAX,
      delayMs,
    });
  }

  /** Opens a cache. Where its directory cannot be used, it is one that never has anything. */
  static async open(options: CompiledCacheOptions): Promise<CompiledCache> {
    const { directory: path, log = noLog } = options;
    const limits = {
      bytesMax: options.bytesMax ?? BYTES_MAX,
      entriesMax: options.entriesMax ?? ENTRIES_MAX,
    };
    let directory: CompiledDirectory | undefined;
    try {
      directory = await CompiledDirectory.open(path, limits);
    } catch (error) {
      const { message } = SandboxError.from(error);
      log.warn("no compiled code: modules are interpreted", { reason: message });
    }
    const reason = directory?.readonlyReason;
    if (reason !== undefined) {
      log.warn("no module is compiled: the cache cannot be written to", { path, reason });
    }
    return new CompiledCache(options, directory);
  }

  /** Whether it never has anything, because its directory cannot be used. */
  get isOff(): boolean {
    return this.#directory === undefined;
  }

  /** See {@link CompiledModules.state}. */
  state(digest: string): CompiledState {
    if (this.#directory === undefined) return "unavailable";
    if (this.#queue.has(digest)) return "compiling";
    if (this.#ready.has(digest)) return "ready";
    const until = this.#unavailable.get(digest);
    if (until === undefined) return "unknown";
    if (until > this.#now()) return "unavailable";
    this.#unavailable.delete(digest);
    return "unknown";
  }

  /** See {@link CompiledModules.find}. */
  async find(digest: string): Promise<string | undefined> {
    const path = await this.#find(digest);
    if (path === undefined) {
      this.#counts.misses++;
      return undefined;
    }
    this.#counts.hits++;
    remember(this.#used, digest);
    return path;
  }

  /** See {@link CompiledModules.request}. */
  request(digest: string, bytes: Uint8Array<ArrayBuffer>): void {
    const state = this.state(digest);
    if (state !== "unknown" && state !== "ready") return;
    const { compiler } = this.#options;
    if (compiler === undefined || this.#directory?.readonlyReason !== undefined) {
      // Somebody else may compile it at any time, so it is looked for again soon.
      this.#avoid(digest, this.#now() + TROUBLE_MS);
      return;
    }
    const taken = this.#queue.add({
      key: digest,
      weight: bytes.length,
      run: async (signal) => {
        await this.#compile(compiler, digest, bytes, signal);
      },
    });
    this.#noteDropped(digest, taken);
  }

  /** See {@link CompiledModules.reject}. */
  reject(digest: string): void {
    if (this.#directory === undefined) return;
    this.#ready.delete(digest);
    this.#counts.rejected++;
    // What was made again and still does not load never will, as on a file system without execution.
    const again = this.#rejected.has(digest);
    if (again) this.#avoid(digest, this.#now() + FAILURE_MS);
    remember(this.#rejected, digest);
    this.#tell("reject", "compiled code did not load", { module: digest, again });
    const remove = () => this.#directory?.remove(digest, this.#options.key);
    this.#removed = this.#removed.then(remove);
  }

  /**
   * Compiles a module now, unless it is there.
   *
   * @param digest SHA-256 of the bytes, in hexadecimal.
   * @param bytes The module.
   * @param signal Aborting it gives it up.
   */
  async compile(
    digest: string,
    bytes: Uint8Array<ArrayBuffer>,
    signal: AbortSignal,
  ): Promise<CompileResult> {
    const { compiler } = this.#options;
    if (compiler === undefined || this.#directory === undefined) {
      return { kind: "unavailable", reason: "the cache of compiled code is off" };
    }
    return await this.#compile(compiler, digest, bytes, signal);
  }

  /** Figures since it was opened. */
  stats(): CompiledCacheStats {
    return { ...this.#counts };
  }

  /** What lies on disk now. */
  async usage(): Promise<DirectoryUsage> {
    return await this.#directory?.usage() ?? { entries: 0, bytes: 0 };
  }

  /** Ends the compile that runs and drops those that wait. */
  async close(): Promise<void> {
    const ended = await this.#queue.close(CLOSE_MS);
    await this.#removed;
    if (!ended) this.#log.warn("a compile did not end", { afterMs: CLOSE_MS });
    this.#log.debug("compiled code", { ...this.#counts });
  }

  async #find(digest: string): Promise<string | undefined> {
    await this.#removed;
    const { key } = this.#options;
    const path = await this.#directory?.find(digest, key, () => {
      this.#counts.rejected++;
      this.#tell("damaged", "compiled code is damaged: it is made again", { module: digest });
    });
    if (path !== undefined) {
      this.#unavailable.delete(digest);
      remember(this.#ready, digest);
      return path;
    }
    this.#ready.delete(digest);
    const failure = await this.#directory?.failure(digest, key, this.#now());
    if (failure !== undefined) this.#avoid(digest, failure.expiresAtMs);
    return undefined;
  }

  async #compile(
    compiler: Compiler,
    digest: string,
    bytes: Uint8Array<ArrayBuffer>,
    signal: AbortSignal,
  ): Promise<CompileResult> {
    const known = await this.#known(digest);
    if (known !== undefined) return known;
    const begin = performance.now();
    const result = await this.#compileOrFail(compiler, digest, bytes, signal)
      .catch((error: unknown): CompileResult => ({
        kind: "unavailable",
        reason: error instanceof Error ? error.message : String(error),
      }));
    const ms = Math.round(performance.now() - begin);
    this.#counts.compileMs += ms;
    const fields = {
      module: digest,
      bytes: bytes.length,
      ms,
      ...("reason" in result ? { reason: result.reason } : {}),
    };
    if (result.kind === "compiled") {
      this.#counts.compiled++;
      this.#log.info("compiled a module", fields);
      this.#log.debug("compiled code", { ...this.#counts, ...await this.usage() });
    } else if (result.kind === "failed") {
      this.#counts.failed++;
      this.#log.info("cannot compile a module: it is interpreted", fields);
    } else if (result.kind === "unavailable" && !signal.aborted) {
      this.#counts.failed++;
      this.#avoid(digest, this.#now() + TROUBLE_MS);
      this.#tell("unavailable", "cannot compile: modules are interpreted", fields);
    }
    return result;
  }

  /** What another process, or an earlier one, has found out about a module. */
  async #known(digest: string): Promise<CompileResult | undefined> {
    if (await this.#find(digest) !== undefined) return { kind: "present" };
    const failure = await this.#directory?.failure(digest, this.#options.key, this.#now());
    return failure && { kind: "failed", reason: failure.reason };
  }

  async #compileOrFail(
    compiler: Compiler,
    digest: string,
    bytes: Uint8Array<ArrayBuffer>,
    signal: AbortSignal,
  ): Promise<CompileResult> {
    const directory = this.#directory;
    if (directory === undefined) return { kind: "unavailable", reason: "the cache is off" };
    const { key } = this.#options;
    await using writer = await directory.create();
    const outcome = await compiler.compile(bytes, writer, signal);
    if (outcome.kind === "failed") {
      const until = this.#now() + FAILURE_MS;
      this.#avoid(digest, until);
      await directory.storeFailure(digest, key, outcome.reason, until);
    }
    if (outcome.kind !== "compiled") return outcome;
    if (!await directory.store(writer, digest, key, this.#used)) {
      return { kind: "unavailable", reason: "its code is larger than the whole cache may be" };
    }
    remember(this.#ready, digest);
    return { kind: "compiled" };
  }

  #noteDropped(digest: string, taken: Taken): void {
    if (taken !== "full") return;
    this.#counts.dropped++;
    this.#log.debug("too many modules wait to be compiled", { module: digest });
  }

  /** Neither looks for nor compiles a module until a time. */
  #avoid(digest: string, untilMs: number): void {
    const [oldest] = this.#unavailable.keys();
    if (this.#unavailable.size >= REMEMBERED_MAX && oldest !== undefined) {
      this.#unavailable.delete(oldest);
    }
    this.#unavailable.set(digest, untilMs);
  }

  /** Warns of each kind of trouble once; again at level debug. */
  #tell(kind: string, message: string, fields: Readonly<Record<string, unknown>>): void {
    if (this.#told.has(kind)) this.#log.debug(message, fields);
    else this.#log.warn(message, fields);
    this.#told.add(kind);
  }
}

/** Adds to a set that stays bounded: what was added first is forgotten. */
function remember(set: Set<string>, digest: string): void {
  const [oldest] = set;
  if (set.size >= REMEMBERED_MAX && oldest !== undefined) set.delete(oldest);
  set.add(digest);
}
