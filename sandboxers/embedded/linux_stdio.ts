/**
 * The standard streams of a Linux process, by mode: pipes to this program, this program's own
 * streams, or nothing. All of it is streams of this process; how bytes come from there to the sandbox
 * is the kind's to know.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { StdioSpec, StreamSpec } from "../lifecycle/spec.ts";
import type { StdioMode } from "./api.ts";
import { MemoryPipe } from "./memory_pipe.ts";
import type { ProcessStdio } from "./process.ts";
import type { LinuxProcessOptions } from "./linux_api.ts";

/** How the streams of a process are to be connected. */
export type LinuxStdioOptions = Pick<
  LinuxProcessOptions,
  "stdin" | "stdout" | "stderr" | "terminal"
>;

/** The connected streams of a process. */
export class LinuxStdio implements ProcessStdio {
  readonly #label: string;
  readonly #pipes: Partial<Record<"stdin" | "stdout" | "stderr", MemoryPipe>> = {};
  /** What the lifecycle is told. */
  readonly spec: StdioSpec;

  /**
   * Connects the streams.
   *
   * @param options How.
   * @param label Whose they are, for messages, such as `container "a"`.
   * @throws {SandboxError} `InvalidArgument` for a standard error beside a terminal.
   */
  constructor(options: LinuxStdioOptions, label: string) {
    const { stdin = "null", stdout = "piped", terminal = false } = options;
    this.#label = label;
    if (terminal !== false && options.stderr !== undefined && options.stderr !== "null") {
      throw new SandboxError(
        "InvalidArgument",
        `cannot connect stderr of ${label}: with a terminal, stdout carries both outputs`,
      );
    }
    const { stderr = terminal === false ? "piped" : "null" } = options;
    const size = typeof terminal === "object" ? terminal : undefined;
    const input = (mode: StdioMode): StreamSpec =>
      mode === "piped"
        ? { kind: "readable", readable: this.#open("stdin").readable }
        : mode === "inherit"
        ? { kind: "fd", fd: 0 }
        : { kind: "null" };
    const output = (name: "stdout" | "stderr", mode: StdioMode, fd: number): StreamSpec =>
      mode === "piped"
        ? { kind: "writable", writable: this.#open(name).writable }
        : mode === "inherit"
        ? { kind: "fd", fd }
        : { kind: "null" };
    this.spec = {
      stdin: input(stdin),
      stdout: output("stdout", stdout, 1),
      stderr: output("stderr", stderr, 2),
      terminal: terminal !== false,
      ...(size === undefined ? {} : { terminalSize: size }),
    };
  }

  #open(name: "stdin" | "stdout" | "stderr"): MemoryPipe {
    const pipe = new MemoryPipe(`${name} of ${this.#label}`);
    this.#pipes[name] = pipe;
    return pipe;
  }

  /** Its standard input. */
  get stdin(): WritableStream<Uint8Array> {
    return this.#piped("stdin").writable;
  }

  /** Its standard output. */
  get stdout(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#piped("stdout").readable;
  }

  /** Its standard error. */
  get stderr(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#piped("stderr").readable;
  }

  /** Whether an output comes here. */
  isPiped(name: "stdout" | "stderr"): boolean {
    return this.#pipes[name] !== undefined;
  }

  #piped(name: "stdin" | "stdout" | "stderr"): MemoryPipe {
    const pipe = this.#pipes[name];
    if (pipe !== undefined) return pipe;
    throw new SandboxError(
      "FailedPrecondition",
      `cannot use ${name} of ${this.#label}: it is not piped: run it with ${name}: "piped"`,
    );
  }

  /** The process has ended: readers find the end, writers fail. */
  end(): void {
    this.#pipes.stdin?.abandon();
    this.#pipes.stdout?.end();
    this.#pipes.stderr?.end();
  }

  /** Nobody will read any more. Its input stays: the process that has it has still to end. */
  abandon(): void {
    this.#pipes.stdout?.abandon();
    this.#pipes.stderr?.abandon();
  }

  /** Releases everything. */
  [Symbol.dispose](): void {
    for (const pipe of Object.values(this.#pipes)) pipe.abandon();
  }
}
