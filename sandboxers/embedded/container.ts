/**
 * A running container of an embedded sandboxer, with its streams.
 *
 * @module
 */

import { constants } from "node:os";
import { SandboxError } from "../lifecycle/errors.ts";
import type { Sandboxer as Lifecycle } from "../lifecycle/sandboxer.ts";
import type { Exit, Stats } from "../lifecycle/spec.ts";
import type { Container, Output, OutputOptions } from "./api.ts";
import { collect } from "./collect.ts";
import type { Stdio } from "./stdio.ts";

/** Most bytes of each stream that `output` collects unless told otherwise. */
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

/** How long a disposal waits for a killed container to end. */
const KILL_WAIT_MS = 10_000;

/** What a started container is made of. */
export interface StartedContainer {
  /** Runs it. */
  readonly lifecycle: Lifecycle;
  /** Its id. */
  readonly id: string;
  /** The id of its process or thread. */
  readonly pid: number;
  /** Its streams. */
  readonly stdio: Stdio;
  /** How it ended; never rejects. */
  readonly exit: Promise<Exit>;
  /** Aborting it kills the container. */
  readonly signal: AbortSignal | undefined;
  /** Releases everything else; called once, when the container has ended. */
  readonly release: () => Promise<void>;
}

/** See {@link Container}. */
export class EmbeddedContainer implements Container {
  readonly #started: StartedContainer;
  readonly #onAbort = (): void => void this.kill().catch(() => undefined);
  #disposal: Promise<void> | undefined;

  /** Takes over what it is given. */
  constructor(started: StartedContainer) {
    this.#started = started;
    const { signal, exit } = started;
    if (signal === undefined) return;
    signal.addEventListener("abort", this.#onAbort, { once: true });
    if (signal.aborted) this.#onAbort();
    void exit.then(() => signal.removeEventListener("abort", this.#onAbort));
  }

  /** Its id. */
  get id(): string {
    return this.#started.id;
  }

  /** The id of its process or thread. */
  get pid(): number {
    return this.#started.pid;
  }

  /** Its standard input, where piped. */
  get stdin(): WritableStream<Uint8Array> {
    return this.#started.stdio.stdin;
  }

  /** Its standard output, where piped. */
  get stdout(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#started.stdio.stdout;
  }

  /** Its standard error, where piped. */
  get stderr(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#started.stdio.stderr;
  }

  /** How it ended. */
  get exit(): Promise<Exit> {
    return this.#started.exit;
  }

  /** Sends a signal; does nothing once it has ended. */
  async kill(signal: Deno.Signal | number = "SIGKILL"): Promise<void> {
    const { lifecycle, id } = this.#started;
    try {
      await lifecycle.killProcess(id, "", signalNumber(signal));
    } catch (error) {
      // It has ended already.
      if (!isNotFound(error)) throw error;
    }
  }

  /** What it uses. */
  async stats(): Promise<Stats> {
    return await this.#started.lifecycle.containerStats(this.id);
  }

  /** Waits for the end and collects what it wrote. */
  async output({ bytesMax = OUTPUT_BYTES_MAX }: OutputOptions = {}): Promise<Output> {
    const { stdio } = this.#started;
    const read = (name: "stdout" | "stderr"): Promise<Uint8Array<ArrayBuffer>> =>
      stdio.isPiped(name)
        ? collect(stdio[name], bytesMax, `${name} of container "${this.id}"`)
        : Promise.resolve(new Uint8Array());
    try {
      const [stdout, stderr, exit] = await Promise.all([read("stdout"), read("stderr"), this.exit]);
      return { exit, stdout, stderr };
    } catch (error) {
      await this.kill();
      throw error;
    }
  }

  /** Kills what still runs and releases everything. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposal ??= this.#dispose();
    return this.#disposal;
  }

  async #dispose(): Promise<void> {
    await this.kill();
    const { lifecycle, id } = this.#started;
    const timeout = new AbortController();
    const timer = setTimeout(
      () =>
        timeout.abort(
          new SandboxError(
            "DeadlineExceeded",
            `cannot end container "${id}": it still runs ${KILL_WAIT_MS} ms after SIGKILL`,
          ),
        ),
      KILL_WAIT_MS,
    );
    try {
      await lifecycle.waitProcess(id, "", timeout.signal);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    } finally {
      clearTimeout(timer);
    }
    await this.exit;
    await this.#started.release();
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof SandboxError && error.code === "NotFound";
}

function signalNumber(signal: Deno.Signal | number): number {
  if (typeof signal === "number") return signal;
  const number = new Map<string, number>(Object.entries(constants.signals)).get(signal);
  if (number !== undefined) return number;
  throw new SandboxError(
    "InvalidArgument",
    `cannot send signal ${JSON.stringify(signal)}: expected a name such as "SIGTERM" or a number`,
  );
}
