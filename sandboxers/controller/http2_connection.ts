/**
 * A connection as the HTTP/2 server may see it: without GOAWAY frames.
 *
 * In Deno 2.9.6 a GOAWAY that comes on a connection with some hundred ended requests corrupts the
 * heap of the process ("free(): invalid pointer", or a failed assertion in nghttp2), and containerd
 * sends one whenever it stops. The frame says only that the peer opens no more streams; that the
 * connection ends is told by its end as well. So it can be left out, and the HTTP/2 server does not
 * send one either: it ends its connections below HTTP/2. One that leaves while others take its place
 * has this send the frame for it, and hear when the peer has read it.
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
/** The highest number of a stream (4.1). */
const STREAM_MAX = 0x7fff_ffff;
/**
 * Most bytes that wait for a peer to read them: more than the largest message. Flow control keeps a
 * peer far below it; one that opens its windows wide and does not read, or asks for no end of answers
 * to control frames, would grow the process without end.
 */
const UNSENT_BYTES_MAX = 20 * 1024 * 1024;

/** Called when what was written has gone. */
type Written = (error?: Error | null) => void;

/** Source: RFC 9113, 6.7 and 6.8. */
const PING = 0x06;
const GOAWAY = 0x07;
const ACK = 0x01;
/** What the PING behind a farewell says; its answer is known by that. */
const FAREWELL_PING = Buffer.from("farewell");
/** The whole answer to it. */
const FAREWELL_ANSWER = Buffer.from([0, 0, FAREWELL_PING.length, PING, ACK, 0, 0, 0, 0]);

/**
 * Leaves GOAWAY frames out of what a client sends, whatever pieces it comes in, and answers to a
 * farewell.
 */
export class GoawayFilter {
  /** Called when a client has answered a farewell: what comes now was sent after it was read. */
  onAnswer: () => void = () => undefined;
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
        // At most 16 bytes, copied so that they do not keep the whole piece alive.
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

  /** Whether there was a whole header, or answer; then its frame is passed or dropped next. */
  #readHeader(bytes: Buffer): boolean {
    if (bytes.length < HEADER_BYTES) return false;
    const frameBytes = HEADER_BYTES + bytes.readUIntBE(0, 3);
    const mayBeAnswer = bytes.subarray(0, HEADER_BYTES).equals(FAREWELL_ANSWER);
    if (mayBeAnswer && bytes.length < frameBytes) return false;
    const isAnswer = mayBeAnswer && bytes.subarray(HEADER_BYTES, frameBytes).equals(FAREWELL_PING);
    if (isAnswer) this.onAnswer();
    if (isAnswer || bytes[3] === GOAWAY) this.#dropping = frameBytes;
    else this.#passing = frameBytes;
    return true;
  }
}

/** Follows the frames that the server sends, so that one more can be put between two of them. */
export class FrameBoundary {
  /** Bytes of the present frame that have not been sent. */
  #rest = 0;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #have = 0;

  /** Whether the next byte begins a frame. */
  get isBetweenFrames(): boolean {
    return this.#rest === 0 && this.#have === 0;
  }

  /** Takes note of what is sent. */
  sent(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#rest > 0) {
        const length = Math.min(this.#rest, bytes.length - at);
        this.#rest -= length;
        at += length;
        continue;
      }
      const length = Math.min(HEADER_BYTES - this.#have, bytes.length - at);
      this.#header.set(bytes.subarray(at, at + length), this.#have);
      this.#have += length;
      at += length;
      if (this.#have < HEADER_BYTES) return;
      this.#rest = this.#header.readUIntBE(0, 3);
      this.#have = 0;
    }
  }
}

/** A socket without the GOAWAY frames of its peer. Ends and breaks with the socket, and it with this. */
export class Http2Connection extends Duplex {
  readonly #socket: Socket;
  readonly #filter = new GoawayFilter();
  readonly #boundary = new FrameBoundary();
  /** Frames that wait for their place between two others. */
  #farewell: Buffer | undefined;
  readonly #told = Promise.withResolvers<void>();

  /**
   * Takes a connection over.
   *
   * @param socket An accepted connection; it belongs to this from here on.
   */
  constructor(socket: Socket) {
    super();
    this.#socket = socket;
    this.#filter.onAnswer = () => this.#told.resolve();
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

  /**
   * Sends the client elsewhere with all calls that it has not made yet, on which gRPC clients make them
   * on a new connection. Those that are open, or on their way, are served here. Source: RFC 9113, 6.8:
   * a GOAWAY with the highest number of a stream is the first step of a graceful end. A PING behind it
   * is answered once it was read (6.7).
   *
   * @returns Resolves when the calls that were on their way are here, or the connection has ended.
   */
  sendElsewhere(): Promise<void> {
    const goaway = Buffer.alloc(HEADER_BYTES + 8);
    goaway.writeUIntBE(8, 0, 3);
    goaway[3] = GOAWAY;
    goaway.writeUInt32BE(STREAM_MAX, HEADER_BYTES);
    const ping = Buffer.from(FAREWELL_ANSWER);
    ping[4] = 0;
    this.#farewell = Buffer.concat([goaway, ping, FAREWELL_PING]);
    this.#sayFarewell();
    return this.#told.promise;
  }

  #sayFarewell(): void {
    if (this.#farewell === undefined || !this.#boundary.isBetweenFrames) return;
    this.#socket.write(this.#farewell);
    this.#farewell = undefined;
  }

  /**
   * Takes what is to be sent; HTTP/2 does not wait for room. A peer that lets too much wait is cut
   * off.
   *
   * @ignore
   */
  override write(chunk: unknown, done?: Written): boolean;
  /** @ignore */
  override write(chunk: unknown, encoding: BufferEncoding, done?: Written): boolean;
  /** @ignore */
  override write(
    chunk: unknown,
    encodingOrDone?: BufferEncoding | Written,
    done?: Written,
  ): boolean {
    const room = typeof encodingOrDone === "string"
      ? super.write(chunk, encodingOrDone, done)
      : super.write(chunk, encodingOrDone);
    if (this.writableLength > UNSENT_BYTES_MAX) {
      this.destroy(new Error(`more than ${UNSENT_BYTES_MAX} bytes wait for the peer to read`));
    }
    return room;
  }

  /** @ignore */
  override _read(): void {
    this.#socket.resume();
  }

  /** @ignore */
  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#boundary.sent(chunk);
    this.#socket.write(chunk, done);
    this.#sayFarewell();
  }

  /** @ignore */
  override _final(done: () => void): void {
    this.#socket.end(done);
  }

  /** @ignore */
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    this.#told.resolve();
    done(error);
  }
}
