/**
 * The standard streams of processes in a guest: FIFOs of containerd, files, streams of this process,
 * or its own standard streams, each connected with a stream of the agent.
 *
 * Nothing waits for the other side of a FIFO when it is opened. An exit counts only when the output
 * was written: a client that hears of the end before it has opened its end (containerd) throws away
 * what nobody has read. How long that may take is bounded: see {@link LIMITS}.
 *
 * @module
 */

import type { AgentClient } from "../../guest/client/agent_client.ts";
import type { GuestStdio } from "../../guest/protocol/messages.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { StdioSpec, StreamSpec } from "../lifecycle/spec.ts";
import type { Log } from "../log.ts";
import type { ByteSink, ByteSource } from "../host/byte_ends.ts";
import type { FifoKeeper } from "../host/fifo_holder.ts";
import { openSink, openSource } from "../host/fifo_or_file.ts";
import {
  NoSink,
  NoSource,
  OwnInput,
  OwnOutput,
  ReadableSource,
  WritableSink,
} from "../host/file_ends.ts";
import type { ProcessStreams } from "./process.ts";
import { InputPump, OutputPump } from "./stdio_pumps.ts";
import type { OpenStreams, Streams } from "./streams.ts";

/** How long the output of a process that has ended is waited for, in milliseconds. */
export interface FinishLimits {
  /** While there is output for a FIFO that nobody has opened for reading. */
  readonly unopenedMs: number;
  /** While nothing moves: the reader reads nothing, or the guest sends nothing. */
  readonly stalledMs: number;
  /** In all. */
  readonly totalMs: number;
}

/** By how a process ended. Who kills one waits for its end, not for its output. */
export const LIMITS: Readonly<Record<"exited" | "killed", FinishLimits>> = {
  exited: { unopenedMs: 5_000, stalledMs: 1_000, totalMs: 30_000 },
  killed: { unopenedMs: 100, stalledMs: 500, totalMs: 2_000 },
};

/** How often is looked whether anything moves. */
const LOOK_MS = 10;

/** What of an agent is needed for streams. */
export type StreamAgent = Pick<AgentClient, "nextStreamId" | "openInput" | "openOutput">;

/** Opens the streams of processes over the connection to one guest. */
export class AgentStreams implements Streams {
  readonly #agent: StreamAgent;
  readonly #log: Log;
  readonly #keeper: FifoKeeper | undefined;

  /**
   * Streams of one guest.
   *
   * @param agent Its agent.
   * @param log Where notes go.
   * @param keeper Holds FIFOs while no sandboxer is there. Without one their clients (containerd)
   *   take the end of this process for the end of the streams.
   */
  constructor(agent: StreamAgent, log: Log, keeper?: FifoKeeper) {
    this.#agent = agent;
    this.#log = log;
    this.#keeper = keeper;
  }

  /**
   * Opens the streams of a process that is about to be made.
   *
   * @param stdio Where they go.
   * @param label Whose they are, for messages, such as `container "a"`.
   * @throws {SandboxError} `NotFound` for a path that is not there, `InvalidArgument` for what cannot
   *   be a stream, `Unavailable` where the agent is gone. Nothing is open then.
   */
  open(stdio: StdioSpec, label: string): OpenStreams {
    const { stdin, stdout, stderr, terminal } = stdio;
    const id = (spec: StreamSpec) => spec.kind === "null" ? {} : { id: this.#agent.nextStreamId() };
    const ids = { stdin: id(stdin).id, stdout: id(stdout).id, stderr: id(stderr).id };
    const guest: GuestStdio = {
      ...(ids.stdin === undefined ? {} : { stdin: ids.stdin }),
      ...(ids.stdout === undefined ? {} : { stdout: ids.stdout }),
      // A terminal has one output.
      ...(ids.stderr === undefined || terminal ? {} : { stderr: ids.stderr }),
      // Its size comes later, where the client knows one.
      ...(terminal ? { terminal: stdio.terminalSize ?? { columns: 0, rows: 0 } } : {}),
    };
    return { guest, streams: this.#connect(stdio, guest, label, false) };
  }

  /**
   * Takes over the streams of a process that an earlier sandboxer had made. What cannot be opened any
   * more (its creator has removed it) is left out, with a note: the process goes on without.
   *
   * @param stdio Where they go.
   * @param guest Their numbers in the guest.
   * @param label Whose they are, for messages.
   * @throws {SandboxError} `Unavailable` where the agent is gone.
   */
  adopt(stdio: StdioSpec, guest: GuestStdio, label: string): ProcessStreams {
    return this.#connect(stdio, guest, label, true);
  }

  #connect(stdio: StdioSpec, guest: GuestStdio, label: string, adopt: boolean): ProcessStreams {
    using undo = new DisposableStack();
    const onError = (error: SandboxError) =>
      this.#log.warn("a stream of a process has failed", { process: label, error });
    const open = <T>(effect: () => T, nothing: () => T): T => {
      try {
        return effect();
      } catch (error) {
        if (!adopt) throw error;
        onError(SandboxError.from(error));
        return nothing();
      }
    };
    const outputs: OutputPump[] = [];
    for (const name of ["stdout", "stderr"] as const) {
      const id = guest[name];
      if (id === undefined) continue;
      const sink = undo.use(
        open(
          () => openOutput(stdio[name], `${name} of ${label}`, this.#keeper),
          () => new NoSink(),
        ),
      );
      const stream = this.#agent.openOutput(id, { adopt });
      outputs.push(undo.use(new OutputPump(stream, sink, onError)));
    }
    let input: InputPump | undefined;
    if (guest.stdin !== undefined) {
      const source = undo.use(
        open(() => openInput(stdio.stdin, `stdin of ${label}`, this.#keeper), () => new NoSource()),
      );
      const stream = this.#agent.openInput(guest.stdin, { adopt });
      input = undo.use(new InputPump(stream, source, onError));
    }
    undo.move();
    return new ProcessStdio(input, outputs);
  }
}

/** The connected streams of one process. */
class ProcessStdio implements ProcessStreams {
  readonly #input: InputPump | undefined;
  readonly #outputs: readonly OutputPump[];

  constructor(input: InputPump | undefined, outputs: readonly OutputPump[]) {
    this.#input = input;
    this.#outputs = outputs;
  }

  async finished(end: "exited" | "killed"): Promise<void> {
    this.#input?.[Symbol.dispose]();
    await Promise.all(this.#outputs.map((output) => finish(output, end)));
  }

  closeStdin(): Promise<void> {
    this.#input?.letEnd();
    return Promise.resolve();
  }

  /** Closes it; what waits is given up. */
  [Symbol.dispose](): void {
    this.#input?.[Symbol.dispose]();
    for (const output of this.#outputs) output[Symbol.dispose]();
  }
}

/** Waits for an output's end for a bounded time, and gives it up then. */
async function finish(output: OutputPump, end: "exited" | "killed"): Promise<void> {
  const limits = LIMITS[end];
  let isDone = false;
  const done = output.done.then(() => isDone = true);
  let begin = performance.now();
  let movedAt = begin;
  let progress = output.progress;
  for (;;) {
    await Promise.race([done, pause(LOOK_MS)]);
    if (isDone) return;
    const now = performance.now();
    if (progress !== output.progress) movedAt = now;
    if (end === "exited" && output.isPatient) begin = movedAt = now;
    progress = output.progress;
    const unopened = output.hasBytes && !output.hadReader;
    const limitMs = unopened ? limits.unopenedMs : limits.stalledMs;
    if (now - movedAt >= limitMs || now - begin >= limits.totalMs) break;
  }
  output[Symbol.dispose]();
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function openOutput(spec: StreamSpec, what: string, keeper?: FifoKeeper): ByteSink {
  switch (spec.kind) {
    case "null":
      return new NoSink();
    case "path":
      return openSink(spec.path, what, keeper, spec.isPatient);
    case "writable":
      return new WritableSink(spec.writable, what);
    case "fd":
      if (spec.fd === 1) return new OwnOutput(Deno.stdout);
      if (spec.fd === 2) return new OwnOutput(Deno.stderr);
  }
  throw unusable(spec, what, "a path, a writable stream, or descriptor 1 or 2");
}

function openInput(spec: StreamSpec, what: string, keeper?: FifoKeeper): ByteSource {
  switch (spec.kind) {
    case "null":
      return new NoSource();
    case "path":
      return openSource(spec.path, what, keeper);
    case "readable":
      return new ReadableSource(spec.readable);
    case "fd":
      if (spec.fd === 0) return new OwnInput();
  }
  throw unusable(spec, what, "a path, a readable stream, or descriptor 0");
}

function unusable(spec: StreamSpec, what: string, expected: string): SandboxError {
  const found = spec.kind === "fd" ? `descriptor ${spec.fd}` : `a stream of kind "${spec.kind}"`;
  return new SandboxError(
    "InvalidArgument",
    `cannot use ${found} for ${what}: expected ${expected}`,
  );
}
