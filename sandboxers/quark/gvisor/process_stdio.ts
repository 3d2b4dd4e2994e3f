/**
 * The standard streams of a process in gVisor, and the notes about it for the next sandboxer: what its
 * streams are, which process it is, and how it has ended meanwhile. All are in a directory of the
 * process's own.
 *
 * @module
 */

import type { AnswerKeeper, FifoKeeper, Question } from "../../host/fifo_holder.ts";
import { HandedStdio } from "../../host/handed_stdio.ts";
import type { Launcher } from "../../host/launcher.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { Json, StdioSpec } from "../../lifecycle/spec.ts";
import type { Log } from "../../log.ts";
import { removeTree } from "../../removal.ts";
import type { RunscStdio } from "./runsc.ts";

/** The note. */
const NOTE = "process.json";
/** Most bytes of it. */
const NOTE_BYTES_MAX = 4096;
/** How the process has ended, where that happened while no sandboxer was there. */
const EXIT = "exit.json";
/** How long it may take until that is written, in milliseconds, and how often is looked. */
const EXIT_MS = 1_000;
const LOOK_MS = 20;

/** Where the streams of a process are opened. */
export interface StdioPlace {
  /** The host launcher. */
  readonly launcher: Launcher;
  /** The directory of the process, an absolute path; made where it is missing. */
  readonly directory: string;
  /** Where console sockets are made, an absolute path of at most 80 bytes that is there already. */
  readonly socketDirectory: string;
  /** Whose streams they are, for messages, such as `container "a"`. */
  readonly label: string;
  /** Holds FIFOs and hears of exits beyond this process; undefined where the pod does not outlive it. */
  readonly keeper: (FifoKeeper & AnswerKeeper) | undefined;
  /** Where notes go. */
  readonly log: Log;
}

/** The streams of one process. */
export class ProcessStdio {
  readonly #place: StdioPlace;
  readonly #handed: HandedStdio;
  #pid: number | undefined;
  #question: Question | undefined;

  private constructor(place: StdioPlace, handed: HandedStdio, pid: number | undefined) {
    this.#place = place;
    this.#handed = handed;
    this.#pid = pid;
  }

  /**
   * Opens the streams of a process that is about to be made.
   *
   * @param stdio Where they go.
   * @param place See {@link StdioPlace}.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} As {@link HandedStdio.open}; nothing is left then.
   */
  static async open(
    stdio: StdioSpec,
    place: StdioPlace,
    signal: AbortSignal,
  ): Promise<ProcessStdio> {
    const { directory } = place;
    await using undo = new AsyncDisposableStack();
    undo.defer(() => removeTree(directory));
    await makeDirectory(directory);
    const handed = undo.use(await HandedStdio.open(stdio, place, signal));
    const opened = new ProcessStdio(place, handed, undefined);
    // A terminal is there for good; without one a process that was not started is opened anew.
    if (stdio.terminal) await opened.#write();
    undo.move();
    return opened;
  }

  /**
   * Takes over the streams of a process that an earlier sandboxer had made.
   *
   * @param stdio Where they go.
   * @param place See {@link StdioPlace}.
   * @returns Undefined where there is no note about it: it was not started.
   */
  static async adopt(stdio: StdioSpec, place: StdioPlace): Promise<ProcessStdio | undefined> {
    const note = await readNote(place.directory);
    if (note === undefined) return undefined;
    return new ProcessStdio(place, HandedStdio.adopt(stdio, note.stdio, place), note.pid);
  }

  /** The process's id in the sandbox, 0 for an init process; undefined where it was not started. */
  get pid(): number | undefined {
    return this.#pid;
  }

  /** What the launcher hands over, for an exec. */
  get handed(): Pick<HandedStdio, "descriptors" | "consoleSocket"> {
    return this.#handed;
  }

  /** The socket that the runtime sends the terminal to; undefined without a terminal. */
  get consoleSocket(): string | undefined {
    return this.#handed.consoleSocket;
  }

  /** What runsc is given as descriptors 0 to 2. */
  get runsc(): RunscStdio {
    const [stdin, stdout, stderr] = this.#handed.descriptors;
    return { stdin, stdout, stderr };
  }

  /**
   * The sandbox has the streams.
   *
   * @param pid The process's id in the sandbox; 0 for an init process.
   * @param container Its container.
   * @param socket The control socket of the sandbox.
   */
  async begun(pid: number, container: string, socket: string): Promise<void> {
    this.#handed.begun();
    this.#handed.sendSignals({ pid, container, socket });
    this.#pid = pid;
    await this.#write();
  }

  /**
   * Has the sandbox asked for how the process ends by somebody who outlives this process too: it
   * tells those who wait, and nobody later.
   *
   * @param socket The control socket of the sandbox.
   * @param request What it is asked.
   */
  keepExit(socket: string, request: string): void {
    this.#question = { socket, request, answerPath: `${this.#place.directory}/${EXIT}` };
    this.#place.keeper?.ask(this.#question);
  }

  /**
   * What the sandbox has answered to somebody else, as while no sandboxer was there, and when; waits
   * for a moment, as it may just be written. Undefined where nobody knows.
   */
  async keptExit(): Promise<{ readonly answer: string; readonly at: number } | undefined> {
    const question = this.#question;
    const { keeper } = this.#place;
    if (question === undefined || keeper === undefined) return undefined;
    const path = question.answerPath;
    keeper.write(question);
    for (let waitedMs = 0; waitedMs < EXIT_MS; waitedMs += LOOK_MS) {
      try {
        const { mtime } = await Deno.stat(path);
        return { answer: await Deno.readTextFile(path), at: mtime?.getTime() ?? Date.now() };
      } catch {
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
    }
    return undefined;
  }

  /** Waits until what the process has written is where it goes, for a bounded time. */
  async finished(end: "exited" | "killed"): Promise<void> {
    await this.#handed.finished(end);
  }

  /** Lets the process read the end of its input. */
  async closeStdin(): Promise<void> {
    await this.#handed.closeStdin();
    if (this.#pid !== undefined) await this.#write();
  }

  /** Sets the size of its terminal. */
  async resize(columns: number, rows: number): Promise<void> {
    await this.#handed.resize(columns, rows);
  }

  /** Releases everything; never rejects. */
  async release(): Promise<void> {
    const { label, directory, keeper, log } = this.#place;
    if (this.#question !== undefined) keeper?.forget(this.#question);
    try {
      await this.#handed[Symbol.asyncDispose]();
      await removeTree(directory);
    } catch (error) {
      log.warn("cannot release the streams of a process", {
        process: label,
        error: SandboxError.from(error),
      });
    }
  }

  async #write(): Promise<void> {
    const path = `${this.#place.directory}/${NOTE}`;
    const note = { pid: this.#pid ?? null, stdio: this.#handed.record };
    try {
      await Deno.writeTextFile(`${path}.new`, JSON.stringify(note), { mode: 0o600 });
      await Deno.rename(`${path}.new`, path);
    } catch (error) {
      throw SandboxError.from(error, `cannot write "${path}"`);
    }
  }
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await removeTree(path);
    await Deno.mkdir(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw SandboxError.from(error, `cannot make "${path}"`);
  }
}

interface Note {
  readonly pid: number | undefined;
  readonly stdio: Json;
}

/** The note; undefined where there is none, or none that was written to its end. */
async function readNote(directory: string): Promise<Note | undefined> {
  let text: string;
  try {
    text = await Deno.readTextFile(`${directory}/${NOTE}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw SandboxError.from(error, `cannot read "${directory}/${NOTE}"`);
  }
  if (text.length > NOTE_BYTES_MAX) return undefined;
  try {
    const note: { pid?: Json; stdio?: Json } | null = JSON.parse(text);
    const { pid, stdio } = note ?? {};
    if (stdio === undefined) return undefined;
    return { pid: typeof pid === "number" ? pid : undefined, stdio };
  } catch {
    return undefined;
  }
}
