/**
 * The files of a log: `1.log`, `2.log` and so on, of which the last two are kept. Reads and writes only
 * touch the page cache, mostly of a file system in memory, and so are done at once.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { wholeLines } from "./log_format.ts";

/** A place in a log. */
export interface LogPlace {
  /** The number of the file. */
  readonly segment: number;
  /** Bytes from its start. */
  readonly offset: number;
}

/** What is looked at to find the last whole line of a file, in bytes: longer than any line. */
const TAIL_BYTES = 64 * 1024;

/** The files of one log. */
export class LogSegments implements Disposable {
  readonly #directory: string;
  #first: number;
  #last: number;
  #lastBytes: number;
  #earlierBytes: number;
  #file: Deno.FsFile | undefined;

  private constructor(directory: string, first: number, last: number) {
    this.#directory = directory;
    this.#first = first;
    this.#last = last;
    this.#earlierBytes = first < last ? sizeOf(this.#path(first)) : 0;
    this.#lastBytes = 0;
  }

  /**
   * Opens a log to go on with it, and makes its directory where it is missing. A line that was not
   * written to its end is taken away.
   *
   * @param directory Its directory, an absolute path.
   * @throws {SandboxError} `ResourceExhausted` where the disk is full.
   */
  static open(directory: string): LogSegments {
    try {
      Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
      const numbers = [...Deno.readDirSync(directory)]
        .map(({ name }) => Number(/^(\d{1,15})\.log$/.exec(name)?.[1] ?? 0))
        .filter((number) => number > 0)
        .sort((a, b) => a - b);
      const last = numbers.at(-1) ?? 1;
      const first = numbers.at(-2) ?? last;
      const segments = new LogSegments(directory, first, last);
      for (const number of numbers.slice(0, -2)) remove(segments.#path(number));
      segments.#lastBytes = repair(segments.#path(last));
      return segments;
    } catch (error) {
      throw SandboxError.from(error, `cannot open the log in "${directory}"`);
    }
  }

  /** Where the oldest line that is kept begins. */
  get begin(): LogPlace {
    return { segment: this.#first, offset: 0 };
  }

  /** Where the next line will begin. */
  get end(): LogPlace {
    return { segment: this.#last, offset: this.#lastBytes };
  }

  /** Bytes of all files. */
  get bytes(): number {
    return this.#earlierBytes + this.#lastBytes;
  }

  /** Bytes of the file before the last. */
  get earlierBytes(): number {
    return this.#earlierBytes;
  }

  /**
   * Writes lines to the last file, all or nothing.
   *
   * @throws When they cannot be written, such as on a full disk.
   */
  append(lines: Uint8Array): void {
    const file = this.#file ??= openToAppend(this.#path(this.#last));
    let written = 0;
    try {
      while (written < lines.length) written += file.writeSync(lines.subarray(written));
    } catch (error) {
      if (written > 0) file.truncateSync(this.#lastBytes);
      throw error;
    }
    this.#lastBytes += lines.length;
  }

  /** Begins a new file; of the others only the last is kept. */
  rotate(): void {
    this.#close();
    if (this.#first < this.#last) remove(this.#path(this.#first));
    this.#first = this.#last;
    this.#earlierBytes = this.#lastBytes;
    this.#last++;
    this.#lastBytes = 0;
  }

  /** Gives up what was written before the last file. */
  dropEarlier(): void {
    if (this.#first === this.#last) return;
    remove(this.#path(this.#first));
    this.#first = this.#last;
    this.#earlierBytes = 0;
  }

  /**
   * Reads whole lines.
   *
   * @param place Where from; always the beginning of a line.
   * @param bytesMax How much at most; more than the longest line.
   * @returns The lines, and where the next ones begin; undefined where the place is not kept any more.
   */
  read(
    place: LogPlace,
    bytesMax: number,
  ): { readonly lines: Uint8Array; readonly next: LogPlace } | undefined {
    const { segment, offset } = place;
    if (segment < this.#first) return undefined;
    const size = segment === this.#last ? this.#lastBytes : this.#earlierBytes;
    if (offset >= size && segment < this.#last) {
      return this.read({ segment: segment + 1, offset: 0 }, bytesMax);
    }
    const wanted = Math.min(bytesMax, size - offset);
    if (wanted <= 0) return { lines: new Uint8Array(0), next: place };
    const bytes = readAt(this.#path(segment), offset, wanted);
    const lines = bytes.subarray(0, wholeLines(bytes));
    // A file whose end is damaged is left at once.
    const step = lines.length > 0 ? lines.length : size - offset;
    return { lines, next: { segment, offset: offset + step } };
  }

  #path(number: number): string {
    return `${this.#directory}/${number}.log`;
  }

  #close(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  /** Closes the file that is written to. */
  [Symbol.dispose](): void {
    this.#close();
  }
}

function openToAppend(path: string): Deno.FsFile {
  return Deno.openSync(path, { append: true, create: true, mode: 0o600 });
}

function sizeOf(path: string): number {
  try {
    return Deno.statSync(path).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

/** Cuts a file off after its last whole line. */
function repair(path: string): number {
  const size = sizeOf(path);
  if (size === 0) return 0;
  const begin = Math.max(0, size - TAIL_BYTES);
  const whole = begin + wholeLines(readAt(path, begin, size - begin));
  if (whole < size) Deno.truncateSync(path, whole);
  return whole;
}

function readAt(path: string, offset: number, length: number): Uint8Array<ArrayBuffer> {
  using file = Deno.openSync(path);
  file.seekSync(offset, Deno.SeekMode.Start);
  const bytes = new Uint8Array(length);
  let filled = 0;
  while (filled < length) {
    const got = file.readSync(bytes.subarray(filled));
    if (got === null) break;
    filled += got;
  }
  return bytes.subarray(0, filled);
}

function remove(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
