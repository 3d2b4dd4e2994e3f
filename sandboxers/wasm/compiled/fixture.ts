/**
 * What the tests of the cache share: a directory that goes away, a key, small modules, a compiler
 * that is told what to do, and a log that is kept.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { Log, LogFields } from "../../log.ts";
import { noLog } from "../../log.ts";
import { type CacheKey, cacheKey } from "./cache_key.ts";
import type { CompileOutcome, Compiler, LibrarySink } from "./compiler.ts";

/** A key of nothing real. */
export const KEY: CacheKey = cacheKey({
  engine: "test 1",
  options: { optimizationLevel: 2, interruptible: false },
  processor: "none",
});

/** A signal that nobody aborts. */
export const NEVER: AbortSignal = new AbortController().signal;

/** A directory for one test, of mode 0700; removed when disposed of. */
export class TestDirectory implements AsyncDisposable {
  private constructor(
    /** Its parent, for what a test puts beside it. */
    readonly parent: string,
    /** The cache's directory; not made yet. */
    readonly path: string,
  ) {}

  /** Makes the parent. */
  static async make(): Promise<TestDirectory> {
    const parent = await Deno.makeTempDir({ prefix: "quasaur-cache-" });
    return new TestDirectory(parent, `${parent}/cache`);
  }

  /** Names of what lies in it, in order. */
  async names(): Promise<string[]> {
    return (await Array.fromAsync(Deno.readDir(this.path), ({ name }) => name)).sort();
  }

  /** Removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.parent, { recursive: true });
  }
}

/** SHA-256 in hexadecimal. */
export function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Bytes that stand for a module, each number another one. */
export function moduleBytes(number: number): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`module ${number}`);
}

/** A compiler that does what a test says. */
export class FakeCompiler implements Compiler {
  /** Modules that were compiled, as text, in order. */
  readonly compiled: string[] = [];
  /** How each compile ends. */
  outcome: CompileOutcome = { kind: "compiled" };
  /** The library of each module. */
  library: (module: Uint8Array) => Uint8Array = (module) => module;
  /** Awaited while it compiles. */
  gate: Promise<void> | undefined;

  /** See {@link Compiler.compile}. */
  async compile(
    module: Uint8Array<ArrayBuffer>,
    sink: LibrarySink,
    signal: AbortSignal,
  ): Promise<CompileOutcome> {
    this.compiled.push(new TextDecoder().decode(module));
    if (this.gate !== undefined) {
      const { promise, resolve } = Promise.withResolvers<void>();
      signal.addEventListener("abort", () => resolve(), { once: true });
      await Promise.race([this.gate, promise]);
    }
    if (signal.aborted) return { kind: "unavailable", reason: "given up" };
    if (this.outcome.kind === "compiled") await sink.write(this.library(module));
    return this.outcome;
  }
}

/** A log that keeps its warnings. */
export class KeptLog {
  /** Their messages, with their fields. */
  readonly warnings: { readonly message: string; readonly fields: LogFields }[] = [];
  /** The log. */
  readonly log: Log = {
    ...noLog,
    warn: (message, fields = {}) => this.warnings.push({ message, fields }),
  };
}

/** Waits until a condition holds; fails after 20 seconds. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  for (let i = 0; i < 4_000; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`Still not: ${what}`);
}
