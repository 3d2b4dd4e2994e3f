/**
 * Files, streams and the standard streams of this process as ends for a pump.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { ByteSink, ByteSource } from "./byte_ends.ts";

/** A plain file that is read from its start. */
export class FileSource implements ByteSource {
  readonly #file: Deno.FsFile;
  #over = false;

  /** Takes an open file over. */
  constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  async read(into: Uint8Array): Promise<number | null> {
    if (this.#over) return null;
    return await this.#file.read(into);
  }

  letEnd(): void {}

  /** Closes it; what waits is given up. */
  [Symbol.dispose](): void {
    if (!this.#over) this.#file.close();
    this.#over = true;
  }
}

/** A plain file that is appended to. */
export class FileSink implements ByteSink {
  readonly hadReader = true;
  readonly #file: Deno.FsFile;
  #over = false;

  /** Takes an open file over. */
  constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  write(bytes: Uint8Array): Promise<number> {
    // A copy: the bytes are good only until this returns.
    return this.#file.write(bytes.slice());
  }

  close(): Promise<void> {
    this[Symbol.dispose]();
    return Promise.resolve();
  }

  /** Closes it; what waits is given up. */
  [Symbol.dispose](): void {
    if (!this.#over) this.#file.close();
    this.#over = true;
  }
}

/** A readable stream of this process. */
export class ReadableSource implements ByteSource {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  /** Takes a stream over. */
  constructor(readable: ReadableStream<Uint8Array>) {
    this.#reader = readable.getReader();
  }

  async read(into: Uint8Array): Promise<number | null> {
    while (this.#rest.length === 0) {
      const { done, value } = await this.#reader.read();
      if (done) return null;
      this.#rest = value;
    }
    const count = Math.min(into.length, this.#rest.length);
    into.set(this.#rest.subarray(0, count));
    this.#rest = this.#rest.subarray(count);
    return count;
  }

  letEnd(): void {
    void this.#reader.cancel().catch(() => undefined);
  }

  /** Closes it; what waits is given up. */
  [Symbol.dispose](): void {
    this.letEnd();
  }
}

/** A writable stream of this process. */
export class WritableSink implements ByteSink {
  readonly hadReader = true;
  readonly isPatient = true;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #what: string;
  #over = false;

  /**
   * Takes a stream over.
   *
   * @param writable Where to.
   * @param what What it is, for messages.
   */
  constructor(writable: WritableStream<Uint8Array>, what: string) {
    this.#writer = writable.getWriter();
    this.#what = what;
    this.#writer.closed.catch(() => undefined);
  }

  async write(bytes: Uint8Array): Promise<number> {
    // A copy: who reads the stream may keep it.
    await this.#writer.write(bytes.slice());
    return bytes.length;
  }

  async close(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    await this.#writer.close().catch(() => undefined);
  }

  /** Closes it; what waits is given up. */
  [Symbol.dispose](): void {
    if (this.#over) return;
    this.#over = true;
    const reason = new SandboxError("Cancelled", `cannot write ${this.#what}: it was given up`);
    void this.#writer.abort(reason).catch(() => undefined);
  }
}

/** Standard output or error of this process; it stays open. */
export class OwnOutput implements ByteSink {
  readonly hadReader = true;
  readonly #stream: { write(bytes: Uint8Array): Promise<number> };

  /** Writes to one of the two. */
  constructor(stream: { write(bytes: Uint8Array): Promise<number> }) {
    this.#stream = stream;
  }

  write(bytes: Uint8Array): Promise<number> {
    // A copy: the bytes are good only until this returns.
    return this.#stream.write(bytes.slice());
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Closes it; what waits is given up. */
  [Symbol.dispose](): void {}
}

/** Takes everything and keeps nothing. */
export class NoSink implements ByteSink {
  readonly hadReader = true;

  write(bytes: Uint8Array): number {
    return bytes.length;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Closes it; what waits is given up. */
  [Symbol.dispose](): void {}
}

/** Is at its end. */
export class NoSource implements ByteSource {
  read(): null {
    return null;
  }

  letEnd(): void {}

  /** Closes it; what waits is given up. */
  [Symbol.dispose](): void {}
}

/** What was read from standard input, or is being read, while nobody wanted it. */
interface Ahead {
  pending: Promise<Uint8Array | null> | undefined;
  rest: Uint8Array;
}

const READ_BYTES = 16 * 1024;
const ahead: Ahead = { pending: undefined, rest: new Uint8Array(0) };

/**
 * Standard input of this process; it stays open. A read cannot be taken back: what comes after a
 * source was disposed of is kept for the next one.
 */
export class OwnInput implements ByteSource {
  #isOver = false;
  #giveUp: (() => void) | undefined;

  async read(into: Uint8Array): Promise<number | null> {
    while (ahead.rest.length === 0) {
      if (this.#isOver) return null;
      ahead.pending ??= readOwnInput();
      const bytes = await this.#unlessOver(ahead.pending);
      if (this.#isOver || bytes === null) return null;
    }
    const count = Math.min(into.length, ahead.rest.length);
    into.set(ahead.rest.subarray(0, count));
    ahead.rest = ahead.rest.subarray(count);
    return count;
  }

  letEnd(): void {
    this[Symbol.dispose]();
  }

  /** A race with one promise for the end of it all would keep all that was ever read. */
  #unlessOver(pending: Promise<Uint8Array | null>): Promise<Uint8Array | null> {
    return new Promise((resolve, reject) => {
      this.#giveUp = () => resolve(null);
      pending.then(resolve, reject);
    });
  }

  /** Closes it; what waits is given up. */
  [Symbol.dispose](): void {
    this.#isOver = true;
    this.#giveUp?.();
  }
}

async function readOwnInput(): Promise<Uint8Array | null> {
  const buffer = new Uint8Array(READ_BYTES);
  try {
    const count = await Deno.stdin.read(buffer);
    if (count === null) return null;
    ahead.rest = buffer.subarray(0, count);
    return ahead.rest;
  } finally {
    ahead.pending = undefined;
  }
}
