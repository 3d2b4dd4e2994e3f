/**
 * The resident process that holds FIFOs open while no sandboxer is there, and keeps questions whose
 * answers come once only; see native/fifos.c for why. One for a kind of sandbox. Each sandboxer
 * starts its own, and ends those of earlier ones when it has opened what they hold.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Log } from "../log.ts";
import type { Launcher, ProcessIdentity } from "./launcher.ts";
import { launcherError } from "./launcher_errors.ts";
import { writeNoteFile } from "./note_file.ts";
import { spawnPiped } from "./resident.ts";

/** The file that says which processes hold FIFOs. */
const NOTE_FILE = "fifo-holder.json";
/** Processes of earlier sandboxers that are remembered. */
const EARLIER_MAX = 16;
/** Commands that wait to be sent, in characters; beyond it FIFOs are not held. */
const WAITING_MAX = 1024 * 1024;

/**
 * How long a FIFO is open before it is held, in milliseconds: most execs are over by then. What a
 * sandboxer that is killed sooner had opened is closed with it.
 */
const HOLD_AFTER_MS = 100;
/** How long it may take until all that is open is held, in milliseconds. */
const HOLD_NOW_MS = 1_000;

/** Holders of earlier sandboxers are ended after this, whatever has not been opened by then. */
const TAKE_OVER_MS = 60_000;

/** Which end of a FIFO is held. */
export type FifoEnd = "read" | "write";

/** Who keeps FIFOs open beyond this process. */
export interface FifoKeeper {
  /** Holds an end of a FIFO that is open here; not before a moment has passed. */
  hold(path: string, end: FifoEnd): void;
  /** Lets it go; does nothing where it is not held. */
  letGo(path: string, end: FifoEnd): void;
}

/** A question at a unix socket. */
export interface Question {
  /** The socket, an absolute path of at most 107 bytes. */
  readonly socket: string;
  /** What is sent; who answers closes the connection then. No tab or line feed is in it. */
  readonly request: string;
  /** The file that the answer goes to, when this process has ended or asks for it; an absolute path. */
  readonly answerPath: string;
}

/** Who hears answers when this process has ended. */
export interface AnswerKeeper {
  /** Asks too; not before a moment has passed. */
  ask(question: Question): void;
  /** Has the answer written to its file now, where there is one. */
  write(question: Question): void;
  /** Forgets a question, as when it was answered here; does nothing where it was not asked. */
  forget(question: Question): void;
}

/** What a holder is made of. */
export interface FifoHolderOptions {
  /** Starts it. */
  readonly launcher: Pick<Launcher, "path" | "kill">;
  /** A directory of the sandboxer, where it is noted which process it is. */
  readonly dir: string;
  /** Where notes go. */
  readonly log: Log;
}

/** A holder that runs. */
export class FifoHolder implements FifoKeeper, AnswerKeeper {
  readonly #options: FifoHolderOptions;
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #identity: ProcessIdentity;
  #earlier: readonly ProcessIdentity[];
  readonly #late: ReturnType<typeof setTimeout> | undefined;
  /** What is to be held, and has not been open for long. */
  readonly #soon = new Map<string, ReturnType<typeof setTimeout>>();
  #waiting = "";
  #sending: Promise<void> | undefined;
  #isOver = false;

  private constructor(
    options: FifoHolderOptions,
    child: Deno.ChildProcess,
    identity: ProcessIdentity,
    earlier: readonly ProcessIdentity[],
  ) {
    this.#options = options;
    this.#child = child;
    this.#writer = child.stdin.getWriter();
    this.#writer.closed.catch(() => undefined);
    this.#identity = identity;
    this.#earlier = earlier;
    if (earlier.length > 0) this.#late = setTimeout(() => void this.#tookOverLate(), TAKE_OVER_MS);
    void child.status.then(({ code }) => {
      if (!this.#isOver) options.log.error("the holder of FIFOs has ended", { code });
      this.#isOver = true;
    });
  }

  /**
   * Starts one. Those of earlier sandboxers go on until {@link tookOver}.
   *
   * @param options See {@link FifoHolderOptions}.
   * @throws {SandboxError} As the launcher says.
   */
  static async start(options: FifoHolderOptions): Promise<FifoHolder> {
    const action = "cannot start the holder of FIFOs";
    const earlier = await readNote(options.dir);
    const child = spawnPiped(options.launcher.path, ["fifos"], action);
    try {
      const [stdout, stderr] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
      ]);
      const startTime = /^started (\d+)\n$/.exec(stdout)?.[1];
      if (startTime === undefined) {
        await child.stdin.close().catch(() => undefined);
        const { code } = await child.status;
        throw launcherError(action, { code, stderr });
      }
      const identity = { pid: child.pid, startTime: Number(startTime) };
      await writeNote(options.dir, [...earlier, identity]);
      return new FifoHolder(options, child, identity, earlier);
    } catch (error) {
      endChild(child);
      throw SandboxError.from(error, action);
    }
  }

  hold(path: string, end: FifoEnd): void {
    this.#beginSoon(`${end[0]} ${path}\n`);
  }

  letGo(path: string, end: FifoEnd): void {
    const what = `${end[0]} ${path}\n`;
    if (!this.#notBegun(what)) this.#say(`-${what}`);
  }

  ask(question: Question): void {
    this.#beginSoon(commandOf(question));
  }

  write(question: Question): void {
    this.#say(`=a ${question.answerPath}\n`);
  }

  forget(question: Question): void {
    if (!this.#notBegun(commandOf(question))) this.#say(`-a ${question.answerPath}\n`);
  }

  #beginSoon(what: string): void {
    if (this.#isOver) return;
    clearTimeout(this.#soon.get(what));
    this.#soon.set(what, setTimeout(() => this.#begin(what), HOLD_AFTER_MS));
  }

  /** Whether something was still to be begun; it is not then. */
  #notBegun(what: string): boolean {
    clearTimeout(this.#soon.get(what));
    return this.#soon.delete(what);
  }

  /** Holds all that is open at once, however short it has been open. */
  async holdNow(): Promise<void> {
    for (const what of [...this.#soon.keys()]) this.#begin(what);
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, HOLD_NOW_MS);
    await Promise.race([this.#sending, late]);
    clearTimeout(timer);
  }

  #begin(what: string): void {
    clearTimeout(this.#soon.get(what));
    this.#soon.delete(what);
    this.#say(`+${what}`);
  }

  #say(command: string): void {
    // A path with a line feed would be two commands: it is not held.
    if (this.#isOver || command.indexOf("\n") !== command.length - 1) return;
    if (this.#waiting.length > WAITING_MAX) return;
    this.#waiting += command;
    this.#sending ??= this.#send();
  }

  async #send(): Promise<void> {
    try {
      while (this.#waiting !== "") {
        const bytes = new TextEncoder().encode(this.#waiting);
        this.#waiting = "";
        await this.#writer.write(bytes);
      }
    } catch {
      // It has ended; that is logged elsewhere.
    }
    this.#sending = undefined;
  }

  async #tookOverLate(): Promise<void> {
    await this.tookOver().catch((error: unknown) =>
      this.#options.log.error("cannot end an earlier holder of FIFOs", { error })
    );
  }

  /**
   * What earlier sandboxers left has been opened here, or is not needed: ends their holders. While
   * they run, clients of what they hold do not see its end.
   */
  async tookOver(): Promise<void> {
    clearTimeout(this.#late);
    await this.holdNow();
    for (const identity of this.#earlier) await this.#options.launcher.kill(identity);
    this.#earlier = [];
    await writeNote(this.#options.dir, [this.#identity]);
  }

  /** Leaves it to the next sandboxer, with all that is open; for one that ends while it has sandboxes. */
  async release(): Promise<void> {
    await this.holdNow();
    this.#isOver = true;
    clearTimeout(this.#late);
    this.#child.unref();
  }

  /** Ends it; for a sandboxer that ends without sandboxes. */
  async stop(): Promise<void> {
    for (const timer of this.#soon.values()) clearTimeout(timer);
    this.#soon.clear();
    this.#isOver = true;
    clearTimeout(this.#late);
    // A holder that was released does not keep this process alive, and so nobody would wait for it.
    this.#child.ref();
    endChild(this.#child);
    await this.#writer.close().catch(() => undefined);
    await this.#child.status;
    for (const identity of this.#earlier) await this.#options.launcher.kill(identity);
    await Deno.remove(`${this.#options.dir}/${NOTE_FILE}`).catch(() => undefined);
  }
}

function commandOf({ socket, request, answerPath }: Question): string {
  return `a ${answerPath}\t${socket}\t${request}\n`;
}

function endChild(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
}

async function writeNote(dir: string, holders: readonly ProcessIdentity[]): Promise<void> {
  await writeNoteFile(`${dir}/${NOTE_FILE}`, JSON.stringify(holders.slice(-EARLIER_MAX)));
}

async function readNote(dir: string): Promise<ProcessIdentity[]> {
  try {
    const value: unknown = JSON.parse(await Deno.readTextFile(`${dir}/${NOTE_FILE}`));
    return Array.isArray(value) ? value.filter(isIdentity) : [];
  } catch {
    return [];
  }
}

function isIdentity(value: unknown): value is ProcessIdentity {
  return typeof value === "object" && value !== null &&
    "pid" in value && Number.isSafeInteger(value.pid) &&
    "startTime" in value && Number.isSafeInteger(value.startTime);
}
