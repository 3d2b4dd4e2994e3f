/**
 * A running process of an embedded sandboxer, with its streams: a container's first one, or one that
 * was started beside it.
 *
 * @module
 */

import { constants } from "node:os";
import { SandboxError } from "../lifecycle/errors.ts";
import type { Sandboxer as Lifecycle } from "../lifecycle/sandboxer.ts";
import type { Exit } from "../lifecycle/spec.ts";
import type { Output, OutputOptions } from "./api.ts";
import { collect } from "./collect.ts";

/** Most bytes of each stream that `output` collects unless told otherwise. */
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

/** How long a disposal waits for a killed process to end. */
const KILL_WAIT_MS = 10_000;

/** The streams of a process. Disposing of them releases everything. */
export interface ProcessStdio extends Disposable {
  /** Its standard input, where piped. */
  readonly stdin: WritableStream<Uint8Array>;
  /** Its standard output, where piped. */
  readonly stdout: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** Its standard error, where piped. */
  readonly stderr: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** Whether an output comes here. */
  isPiped(name: "stdout" | "stderr"): boolean;
  /** Nobody will read any more: what is still written may be thrown away. Missing where it is anyway. */
  abandon?(): void;
}

/** What a started process is made of. */
export interface StartedProcess {
  /** Runs it. */
  readonly lifecycle: Lifecycle;
  /** Its container's id. */
  readonly containerId: string;
  /** The id beside its container's first process; empty for that. */
  readonly execId: string;
  /** The id of its process or thread. */
  readonly pid: number;
  /** Its streams. */
  readonly stdio: ProcessStdio;
  /** How it ended; never rejects. */
  readonly exit: Promise<Exit>;
  /** Aborting it kills the process. */
  readonly signal: AbortSignal | undefined;
  /** Releases everything else; called once, when it has ended. */
  readonly release: () => Promise<void>;
}

/** A process; what `Container` and `VmmProcess` have in common. */
export class EmbeddedProcess implements AsyncDisposable {
  readonly #started: StartedProcess;
  readonly #onAbort = (): void => void this.kill().catch(() => undefined);
  #disposal: Promise<void> | undefined;

  /** Takes over what it is given. */
  constructor(started: StartedProcess) {
    this.#started = started;
    const { signal, exit } = started;
    if (signal === undefined) return;
    signal.addEventListener("abort", this.#onAbort, { once: true });
    if (signal.aborted) this.#onAbort();
    void exit.then(() => signal.removeEventListener("abort", this.#onAbort));
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
    const { lifecycle, containerId, execId } = this.#started;
    try {
      await lifecycle.killProcess(containerId, execId, signalNumber(signal));
    } catch (error) {
      // It has ended already.
      if (!isNotFound(error)) throw error;
    }
  }

  /** Waits for the end and collects what it wrote. */
  async output({ bytesMax = OUTPUT_BYTES_MAX }: OutputOptions = {}): Promise<Output> {
    const { stdio } = this.#started;
    const read = (name: "stdout" | "stderr"): Promise<Uint8Array<ArrayBuffer>> =>
      stdio.isPiped(name)
        ? collect(stdio[name], bytesMax, `${name} of ${labelOf(this.#started)}`)
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
    const { lifecycle, containerId, execId, stdio } = this.#started;
    stdio.abandon?.();
    const timeout = new AbortController();
    const timer = setTimeout(
      () =>
        timeout.abort(
          new SandboxError(
            "DeadlineExceeded",
            `cannot end ${labelOf(this.#started)}: it still runs ${KILL_WAIT_MS} ms after SIGKILL`,
          ),
        ),
      KILL_WAIT_MS,
    );
    try {
      await lifecycle.waitProcess(containerId, execId, timeout.signal);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    } finally {
      clearTimeout(timer);
    }
    await this.exit;
    await this.#started.release();
  }
}

/** What a process is called in messages. */
export function labelOf(
  { containerId, execId }: Pick<StartedProcess, "containerId" | "execId">,
): string {
  return execId === "" ? `container "${containerId}"` : `process "${execId}"`;
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
