/**
 * FIFOs without FFI and without threads that wait: they are opened and used in non-blocking mode, so
 * no call ever waits for the other side, and whatever waits can be given up at once. The price is
 * that nobody tells when the other side moves: see {@link Polling}.
 *
 * An output is open for writing only: so it is known whether somebody reads it, and a reader that
 * goes away and comes back (a restart of containerd) finds what it had not read, as the FIFO keeps it
 * while it is open here. Meanwhile writes are tried again. An input is open for reading, and held
 * open for writing until {@link FifoSource.letEnd}: a client that detaches is not the end.
 *
 * @module
 */

import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { SandboxError } from "../lifecycle/errors.ts";
import type { ByteSink, ByteSource } from "./byte_ends.ts";
import type { FifoEnd, FifoKeeper } from "./fifo_holder.ts";
import { Polling } from "./polling.ts";

const { O_NONBLOCK, O_RDONLY, O_WRONLY, O_NOCTTY } = constants;

/** Writes of at most this size are whole or not at all (pipe(7), PIPE_BUF). */
const ATOMIC_BYTES = 4096;

/** What is copied at most of bytes that find a FIFO full: no more fits in an ordinary one. */
const LATER_BYTES = 64 * 1024;

/** Has an open FIFO held beyond this process. */
class Hold implements Disposable {
  readonly #letGo: () => void;
  #held = true;

  constructor(keeper: FifoKeeper, path: string, end: FifoEnd) {
    this.#letGo = () => keeper.letGo(path, end);
    keeper.hold(path, end);
  }

  /** Lets it go. */
  [Symbol.dispose](): void {
    if (this.#held) this.#letGo();
    this.#held = false;
  }
}

/** A FIFO that bytes come from. */
export class FifoSource implements ByteSource {
  readonly #what: string;
  readonly #polling = new Polling();
  #fd: number | undefined;
  #holdFd: number | undefined;
  #hold: Hold | undefined;

  /**
   * Opens it.
   *
   * @param path An absolute path.
   * @param what What it is, for messages, such as `stdin of container "a"`.
   * @param keeper Holds it beyond this process, so that its writers do not find it closed.
   * @throws {SandboxError} `NotFound`, `PermissionDenied`; nothing is open then.
   */
  constructor(path: string, what: string, keeper?: FifoKeeper) {
    this.#what = what;
    using undo = new DisposableStack();
    undo.use(this);
    this.#fd = open(path, O_RDONLY, what);
    // There is a reader now, so this does not wait either.
    this.#holdFd = open(path, O_WRONLY, what);
    undo.move();
    if (keeper !== undefined) this.#hold = new Hold(keeper, path, "read");
  }

  read(into: Uint8Array): number | null | Promise<number | null> {
    return this.readNow(into) ?? this.#readLater(into);
  }

  async #readLater(into: Uint8Array): Promise<number | null> {
    for (;;) {
      await this.#polling.pause();
      const count = this.readNow(into);
      if (count !== undefined) return count === 0 ? null : count;
    }
  }

  /**
   * Reads what is there, without waiting.
   *
   * @returns How many bytes; undefined where nothing is there yet, 0 at the end.
   * @throws {SandboxError} Where it cannot be read.
   */
  readNow(into: Uint8Array): number | undefined {
    if (this.#fd === undefined) return 0;
    try {
      const count = readSync(this.#fd, into, 0, into.length, null);
      this.#polling.reset();
      return count;
    } catch (error) {
      if (hasCode(error, "EAGAIN")) return undefined;
      throw SandboxError.from(error, `cannot read ${this.#what}`);
    }
  }

  letEnd(): void {
    if (this.#holdFd === undefined) return;
    closeSync(this.#holdFd);
    this.#holdFd = undefined;
  }

  /** Closes it; what waits is given up. */
  [Symbol.dispose](): void {
    this.letEnd();
    this.#hold?.[Symbol.dispose]();
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#polling[Symbol.dispose]();
  }
}

/** A FIFO that bytes go to. */
export class FifoSink implements ByteSink {
  readonly #path: string;
  readonly #what: string;
  readonly #polling = new Polling();
  readonly #keeper: FifoKeeper | undefined;
  readonly isPatient: boolean;
  #fd: number | undefined;
  #openedMs = 0;
  #hold: Hold | undefined;
  #hasWritten = false;

  /**
   * Begins to open it: that is done when somebody reads it.
   *
   * @param path An absolute path.
   * @param what What it is, for messages, such as `stdout of container "a"`.
   * @param keeper Holds it beyond this process, so that its reader does not take this process's end
   *   for the stream's.
   * @param isPatient Whether its reader may take as long as it likes.
   * @throws {SandboxError} `NotFound`, `PermissionDenied`.
   */
  constructor(path: string, what: string, keeper?: FifoKeeper, isPatient = false) {
    this.#path = path;
    this.#what = what;
    this.#keeper = keeper;
    this.isPatient = isPatient;
    if (!this.#tryOpen()) void this.#openLater();
  }

  get hadReader(): boolean {
    return this.#fd !== undefined || this.#tryOpenQuietly();
  }

  #tryOpen(): boolean {
    try {
      this.#fd = open(this.#path, O_WRONLY, this.#what);
    } catch (error) {
      if (error instanceof SandboxError && hasCode(error.cause, "ENXIO")) return false;
      throw error;
    }
    this.#openedMs = performance.now();
    if (this.#keeper !== undefined) this.#hold = new Hold(this.#keeper, this.#path, "write");
    this.#polling.reset();
    return true;
  }

  #tryOpenQuietly(): boolean {
    if (this.#polling.over) return false;
    try {
      return this.#tryOpen();
    } catch {
      // Its creator has removed it; writing tells.
      return false;
    }
  }

  async #openLater(): Promise<void> {
    while (this.#fd === undefined && !this.#polling.over && !this.#tryOpenQuietly()) {
      await this.#polling.pause();
    }
  }

  write(bytes: Uint8Array): number | Promise<number> {
    const written = this.#tryWrite(bytes);
    // A copy: the bytes are good only until this returns.
    return written > 0 ? written : this.#writeLater(bytes.slice(0, LATER_BYTES));
  }

  async #writeLater(bytes: Uint8Array): Promise<number> {
    for (;;) {
      await this.#polling.pause();
      if (this.#polling.over) {
        throw new SandboxError("Cancelled", `cannot write ${this.#what}: it was closed`);
      }
      const written = this.#tryWrite(bytes);
      if (written > 0) return written;
    }
  }

  #tryWrite(bytes: Uint8Array): number {
    if (this.#fd === undefined && (this.#polling.over || !this.#tryOpen())) return 0;
    const fd = this.#fd;
    if (fd === undefined) return 0;
    let written = 0;
    try {
      while (written < bytes.length) {
        const length = Math.min(ATOMIC_BYTES, bytes.length - written);
        written += writeSync(fd, bytes, written, length, null);
      }
    } catch (error) {
      // Full, or the reader has gone: the next one finds what is in it.
      if (!hasCode(error, "EAGAIN", "EPIPE")) {
        throw SandboxError.from(error, `cannot write ${this.#what}`);
      }
    }
    if (written > 0) {
      this.#hasWritten = true;
      this.#polling.reset();
    }
    return written;
  }

  /**
   * Closes it. A reader that has just come may not know yet that it is open, and throw away what is
   * in it when it hears of the writer's end: it gets a moment.
   */
  async close(): Promise<void> {
    if (this.#fd === undefined && !this.#tryOpenQuietly()) {
      this[Symbol.dispose]();
      return;
    }
    const sinceMs = performance.now() - this.#openedMs;
    this[Symbol.dispose]();
    if (this.#hasWritten && sinceMs < SETTLE_MS) {
      await new Promise((done) => setTimeout(done, SETTLE_MS - sinceMs));
    }
  }

  /** Closes it; what waits is given up. */
  [Symbol.dispose](): void {
    this.#hold?.[Symbol.dispose]();
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#polling[Symbol.dispose]();
  }
}

/** How long after it was opened a reader may be unaware of that, in milliseconds. */
const SETTLE_MS = 20;

function open(path: string, flags: number, what: string): number {
  try {
    return openSync(path, flags | O_NONBLOCK | O_NOCTTY);
  } catch (error) {
    throw openError(error, path, what);
  }
}

/** Says why something cannot be opened. */
export function openError(error: unknown, path: string, what: string): SandboxError {
  const action = `cannot open ${what} "${path}"`;
  if (hasCode(error, "ENOENT")) {
    return new SandboxError("NotFound", `${action}: it is not there`, { cause: error });
  }
  if (hasCode(error, "EACCES", "EPERM")) {
    return new SandboxError("PermissionDenied", `${action}: permission denied`, { cause: error });
  }
  return SandboxError.from(error, action);
}

/** Whether an error is one of some errnos; Deno's own classes stand for theirs. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  if (!(error instanceof Error)) return false;
  if ("code" in error && typeof error.code === "string") return codes.includes(error.code);
  return error instanceof Deno.errors.WouldBlock && codes.includes("EAGAIN") ||
    error instanceof Deno.errors.BrokenPipe && codes.includes("EPIPE");
}
