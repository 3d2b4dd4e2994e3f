/**
 * Compiled code for tests: made by `wasmedge compile` in a directory of its own, without the care
 * that the real cache takes.
 *
 * @module
 */

import type { CompiledModules, CompiledState } from "../compiled_modules.ts";
import type { GuestEnd, GuestOptions } from "../engine.ts";
import { collectedPipe } from "../fixture.ts";
import { OPEN } from "../native/syscalls.ts";
import { COMPILE_OPTIONS } from "./compile_options.ts";
import type { WasmEdgeEngine } from "./engine.ts";

/** Compiles with the command line tool. */
export class TestCompiledModules implements CompiledModules, AsyncDisposable {
  /** Digests that were looked for, in order. */
  readonly finds: string[] = [];
  /** Digests that were asked for, in order. */
  readonly requests: string[] = [];
  /** Digests that were rejected, in order. */
  readonly rejects: string[] = [];
  /** Called with the path of what was found, before it is told. */
  onFound: (path: string) => Promise<void> | void = () => undefined;
  /** Whether what is asked for is compiled. */
  compiles = true;
  readonly #directory = Deno.makeTempDirSync({ prefix: "quasaur-compiled-" });
  readonly #states = new Map<string, CompiledState>();
  readonly #running = new Set<Promise<void>>();

  /** Where the compiled code of a module is, or would be. */
  path(digest: string): string {
    return `${this.#directory}/${digest}.so`;
  }

  state(digest: string): CompiledState {
    return this.#states.get(digest) ?? "unknown";
  }

  async find(digest: string): Promise<string | undefined> {
    this.finds.push(digest);
    if (this.state(digest) !== "ready") return undefined;
    await this.onFound(this.path(digest));
    return this.path(digest);
  }

  request(digest: string, bytes: Uint8Array<ArrayBuffer>): void {
    this.requests.push(digest);
    if (!this.compiles) return;
    this.#states.set(digest, "compiling");
    const running = this.#compile(digest, bytes).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  reject(digest: string): void {
    this.rejects.push(digest);
    this.#states.delete(digest);
  }

  /** Settles when all that was asked for is done. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  async #compile(digest: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const source = `${this.#directory}/${digest}.wasm`;
    await Deno.writeFile(source, bytes);
    const { optimizationLevel, interruptible } = COMPILE_OPTIONS;
    const args = ["compile", "--optimize", `${optimizationLevel}`];
    if (interruptible) args.push("--interruptible");
    // The tool makes a shared object of this name, and something else of any other.
    const target = `${this.#directory}/${digest}.new.so`;
    const { success } = await new Deno.Command("wasmedge", {
      args: [...args, source, target],
      stdout: "null",
      stderr: "null",
    }).output();
    if (success) await Deno.rename(target, this.path(digest));
    this.#states.set(digest, success ? "ready" : "unavailable");
  }

  /** Waits for what is being compiled and removes the directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.settled();
    await Deno.remove(this.#directory, { recursive: true });
  }
}

/** What a guest that was run by {@link runOn} did. */
export interface Run {
  /** How it ended. */
  readonly end: GuestEnd;
  /** What it wrote to standard output. */
  readonly stdout: string;
  /** Whether it ran compiled code. */
  readonly compiled: boolean;
}

/** Runs a guest of an engine to its end; its input is empty. */
export async function runOn(
  engine: WasmEdgeEngine,
  bytes: Uint8Array<ArrayBuffer>,
  options: Partial<GuestOptions> = {},
): Promise<Run> {
  const out = collectedPipe();
  const empty = engine.system.open("/dev/null", OPEN.readWrite, "stdin");
  try {
    using module = await engine.load(bytes);
    using guest = await engine.instantiate(module, {
      ...{ args: ["guest"], env: [], preopens: [] },
      ...{ stdin: empty, stdout: out.writeFd, stderr: empty },
      ...options,
    });
    await guest.start({ name: "test", steps: [] });
    const end = await guest.ended;
    out.close();
    return { end, stdout: await out.text, compiled: module.compiled };
  } catch (error) {
    out.close();
    await out.text;
    throw error;
  } finally {
    engine.system.close(empty);
  }
}
