/**
 * A connection as the HTTP/2 server may see it: without GOAWAY frames.
 *
 * In Deno 2.9.6 a GOAWAY that comes on a connection with some hundred ended requests corrupts the
 * heap of the process ("free(): invalid pointer", or a failed assertion in nghttp2), and containerd
 * sends one whenever it stops. The frame says only that the peer opens no more streams; that the
 * connection ends is told by its end as well. So it can be left out, and the server does not send
 * one either: it ends its connections below HTTP/2.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

/** What a client sends before its first frame. Source: RFC 9113, 3.4. */
const PREFACE_BYTES = 24;
/** Length (24 bits), type, flags, stream. Source: RFC 9113, 4.1. */
const HEADER_BYTES = 9;
/** Source: RFC 9113, 6.8. */
const GOAWAY = 0x07;

/** Leaves GOAWAY frames out of what a client sends, whatever pieces it comes in. */
export class GoawayFilter {
  /** Bytes that go through before the next header: first the preface, then each frame. */
  #passing = PREFACE_BYTES;
  /** Bytes that are left out before the next header. */
  #dropping = 0;
  /** The beginning of a header whose rest has not come yet. */
  #header: Buffer = Buffer.alloc(0);

  /**
   * Takes the next piece.
   *
   * @returns What is to be handed on; may be empty.
   */
  pass(piece: Buffer): Buffer {
    const kept: Buffer[] = [];
    let rest = this.#header.length === 0 ? piece : Buffer.concat([this.#header, piece]);
    this.#header = Buffer.alloc(0);
    while (rest.length > 0) {
      if (this.#passing === 0 && this.#dropping === 0 && !this.#readHeader(rest)) {
        // At most 8 bytes, copied so that they do not keep the whole piece alive.
        this.#header = Buffer.from(rest);
        break;
      }
      const length = Math.min(rest.length, this.#passing + this.#dropping);
      if (this.#passing > 0) kept.push(rest.subarray(0, length));
      if (this.#passing > 0) this.#passing -= length;
      else this.#dropping -= length;
      rest = rest.subarray(length);
    }
    const [only] = kept;
    return kept.length === 1 && only !== undefined ? only : Buffer.concat(kept);
  }

  /** Whether there was a whole header; then its frame is passed or dropped next. */
  #readHeader(bytes: Buffer): boolean {
    if (bytes.length < HEADER_BYTES) return false;
    const frameBytes = HEADER_BYTES + bytes.readUIntBE(0, 3);
    if (bytes[3] === GOAWAY) this.#dropping = frameBytes;
    else this.#passing = frameBytes;
    return true;
  }
}

/** A socket without the GOAWAY frames of its peer. Ends and breaks with the socket, and it with this. */
export class Http2Connection extends Duplex {
  readonly #socket: Socket;
  readonly #filter = new GoawayFilter();

  /**
   * Takes a connection over.
   *
   * @param socket An accepted connection; it belongs to this from here on.
   */
  constructor(socket: Socket) {
    super();
    this.#socket = socket;
    socket.on("data", (piece: Buffer) => {
      const kept = this.#filter.pass(piece);
      if (kept.length > 0 && !this.push(kept)) socket.pause();
    });
    socket.on("end", () => this.push(null));
    socket.on("error", (error: Error) => this.destroy(error));
    socket.on("close", () => this.destroy());
  }

  /** Ends the connection once everything is written, below HTTP/2. */
  endSocket(): void {
    this.#socket.end();
  }

  /** @ignore */
  override _read(): void {
    this.#socket.resume();
  }

  /** @ignore */
  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, done);
  }

  /** @ignore */
  override _final(done: () => void): void {
    this.#socket.end(done);
  }

  /** @ignore */
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
