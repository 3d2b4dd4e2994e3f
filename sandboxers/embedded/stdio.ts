/**
 * The three standard streams of a container, by mode: pipes to this program, this program's own
 * streams, or nothing. One object owns all the descriptors of a container.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { StdioSpec, StreamSpec } from "../lifecycle/spec.ts";
import type { StdioMode } from "./api.ts";
import type { Descriptors } from "./kind.ts";
import { type PipeReader, type PipeWriter, readPipe, writePipe } from "./pipe_streams.ts";

/** How each stream is to be connected. */
export interface StdioModes {
  /** Standard input. */
  readonly stdin: StdioMode;
  /** Standard output. */
  readonly stdout: StdioMode;
  /** Standard error. */
  readonly stderr: StdioMode;
}

/** The connected streams of a container. Disposing of it closes every descriptor. */
export class Stdio implements Disposable {
  readonly #label: string;
  readonly #guestEnds = new DisposableStack();
  readonly #ownEnds = new DisposableStack();
  readonly #descriptors: Descriptors;
  readonly #stdin: Piped<PipeWriter> | undefined;
  readonly #stdout: Piped<PipeReader> | undefined;
  readonly #stderr: Piped<PipeReader> | undefined;
  /** What the lifecycle is told. */
  readonly spec: StdioSpec;

  /**
   * Connects the streams.
   *
   * @param descriptors Makes the pipes.
   * @param modes How.
   * @param label Whose streams they are, for messages, such as `container "a"`.
   * @throws {SandboxError} `ResourceExhausted` where no descriptor is left.
   */
  constructor(descriptors: Descriptors, modes: StdioModes, label: string) {
    this.#label = label;
    this.#descriptors = descriptors;
    using undo = new DisposableStack();
    undo.use(this);
    this.#stdin = modes.stdin === "piped" ? this.#openInput() : undefined;
    this.#stdout = modes.stdout === "piped" ? this.#openOutput("stdout") : undefined;
    this.#stderr = modes.stderr === "piped" ? this.#openOutput("stderr") : undefined;
    for (const [fd, mode] of [modes.stdin, modes.stdout, modes.stderr].entries()) {
      if (mode === "inherit") this.#lendBlocking(fd);
    }
    this.spec = {
      stdin: streamSpec(modes.stdin, this.#stdin, 0),
      stdout: streamSpec(modes.stdout, this.#stdout, 1),
      stderr: streamSpec(modes.stderr, this.#stderr, 2),
      terminal: false,
    };
    undo.move();
  }

  #openInput(): Piped<PipeWriter> {
    const [guestFd, own] = this.#descriptors.pipe();
    this.#guestEnds.defer(() => this.#descriptors.close(guestFd));
    return { guestFd, pipe: this.#ownEnds.use(writePipe(own, `stdin of ${this.#label}`)) };
  }

  #openOutput(name: string): Piped<PipeReader> {
    const [own, guestFd] = this.#descriptors.pipe();
    this.#guestEnds.defer(() => this.#descriptors.close(guestFd));
    return { guestFd, pipe: this.#ownEnds.use(readPipe(own, `${name} of ${this.#label}`)) };
  }

  /** Who started this program may have left a stream in non-blocking mode; it gets it back so. */
  #lendBlocking(fd: number): void {
    if (!this.#descriptors.isNonblocking(fd)) return;
    this.#descriptors.setNonblocking(fd, false);
    this.#guestEnds.defer(() => this.#descriptors.setNonblocking(fd, true));
  }

  /** Its standard input. */
  get stdin(): WritableStream<Uint8Array> {
    return this.#piped("stdin", this.#stdin).stream;
  }

  /** Its standard output. */
  get stdout(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#piped("stdout", this.#stdout).stream;
  }

  /** Its standard error. */
  get stderr(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#piped("stderr", this.#stderr).stream;
  }

  /** Whether an output comes here. */
  isPiped(name: "stdout" | "stderr"): boolean {
    return (name === "stdout" ? this.#stdout : this.#stderr) !== undefined;
  }

  #piped<T>(name: string, piped: Piped<T> | undefined): T {
    if (piped !== undefined) return piped.pipe;
    throw new SandboxError(
      "FailedPrecondition",
      `cannot use ${name} of ${this.#label}: it is not piped: run it with ${name}: "piped"`,
    );
  }

  /**
   * Closes the container's ends once it has ended: readers then find the end, writers a broken pipe.
   * May be called more than once.
   */
  closeGuestEnds(): void {
    this.#guestEnds.dispose();
  }

  /** Closes everything. */
  [Symbol.dispose](): void {
    this.#guestEnds.dispose();
    this.#ownEnds.dispose();
  }
}

/** A pipe: the container's end, and ours as a stream. */
interface Piped<T> {
  readonly guestFd: number;
  readonly pipe: T;
}

function streamSpec(
  mode: StdioMode,
  piped: Piped<unknown> | undefined,
  inheritedFd: number,
): StreamSpec {
  if (piped !== undefined) return { kind: "fd", fd: piped.guestFd };
  return mode === "inherit" ? { kind: "fd", fd: inheritedFd } : { kind: "null" };
}
