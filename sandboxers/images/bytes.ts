/**
 * Streams and files as sources of bytes in their order.
 *
 * @module
 */

import { concat } from "../bytes.ts";
import type { ByteSource } from "./tar.ts";

/** A stream, read at one's own pace. Disposing of it gives the stream up. */
export class StreamSource implements ByteSource, AsyncDisposable {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  #chunk: Uint8Array<ArrayBuffer> = new Uint8Array();

  /** Locks the stream. */
  constructor(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.#reader = stream.getReader();
  }

  /** See {@link ByteSource.read}. */
  async read(length: number): Promise<Uint8Array<ArrayBuffer>> {
    // What is said of the length is not trusted with memory before it is there.
    const parts: Uint8Array<ArrayBuffer>[] = [];
    await this.#take(length, (part) => parts.push(part));
    return concat(parts);
  }

  /** See {@link ByteSource.skip}. */
  async skip(length: number): Promise<number> {
    return await this.#take(length, () => undefined);
  }

  /** Reads to the end, where a stream tells that it was damaged. */
  async drain(): Promise<void> {
    await this.skip(Infinity);
  }

  /** Takes so many bytes; answers how many there were not. */
  async #take(length: number, part: (bytes: Uint8Array<ArrayBuffer>) => void): Promise<number> {
    let rest = length;
    while (rest > 0) {
      if (this.#chunk.length === 0) {
        const { value, done } = await this.#reader.read();
        if (done) return rest;
        this.#chunk = value;
      }
      const taken = this.#chunk.subarray(0, Math.min(rest, this.#chunk.length));
      this.#chunk = this.#chunk.subarray(taken.length);
      rest -= taken.length;
      part(taken);
    }
    return 0;
  }

  /** Gives the stream up. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reader.cancel().catch(() => undefined);
  }
}

/** A file, from its start. */
export class FileSource implements ByteSource {
  readonly #file: Deno.FsFile;
  #offset = 0;

  /** The file stays the caller's; its position is used. */
  constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  /** Where the next byte is read. */
  get offset(): number {
    return this.#offset;
  }

  /** See {@link ByteSource.read}. */
  async read(length: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(length);
    await this.#file.seek(this.#offset, Deno.SeekMode.Start);
    let filled = 0;
    while (filled < length) {
      const got = await this.#file.read(bytes.subarray(filled));
      if (got === null) break;
      filled += got;
    }
    this.#offset += filled;
    return bytes.subarray(0, filled);
  }

  /** See {@link ByteSource.skip}. */
  skip(length: number): Promise<number> {
    this.#offset += length;
    return Promise.resolve(0);
  }
}
