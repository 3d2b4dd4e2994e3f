/**
 * The standard streams of a process that an OCI runtime starts. FIFOs and files are opened by the
 * launcher and handed to the runtime as its descriptors 0 to 2: their bytes never come here. A
 * process with a terminal gets a small resident one that has the terminal. Streams of this process
 * (the command line, the SDK) go through FIFOs of our own and are pumped here.
 *
 * In the order of a process's life: {@link HandedStdio.open}, then run the runtime with
 * {@link HandedStdio.command}, or with `--console-socket` where there is a
 * {@link HandedStdio.consoleSocket}; {@link HandedStdio.begun}; at its end
 * {@link HandedStdio.finished}, and dispose of it. gVisor takes the streams of a container in an
 * existing sandbox at `runsc start`, those of a sandbox's first container at `runsc create`.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Json, StdioSpec, StreamSpec } from "../lifecycle/spec.ts";
import type { Log } from "../log.ts";
import type { ByteSink, ByteSource } from "./byte_ends.ts";
import { BytePump } from "./byte_pump.ts";
import type { ConfinedCommand } from "./confined.ts";
import { FifoSink, FifoSource, openError } from "./fifo.ts";
import type { FifoKeeper } from "./fifo_holder.ts";
import { OwnInput, OwnOutput, ReadableSource, WritableSink } from "./file_ends.ts";
import type { Launcher, ProcessIdentity } from "./launcher.ts";
import { StdinHold } from "./stdin_hold.ts";
import { type SignalTarget, Terminal } from "./terminal.ts";

const STREAMS = ["stdin", "stdout", "stderr"] as const;
type StreamName = typeof STREAMS[number];

/** What the launcher takes for no stream. */
const NOTHING = "-";

/** How long the output of a process that has ended is waited for, in milliseconds. */
const LIMITS = {
  exited: { stalledMs: 1_000, totalMs: 30_000 },
  killed: { stalledMs: 500, totalMs: 2_000 },
} as const;
/** How often is looked whether anything moves. */
const LOOK_MS = 10;

/** Where the streams of a process are opened. */
export interface HandedStdioOptions {
  /** Makes FIFOs and has terminals. */
  readonly launcher: Launcher;
  /**
   * A directory of this process alone, an absolute path that is there already; nothing of an earlier
   * process is in it. What is made in it is removed with it, by the caller.
   */
  readonly directory: string;
  /**
   * Where the console socket is made, an absolute path of at most 80 bytes that is there already: a
   * socket's path is short. Several processes may share it.
   */
  readonly socketDirectory: string;
  /** Whose streams they are, for messages, such as `container "a"`. */
  readonly label: string;
  /** Holds standard input while no sandboxer is there. */
  readonly keeper?: FifoKeeper | undefined;
  /** Where notes go. */
  readonly log: Log;
}

/** What is left of the streams for the next sandboxer. */
interface Kept {
  readonly terminal: (ProcessIdentity & { readonly socket: string }) | null;
  readonly stdinEnds: boolean;
}

/** The streams of one process. */
export class HandedStdio implements AsyncDisposable {
  readonly #launcher: Launcher;
  readonly #label: string;
  /** What the launcher opens as descriptors 0 to 2. */
  readonly #paths: Record<StreamName, string> = { stdin: "-", stdout: "-", stderr: "-" };
  #hold: StdinHold | undefined;
  #input: BytePump | undefined;
  #outputs: readonly { readonly pump: BytePump; readonly source: ByteSource }[] = [];
  #terminal: Terminal | undefined;
  #stdinEnds = false;
  /** The socket that the runtime sends the terminal to; undefined without a terminal. */
  readonly consoleSocket: string | undefined;

  private constructor(launcher: Launcher, label: string, consoleSocket: string | undefined) {
    this.#launcher = launcher;
    this.#label = label;
    this.consoleSocket = consoleSocket;
  }

  /**
   * Opens the streams of a process that is about to be made.
   *
   * @param stdio Where they go.
   * @param options See {@link HandedStdioOptions}.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} `NotFound` for a path that is not there, `InvalidArgument` for what cannot
   *   be a stream, `PermissionDenied`. Nothing is open then.
   */
  static async open(
    stdio: StdioSpec,
    options: HandedStdioOptions,
    signal?: AbortSignal,
  ): Promise<HandedStdio> {
    const { launcher, label, socketDirectory } = options;
    const socket = stdio.terminal
      ? `${socketDirectory}/${crypto.randomUUID().slice(0, 13)}.sock`
      : undefined;
    await using undo = new AsyncDisposableStack();
    const handed = undo.use(new HandedStdio(launcher, label, socket));
    await handed.#makeFifos(stdio, options.directory, signal);
    handed.#open(stdio, options);
    if (socket !== undefined) {
      handed.#terminal = await Terminal.start(
        launcher,
        { ...handed.#terminalFiles(options.directory), socket },
        stdio.terminalSize,
        signal,
      );
    }
    undo.move();
    return handed;
  }

  /**
   * Takes over the streams of a process that an earlier sandboxer had started. What it cannot open
   * any more is left out, with a note: the process goes on without. For one that was not started and
   * has no terminal, {@link HandedStdio.open} again.
   *
   * @param stdio Where they go.
   * @param record What {@link HandedStdio.record} was.
   * @param options See {@link HandedStdioOptions}, but its directory is as the earlier one left it.
   */
  static adopt(stdio: StdioSpec, record: Json, options: HandedStdioOptions): HandedStdio {
    const { launcher, label, directory, keeper, log } = options;
    const kept = parseRecord(record);
    const handed = new HandedStdio(launcher, label, kept.terminal?.socket);
    handed.#stdinEnds = kept.stdinEnds;
    if (kept.terminal !== null) {
      const { pid, startTime } = kept.terminal;
      handed.#terminal = Terminal.adopt(launcher, `${directory}/control`, { pid, startTime });
    } else if (stdio.stdin.kind === "path" && !kept.stdinEnds) {
      try {
        const { path } = stdio.stdin;
        if (isFifo(path, "stdin")) {
          handed.#hold = StdinHold.adopt(path, `stdin of ${label}`, keeper);
        }
      } catch (thrown) {
        const error = SandboxError.from(thrown);
        log.warn("the input of a process cannot be held open", { process: label, error });
      }
    }
    return handed;
  }

  /** What {@link HandedStdio.adopt} needs later; plain JSON. It changes with {@link closeStdin}. */
  get record(): Json {
    const identity = this.#terminal?.identity;
    return {
      terminal: identity === undefined || this.consoleSocket === undefined
        ? null
        : { ...identity, socket: this.consoleSocket },
      stdinEnds: this.#stdinEnds,
    };
  }

  /**
   * The command line that runs a program with the streams as its descriptors 0 to 2; with a terminal,
   * with nothing there. What the program itself says goes to the process's client, so it should be
   * told to say it elsewhere. It is run with the environment that the launcher is started with.
   *
   * @param program The program, an absolute path.
   * @param args Its arguments, without its name.
   */
  command(program: string, args: readonly string[]): ConfinedCommand {
    return {
      command: this.#launcher.path,
      args: ["stdio", ...this.descriptors, "--", program, ...args],
    };
  }

  /** What the launcher opens as descriptors 0 to 2: an absolute path each, or `-` for nothing. */
  get descriptors(): readonly [string, string, string] {
    if (this.#terminal !== undefined) return [NOTHING, NOTHING, NOTHING];
    const { stdin, stdout, stderr } = this.#paths;
    return [stdin, stdout, stderr];
  }

  /** The program has begun, and the sandbox has the streams: ends of ours are let go. */
  begun(): void {
    this.#hold?.handedOver();
    if (this.#input !== undefined) {
      // Its pump holds the FIFO now.
      this.#hold?.[Symbol.dispose]();
      this.#hold = undefined;
    }
    for (const { source } of this.#outputs) source.letEnd();
  }

  /**
   * Sets the size of the terminal; does nothing without one, or after its end.
   *
   * @param columns Characters in a line.
   * @param rows Lines.
   * @throws {SandboxError} `InvalidArgument`.
   */
  resize(columns: number, rows: number): Promise<void> {
    return Promise.try(() => this.#terminal?.resize(columns, rows));
  }

  /**
   * Says whom signals are for that are typed at the terminal; does nothing without one.
   *
   * @param to See {@link SignalTarget}.
   */
  sendSignals(to: SignalTarget): void {
    this.#terminal?.sendSignals(to);
  }

  /** Lets the process read the end of its input as soon as its client has closed its own end. */
  closeStdin(): Promise<void> {
    this.#stdinEnds = true;
    this.#input?.letEnd();
    this.#hold?.letEnd();
    return Promise.try(() => this.#terminal?.closeStdin());
  }

  /**
   * Waits until what the process has written is where it goes, for a bounded time; never rejects.
   *
   * @param end By how it ended: who kills one waits for its end, not for its output.
   */
  async finished(end: "exited" | "killed"): Promise<void> {
    this.#input?.[Symbol.dispose]();
    this.#hold?.[Symbol.dispose]();
    await Promise.all([
      this.#terminalEnded(end),
      ...this.#outputs.map(({ pump }) => finish(pump, end)),
    ]);
  }

  /** Others may have the terminal still open; a reader of its output may be slow. */
  async #terminalEnded(end: keyof typeof LIMITS): Promise<void> {
    const terminal = this.#terminal;
    if (terminal === undefined) return;
    const { stalledMs, totalMs } = LIMITS[end];
    try {
      await terminal.ended(AbortSignal.timeout(stalledMs)).catch(() => terminal.letEnd());
      await terminal.ended(AbortSignal.timeout(totalMs));
    } catch {
      // It is given up by who disposes of it.
    }
  }

  /** Makes the FIFOs for what cannot be handed over. */
  async #makeFifos(stdio: StdioSpec, directory: string, signal?: AbortSignal): Promise<void> {
    const own: string[] = [];
    for (const name of streamsOf(stdio)) {
      const spec = stdio[name];
      this.#paths[name] = spec.kind === "path"
        ? spec.path
        : spec.kind === "null"
        ? NOTHING
        : `${directory}/${name}`;
      if (this.#paths[name] === `${directory}/${name}`) own.push(this.#paths[name]);
    }
    if (own.length === 0) return;
    const action = `cannot connect the streams of ${this.#label}`;
    await this.#launcher.run(action, ["mkfifo", ...own], { signal });
  }

  #open(stdio: StdioSpec, options: HandedStdioOptions): void {
    const { label, log } = options;
    const onError = (error: SandboxError) =>
      log.warn("a stream of a process has failed", { process: label, error });
    for (const name of streamsOf(stdio)) {
      const what = `${name} of ${label}`;
      const path = this.#paths[name];
      const { kind } = stdio[name];
      if (kind === "null") continue;
      if (kind === "path") {
        const fifo = isFifo(path, what);
        if (name !== "stdin" || stdio.terminal || !fifo) continue;
        this.#hold = StdinHold.open(path, what, options.keeper);
      } else if (name === "stdin") {
        this.#hold = StdinHold.open(path, what);
        this.#input = pump(
          () => openInput(stdio.stdin, what),
          () => new FifoSink(path, what),
          onError,
        );
      } else {
        const source = new FifoSource(path, what);
        const moved = pump(() => source, () => openOutput(stdio[name], what), onError);
        this.#outputs = [...this.#outputs, { pump: moved, source }];
      }
    }
  }

  #terminalFiles(directory: string) {
    const file = (path: string) => path === NOTHING ? undefined : path;
    const { stdin, stdout } = this.#paths;
    return { stdin: file(stdin), stdout: file(stdout), control: `${directory}/control` };
  }

  /** Closes all of it, and ends what has the terminal. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#input?.[Symbol.dispose]();
    this.#hold?.[Symbol.dispose]();
    for (const { pump } of this.#outputs) pump[Symbol.dispose]();
    await this.#terminal?.stop();
    if (this.consoleSocket !== undefined) {
      await Deno.remove(this.consoleSocket).catch(() => undefined);
    }
  }
}

/** A terminal has one output. */
function streamsOf({ terminal }: StdioSpec): readonly StreamName[] {
  return terminal ? ["stdin", "stdout"] : STREAMS;
}

/** Makes both ends and what moves bytes between them. */
function pump(
  source: () => ByteSource,
  sink: () => ByteSink,
  onError: (error: SandboxError) => void,
): BytePump {
  using undo = new DisposableStack();
  const from = undo.use(source());
  const to = undo.use(sink());
  undo.move();
  return new BytePump(from, to, onError);
}

/** Waits for the end of an output for a bounded time, and gives it up then. */
async function finish(pump: BytePump, end: "exited" | "killed"): Promise<void> {
  const limits = LIMITS[end];
  let isDone = false;
  const done = pump.done.then(() => isDone = true);
  let begin = performance.now();
  let movedAt = begin;
  let { progress } = pump;
  for (;;) {
    await Promise.race([done, new Promise((resolve) => setTimeout(resolve, LOOK_MS))]);
    if (isDone) return;
    const now = performance.now();
    if (progress !== pump.progress) movedAt = now;
    if (end === "exited" && pump.isPatient) begin = movedAt = now;
    progress = pump.progress;
    if (now - movedAt >= limits.stalledMs || now - begin >= limits.totalMs) break;
  }
  pump[Symbol.dispose]();
}

function openInput(spec: StreamSpec, what: string): ByteSource {
  if (spec.kind === "readable") return new ReadableSource(spec.readable);
  if (spec.kind === "fd" && spec.fd === 0) return new OwnInput();
  throw unusable(spec, what, "a path, a readable stream, or descriptor 0");
}

function openOutput(spec: StreamSpec, what: string): ByteSink {
  if (spec.kind === "writable") return new WritableSink(spec.writable, what);
  if (spec.kind === "fd" && spec.fd === 1) return new OwnOutput(Deno.stdout);
  if (spec.kind === "fd" && spec.fd === 2) return new OwnOutput(Deno.stderr);
  throw unusable(spec, what, "a path, a writable stream, or descriptor 1 or 2");
}

function unusable(spec: StreamSpec, what: string, expected: string): SandboxError {
  const found = spec.kind === "fd" ? `descriptor ${spec.fd}` : `a stream of kind "${spec.kind}"`;
  return new SandboxError(
    "InvalidArgument",
    `cannot use ${found} for ${what}: expected ${expected}`,
  );
}

/** Whether a path that is to be a stream leads to a FIFO. */
function isFifo(path: string, what: string): boolean {
  let status: Deno.FileInfo;
  try {
    status = Deno.statSync(path);
  } catch (error) {
    throw openError(error, path, what);
  }
  if (status.isDirectory) {
    throw new SandboxError("InvalidArgument", `cannot open ${what} "${path}": it is a directory`);
  }
  return status.isFifo === true;
}

function parseRecord(record: Json): Kept {
  if (typeof record === "object" && record !== null && "stdinEnds" in record) {
    const { terminal = null, stdinEnds } = record;
    if (isTerminal(terminal)) return { terminal, stdinEnds: stdinEnds === true };
    return { terminal: null, stdinEnds: stdinEnds === true };
  }
  return { terminal: null, stdinEnds: false };
}

function isTerminal(value: Json): value is Json & ProcessIdentity & { readonly socket: string } {
  return typeof value === "object" && value !== null &&
    "pid" in value && Number.isSafeInteger(value.pid) &&
    "startTime" in value && Number.isSafeInteger(value.startTime) &&
    "socket" in value && typeof value.socket === "string";
}
