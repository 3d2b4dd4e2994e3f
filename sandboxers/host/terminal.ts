/**
 * The terminal of a process: a small resident process of the launcher has its master, which an OCI
 * runtime sends over a console socket, and moves bytes between it and FIFOs. It outlives the
 * sandboxer; the next one finds it by its control FIFO.
 *
 * @module
 */

import { closeSync, constants, openSync, writeSync } from "node:fs";
import { abortError, SandboxError } from "../lifecycle/errors.ts";
import { hasCode } from "./fifo.ts";
import type { Launcher, ProcessIdentity } from "./launcher.ts";
import { Polling } from "./polling.ts";
import { startResident } from "./resident.ts";

/** Most bytes of a unix socket's path. */
const SOCKET_PATH_BYTES_MAX = 107;
/** Most columns or rows. */
const CELLS_MAX = 65_535;

/** How large a terminal is, in characters. */
export interface TerminalSize {
  /** Characters in a line. */
  readonly columns: number;
  /** Lines. */
  readonly rows: number;
}

/** Whom signals are for that are typed at a terminal; see native/terminal.c. */
export interface SignalTarget {
  /** The control socket of a gVisor sandbox, an absolute path of at most 107 bytes. */
  readonly socket: string;
  /** The container, by the name that the sandbox knows it by. */
  readonly container: string;
  /** A process in the foreground of whose terminal they arrive. */
  readonly pid: number;
}

/** The files of a terminal; see native/terminal.c. */
export interface TerminalFiles {
  /** The console socket: an absolute path of at most 107 bytes where nothing is. */
  readonly socket: string;
  /** Where its input comes from: a FIFO or a file; undefined for nothing. */
  readonly stdin: string | undefined;
  /** Where its output goes: a FIFO or a file; undefined for nothing. */
  readonly stdout: string | undefined;
  /** The control FIFO: an absolute path where nothing is. */
  readonly control: string;
}

/** A terminal, or one that is still to come over its console socket. */
export class Terminal {
  readonly #launcher: Launcher;
  readonly #control: string;
  /** The process that has the terminal. */
  readonly identity: ProcessIdentity;

  private constructor(launcher: Launcher, control: string, identity: ProcessIdentity) {
    this.#launcher = launcher;
    this.#control = control;
    this.identity = identity;
  }

  /**
   * Listens at the console socket. What takes no terminal within two minutes ends by itself.
   *
   * @param launcher The launcher.
   * @param files See {@link TerminalFiles}.
   * @param size Its first size; the runtime's own choice unless given.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} `NotFound`, `InvalidArgument`, `PermissionDenied`; nothing runs then.
   */
  static async start(
    launcher: Launcher,
    files: TerminalFiles,
    size?: TerminalSize,
    signal?: AbortSignal,
  ): Promise<Terminal> {
    const { socket, stdin = "-", stdout = "-", control } = files;
    const action = `cannot open a terminal at "${socket}"`;
    if (new TextEncoder().encode(socket).length > SOCKET_PATH_BYTES_MAX) {
      throw new SandboxError(
        "InvalidArgument",
        `${action}: expected a path of at most ${SOCKET_PATH_BYTES_MAX} bytes: shorten the state ` +
          "directory's path",
      );
    }
    const { columns = 0, rows = 0 } = size ?? {};
    checkSize(columns, rows);
    const args = ["terminal", socket, stdin, stdout, control, `${columns}`, `${rows}`];
    const child = await startResident(launcher.path, args, action, signal);
    child.unref();
    return new Terminal(launcher, control, child.identity);
  }

  /**
   * Takes the terminal over that an earlier sandboxer had opened; it may have ended since.
   *
   * @param launcher The launcher.
   * @param control Its control FIFO.
   * @param identity The process that has it.
   */
  static adopt(launcher: Launcher, control: string, identity: ProcessIdentity): Terminal {
    return new Terminal(launcher, control, identity);
  }

  /**
   * Sets its size; does nothing where it has ended. A program inside of gVisor hears of it only by
   * SIGWINCH, which is the caller's to send.
   *
   * @param columns Characters in a line.
   * @param rows Lines.
   * @throws {SandboxError} `InvalidArgument`.
   */
  resize(columns: number, rows: number): void {
    checkSize(columns, rows);
    this.#say(`${columns} ${rows}\n`);
  }

  /**
   * Says whom the signals are for that are typed (^C, ^\\, ^Z): a program inside of gVisor, whose
   * kernel does not see what the host's terminal makes of them.
   *
   * @param to The control socket of its sandbox, its container, and its id in the sandbox, 0 for the
   *   container's first process.
   */
  sendSignals(to: SignalTarget): void {
    this.#say(`signals ${to.pid} ${to.container} ${to.socket}\n`);
  }

  /** Its input ends, for the one who has the terminal, as soon as nobody else writes to it. */
  closeStdin(): void {
    this.#say("close\n");
  }

  /**
   * Its process has ended: so does the terminal as soon as nothing comes of it for a moment, though
   * others have it still open.
   */
  letEnd(): void {
    this.#say("end\n");
  }

  /** Whether it has not ended. */
  get isOpen(): boolean {
    return this.#say("");
  }

  /**
   * Waits until the terminal has ended and its output was written.
   *
   * @param signal Ends the waiting.
   * @throws {SandboxError} `Cancelled`, `DeadlineExceeded`.
   */
  async ended(signal: AbortSignal): Promise<void> {
    using polling = new Polling();
    const onAbort = () => polling[Symbol.dispose]();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      while (this.isOpen) {
        if (signal.aborted) throw abortError(signal, "cannot wait for the end of a terminal");
        await polling.pause();
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Ends it at once. */
  async stop(): Promise<void> {
    if (this.isOpen) await this.#launcher.kill(this.identity);
  }

  /** Writes a command; false where nobody reads it any more. */
  #say(command: string): boolean {
    const { O_WRONLY, O_NONBLOCK } = constants;
    try {
      const fd = openSync(this.#control, O_WRONLY | O_NONBLOCK);
      try {
        // Less than a pipe takes at once, so it is written whole or, if it is full, not at all.
        if (command !== "") writeSync(fd, new TextEncoder().encode(command));
      } finally {
        closeSync(fd);
      }
      return true;
    } catch (error) {
      if (hasCode(error, "ENOENT", "ENXIO", "EPIPE")) return false;
      if (hasCode(error, "EAGAIN")) return true;
      throw SandboxError.from(error, "cannot command a terminal");
    }
  }
}

function checkSize(columns: number, rows: number): void {
  const isCells = (count: number) => Number.isInteger(count) && count >= 0 && count <= CELLS_MAX;
  if (isCells(columns) && isCells(rows)) return;
  throw new SandboxError(
    "InvalidArgument",
    `cannot set a terminal's size to ${columns} columns and ${rows} rows: expected 0 to ${CELLS_MAX}`,
  );
}
