/**
 * The resident relay of task calls, one for a kind of sandbox. containerd gives a container up when
 * the connection for its task calls breaks; so those connections end in a small process that outlives
 * the sandboxer, and passes the calls on to whichever sandboxer serves.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Log } from "../log.ts";
import type { Launcher, ProcessIdentity } from "./launcher.ts";
import { writeNoteFile } from "./note_file.ts";
import { type ResidentProcess, startResident } from "./resident.ts";

/** The file that says which process is the relay. */
const NOTE_FILE = "task-relay.json";
const SIGTERM = 15;
/** How long a relay that is told to end may take, in milliseconds, before it is killed. */
const STOP_MS = 2_000;
/** How often a relay that ended by itself is replaced, and how long is waited before, at first. */
const RESTARTS_MAX = 8;
const RESTART_MS = 100;

/** What a relay is made of. */
export interface TaskRelayOptions {
  /** Starts it. */
  readonly launcher: Launcher;
  /** The socket that containerd sees, an absolute path of at most 107 bytes; permitted for `net`. */
  readonly listen: string;
  /** The sandboxer's own task socket, an absolute path; it need not be there yet. */
  readonly server: string;
  /** A directory of the sandboxer, where it is noted which process is the relay. */
  readonly dir: string;
  /** Where notes go. */
  readonly log: Log;
}

/** What the note says. */
interface Note extends ProcessIdentity {
  readonly listen: string;
  readonly server: string;
}

/** A relay that runs. */
export class TaskRelay {
  readonly #options: TaskRelayOptions;
  #identity: ProcessIdentity;
  #child: ResidentProcess | undefined;
  /** Open for as long as the relay lives: its end is the relay's. */
  #watch: Deno.UnixConn;
  #isOver = false;
  /** Whether the connections of an earlier relay were lost, and nobody has heard of it. */
  #hasLost: boolean;
  #onLost: (() => void) | undefined;

  private constructor(
    options: TaskRelayOptions,
    running: { readonly identity: ProcessIdentity; readonly child: ResidentProcess | undefined },
    watch: Deno.UnixConn,
    hasLost: boolean,
  ) {
    this.#options = options;
    this.#hasLost = hasLost;
    this.#identity = running.identity;
    this.#child = running.child;
    this.#watch = watch;
    void this.#keepAlive();
  }

  /** The socket that containerd sees. */
  get socket(): string {
    return this.#options.listen;
  }

  /** Which process it is. */
  get identity(): ProcessIdentity {
    return this.#identity;
  }

  /**
   * Has somebody hear when a relay dies, or has died while no sandboxer ran: the connections to it are
   * lost for good, and containerd has given up the containers that they belonged to.
   *
   * @param listener Called before another relay takes connections, or now where it has happened.
   */
  onLost(listener: () => void): void {
    this.#onLost = listener;
    if (this.#hasLost) listener();
    this.#hasLost = false;
  }

  /**
   * Takes the relay over that an earlier sandboxer left, or starts one. While this process lives, one
   * that dies is replaced. It ends by itself when no sandboxer serves and nobody is connected.
   *
   * @param options See {@link TaskRelayOptions}.
   * @throws {SandboxError} `AlreadyExists` where somebody else serves the socket.
   */
  static async open(options: TaskRelayOptions): Promise<TaskRelay> {
    const hasLost = await hasDied(options);
    const running = await findRelay(options) ?? await startRelay(options);
    try {
      return new TaskRelay(options, running, await connect(options.listen), hasLost);
    } catch (error) {
      await options.launcher.kill(running.identity);
      throw SandboxError.from(error, `cannot connect to the task relay at "${options.listen}"`);
    }
  }

  /** Leaves it to the next sandboxer; for a sandboxer that ends while it has sandboxes. */
  release(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#child?.unref();
    close(this.#watch);
  }

  /** Ends it; for a sandboxer that ends without sandboxes. Calls under way are broken off. */
  async stop(): Promise<void> {
    if (this.#isOver) return;
    this.release();
    const { launcher, dir } = this.#options;
    await endRelay(launcher, this.#identity);
    await this.#child?.status;
    await Deno.remove(`${dir}/${NOTE_FILE}`).catch(ignoreMissing);
  }

  /** Waits for its end for as long as it is ours, and starts another then. */
  async #keepAlive(): Promise<void> {
    const { log, listen } = this.#options;
    for (let restarts = 0; restarts < RESTARTS_MAX;) {
      // It says nothing on a connection without requests.
      await this.#watch.read(new Uint8Array(1)).catch(() => null);
      if (!this.#isOver && !await this.#options.launcher.alive(this.#identity)) this.#onLost?.();
      while (!this.#isOver && restarts < RESTARTS_MAX) {
        log.warn("the task relay has ended: starting another", { listen });
        if (await this.#restart(RESTART_MS * 2 ** restarts++)) break;
      }
      if (this.#isOver) return;
    }
    log.error("the task relay ends again and again: containers cannot be managed", { listen });
  }

  async #restart(delayMs: number): Promise<boolean> {
    const { log, listen } = this.#options;
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    if (this.#isOver) return false;
    try {
      const { identity, child } = await startRelay(this.#options);
      close(this.#watch);
      const watch = await connect(listen).catch(async (error: unknown) => {
        await endRelay(this.#options.launcher, identity);
        throw error;
      });
      this.#identity = identity;
      this.#child = child;
      this.#watch = watch;
      if (!this.#isOver) return true;
      // This process let go of the relay meanwhile; nobody would end this one.
      close(watch);
      await endRelay(this.#options.launcher, identity);
    } catch (error) {
      if (!this.#isOver) log.error("cannot start the task relay", { listen, error });
    }
    return false;
  }
}

/**
 * Whether the relay that the note names was killed. One that ends by itself, because nobody is
 * connected, removes its socket.
 */
async function hasDied({ launcher, listen, dir }: TaskRelayOptions): Promise<boolean> {
  const note = await readNote(`${dir}/${NOTE_FILE}`);
  if (note === undefined || note.listen !== listen || await launcher.alive(note)) return false;
  return (await Deno.lstat(listen).catch(ignoreMissing))?.isSocket === true;
}

/** The relay that the note names, where it lives and is what we want; another one is ended. */
async function findRelay(options: TaskRelayOptions) {
  const { launcher, listen, server, dir, log } = options;
  const note = await readNote(`${dir}/${NOTE_FILE}`);
  if (note === undefined || !await launcher.alive(note)) return undefined;
  const identity = { pid: note.pid, startTime: note.startTime };
  if (note.listen === listen && note.server === server) {
    const connection = await connect(listen).catch(() => undefined);
    connection?.close();
    if (connection !== undefined) return { identity, child: undefined };
  }
  log.info("ending the task relay of an earlier configuration", { listen: note.listen });
  await endRelay(launcher, identity);
  return undefined;
}

async function startRelay(options: TaskRelayOptions) {
  const { launcher, listen, server, dir } = options;
  const action = `cannot start the task relay at "${listen}"`;
  const child = await startResident(launcher.path, ["relay", listen, server], action);
  const note: Note = { ...child.identity, listen, server };
  try {
    await writeNoteFile(`${dir}/${NOTE_FILE}`, JSON.stringify(note));
  } catch (error) {
    child.kill("SIGKILL");
    await child.status;
    throw SandboxError.from(error, action);
  }
  return { identity: child.identity, child };
}

/** It stops to listen at once, and answers for a while what was asked for before. */
async function endRelay(launcher: Launcher, identity: ProcessIdentity): Promise<void> {
  if (!await launcher.signal(identity, SIGTERM)) return;
  const deadline = AbortSignal.timeout(STOP_MS);
  await launcher.waitForEnd(identity, deadline).catch(() => launcher.kill(identity));
}

/** Closes a connection that may be closed. */
function close(connection: Deno.UnixConn): void {
  try {
    connection.close();
  } catch {
    // It was.
  }
}

function connect(path: string): Promise<Deno.UnixConn> {
  return Deno.connect({ transport: "unix", path });
}

async function readNote(file: string): Promise<Note | undefined> {
  const text = await Deno.readTextFile(file).catch(ignoreMissing);
  try {
    const value: unknown = JSON.parse(text ?? "null");
    return isNote(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isNote(value: unknown): value is Note {
  return typeof value === "object" && value !== null &&
    "pid" in value && Number.isSafeInteger(value.pid) &&
    "startTime" in value && Number.isSafeInteger(value.startTime) &&
    "listen" in value && typeof value.listen === "string" &&
    "server" in value && typeof value.server === "string";
}

function ignoreMissing(error: unknown): undefined {
  if (error instanceof Deno.errors.NotFound) return undefined;
  throw error;
}
