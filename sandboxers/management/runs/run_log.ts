/**
 * The log of one container: all that it writes goes here first, and whoever wants its output reads it
 * from here, each at its own pace. A client that is attached and slow makes the container wait once the
 * log would have to throw away what that client has not read; one that is stuck does so for a bounded
 * time, and then is cut off. Nobody else is waited for.
 *
 * @module
 */

import { concat } from "../../bytes.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { formatOutput, type OutputName } from "./log_format.ts";
import { type LogPlace, LogSegments } from "./log_segments.ts";

/** How long a client that reads nothing can make its container wait, in milliseconds. */
export const STUCK_MS = 30_000;
/** How often is looked whether a client has read something. */
const LOOK_MS = 50;
/** What is read at a time, in bytes. */
const READ_BYTES = 64 * 1024;

/** What a {@link RunLog} works with. */
export interface RunLogOptions {
  /** Its directory, an absolute path. */
  readonly directory: string;
  /** The size at which a new file is begun, in bytes; asked anew each time. */
  readonly fileBytesMax: () => number;
  /** Whose log it is, for messages, such as `container "a"`. */
  readonly label: string;
  /** Milliseconds since the epoch; the machine's clock unless given. */
  readonly now?: () => number;
  /** See {@link STUCK_MS}, which it is unless given. */
  readonly stuckMs?: number;
}

/** Somebody who reads a log. Disposing of it says that it does not any more. */
export interface LogReader extends Disposable {
  /** Where the next line is that it reads. */
  readonly place: LogPlace;
  /**
   * Reads on.
   *
   * @returns Whole lines, maybe none where there are no more yet; undefined at the end of a log that
   *   has ended.
   * @throws {SandboxError} `DataLoss` where the lines were thrown away before it came to them.
   */
  read(): Uint8Array | undefined;
}

/** See the module. */
export class RunLog implements Disposable {
  readonly #options: RunLogOptions;
  readonly #segments: LogSegments;
  readonly #now: () => number;
  readonly #attached = new Set<Cursor>();
  #readers = 0;
  #changed = Promise.withResolvers<void>();
  #lastMs = 0;
  #ended = false;
  #isClosed = false;
  #lostBytes = 0;
  #untoldBytes = 0;

  /**
   * Opens a log; one that is there is gone on with.
   *
   * @param options See {@link RunLogOptions}.
   * @throws {SandboxError} Where that cannot be had.
   */
  constructor(options: RunLogOptions) {
    this.#options = options;
    this.#segments = LogSegments.open(options.directory);
    this.#now = options.now ?? Date.now;
  }

  /** Whether nothing more will come. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Bytes of output that could not be kept. */
  get lostBytes(): number {
    return this.#lostBytes;
  }

  /** Its size, in bytes. */
  get bytes(): number {
    return this.#segments.bytes;
  }

  /** Clients that are attached. */
  get attached(): number {
    return this.#attached.size;
  }

  /** All who read it. */
  get readers(): number {
    return this.#readers;
  }

  /** Where the oldest line begins. */
  get begin(): LogPlace {
    return this.#segments.begin;
  }

  /** Where the next line will begin. */
  get end(): LogPlace {
    return this.#segments.end;
  }

  /** Waits until something can be added without cutting anybody off who reads; a bounded time. */
  async room(): Promise<void> {
    while (this.#isFull() && this.#someoneIsBehind()) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  #isFull(): boolean {
    return this.#segments.end.offset >= this.#options.fileBytesMax();
  }

  /** Whether a rotation would take something away that a client is still about to read. */
  #someoneIsBehind(): boolean {
    const { segment } = this.#segments.end;
    const { stuckMs = STUCK_MS } = this.#options;
    return [...this.#attached].some((cursor) =>
      cursor.place.segment < segment && performance.now() - cursor.movedMs < stuckMs
    );
  }

  /**
   * Adds output. Where it cannot be kept it is thrown away and counted, and the log says so when it can
   * be written again: a full disk stops no container.
   *
   * @param stream Where from.
   * @param bytes The output.
   */
  append(stream: OutputName, bytes: Uint8Array): void {
    if (bytes.length === 0 || this.#ended) return;
    this.#lastMs = Math.max(this.#lastMs, this.#now());
    try {
      if (this.#isFull()) this.#segments.rotate();
      this.#segments.append(this.#withNote(formatOutput(stream, bytes, this.#lastMs)));
      this.#untoldBytes = 0;
    } catch {
      this.#lostBytes += bytes.length;
      this.#untoldBytes += bytes.length;
    }
    this.#tell();
  }

  /** What was lost is told together with what comes next: alone the note might fit again and again. */
  #withNote(lines: Uint8Array): Uint8Array {
    if (this.#untoldBytes === 0) return lines;
    const text = `quasaur: ${this.#untoldBytes} bytes of output could not be kept here: the disk ` +
      "was full\n";
    const note = formatOutput("stderr", new TextEncoder().encode(text), this.#lastMs);
    return concat([note, lines]);
  }

  /** Nothing more comes. */
  finish(): void {
    this.#ended = true;
    this.#tell();
  }

  /**
   * Reads it.
   *
   * @param place Where from; see {@link RunLog.begin} and {@link RunLog.end}.
   * @param isAttached Whether the container waits for it.
   */
  reader(place: LogPlace, isAttached: boolean): LogReader {
    this.#readers++;
    const cursor: Cursor = new Cursor(place, (from) => this.#read(from), () => {
      this.#readers--;
      this.#attached.delete(cursor);
      // Who waits for its end looks again.
      this.#tell();
    });
    if (isAttached) this.#attached.add(cursor);
    return cursor;
  }

  #read(place: LogPlace): ReadLines | undefined {
    if (this.#isClosed) return undefined;
    const found = this.#segments.read(place, READ_BYTES);
    if (found === undefined) {
      throw new SandboxError(
        "DataLoss",
        `cannot follow the output of ${this.#options.label}: more was written than is kept before ` +
          "this client read it: see the logs for what is left",
      );
    }
    return this.#ended && found.lines.length === 0 ? undefined : found;
  }

  /** Resolves when something was added, or somebody has stopped reading. */
  changed(): Promise<void> {
    return this.#changed.promise;
  }

  #tell(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }

  /** Gives up the older half, to make room for the logs of others. */
  shrink(): void {
    this.#segments.dropEarlier();
  }

  /** Bytes that {@link RunLog.shrink} would free. */
  get shrinkableBytes(): number {
    return this.#attached.size > 0 ? 0 : this.#segments.earlierBytes;
  }

  /** Closes its file; what is kept stays. */
  [Symbol.dispose](): void {
    this.finish();
    this.#isClosed = true;
    this.#segments[Symbol.dispose]();
  }
}

/** Lines, and where the next ones begin. */
interface ReadLines {
  readonly lines: Uint8Array;
  readonly next: LogPlace;
}

type ReadFrom = (place: LogPlace) => ReadLines | undefined;

class Cursor implements LogReader {
  readonly #read: ReadFrom;
  readonly #onDispose: () => void;
  #isOver = false;
  place: LogPlace;
  /** When it read something, by the clock of `performance`. */
  movedMs = performance.now();

  constructor(place: LogPlace, read: ReadFrom, onDispose: () => void) {
    this.place = place;
    this.#read = read;
    this.#onDispose = onDispose;
  }

  read(): Uint8Array | undefined {
    const found = this.#read(this.place);
    this.movedMs = performance.now();
    if (found === undefined) return undefined;
    this.place = found.next;
    return found.lines;
  }

  [Symbol.dispose](): void {
    if (!this.#isOver) this.#onDispose();
    this.#isOver = true;
  }
}
