/**
 * ttrpc frames: a 10-byte header and up to 4 MiB of data. Encoding, and a reader that takes bytes
 * as they come off a socket, in pieces of any size. Server and client share it; it knows no calls.
 *
 * Source: containerd/ttrpc PROTOCOL.md, "Message Frame".
 *
 * @module
 */

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

/** Bytes of a frame's header. */
export const HEADER_BYTES = 10;
/** Most data bytes in one frame. */
export const MAX_DATA_BYTES = 4 << 20;
/** Largest stream id: ids are unsigned 32-bit numbers and a client's are odd. */
export const MAX_STREAM_ID = 0xffff_ffff;
/** First capacity of the buffer of a frame that arrives in pieces; it doubles as bytes arrive. */
const FIRST_BUFFER_BYTES = 64 << 10;

/** Message types. Others may come in later versions of the protocol and are to be ignored. */
export const MESSAGE_TYPE = { request: 1, response: 2, data: 3 } as const;

/**
 * Message types of our own, with stream 0 and no data, between a server and a relay of calls: see
 * sandboxers/host/native/relay.c. `hello` is the relay's, and asks for `farewell`: what was not
 * answered before that was not begun.
 */
export const RELAY_MESSAGE_TYPE = { hello: 0x51, farewell: 0x52 } as const;

/** Flags of requests and data messages. */
export const FLAG = { remoteClosed: 1, remoteOpen: 2, noData: 4 } as const;

/** What the header of a frame says. */
export interface FrameHeader {
  /** Which call it belongs to. */
  readonly streamId: number;
  /** One of {@link MESSAGE_TYPE}, or a type that is not known. */
  readonly type: number;
  /** Bits of {@link FLAG}. */
  readonly flags: number;
}

/** A whole frame. */
export interface Frame extends FrameHeader {
  /** Part of a received chunk where that was possible: read it before returning, or copy it. */
  readonly data: Uint8Array;
}

/** The one error that {@link FrameReader.push} throws: the bytes are not ttrpc; give the peer up. */
export class FrameError extends Error {
  /** The name shown in stack traces. */
  override readonly name = "FrameError";
}

/** What a {@link FrameReader} hands its frames to. */
export interface FrameSink {
  /** A whole frame has arrived. */
  frame(frame: Frame): void;
  /** A frame with more than {@link MAX_DATA_BYTES} is arriving; its data is skipped. */
  oversized(header: FrameHeader, dataBytes: number): void;
}

/**
 * Writes a header.
 *
 * @param target Takes {@link HEADER_BYTES} bytes at its start.
 * @param header What it says.
 * @param dataBytes Length of the data that follows, at most {@link MAX_DATA_BYTES}.
 */
function writeHeader(target: Uint8Array, header: FrameHeader, dataBytes: number): void {
  const { streamId } = header;
  target[0] = dataBytes >>> 24;
  target[1] = dataBytes >>> 16;
  target[2] = dataBytes >>> 8;
  target[3] = dataBytes;
  target[4] = streamId >>> 24;
  target[5] = streamId >>> 16;
  target[6] = streamId >>> 8;
  target[7] = streamId;
  target[8] = header.type;
  target[9] = header.flags;
}

/**
 * Encodes a frame.
 *
 * @param header Stream id, type and flags.
 * @param data The data; copied.
 * @throws RangeError when the data is larger than {@link MAX_DATA_BYTES}.
 */
export function encodeFrame(header: FrameHeader, data: Uint8Array): Uint8Array {
  if (data.length > MAX_DATA_BYTES) {
    throw new RangeError(
      `cannot send a ttrpc frame with ${data.length} bytes: at most ${MAX_DATA_BYTES} fit`,
    );
  }
  const frame = new Uint8Array(HEADER_BYTES + data.length);
  writeHeader(frame, header, data.length);
  frame.set(data, HEADER_BYTES);
  return frame;
}

/** Field number of `payload` in ttrpc.Response (containerd/ttrpc request.proto). */
const RESPONSE_PAYLOAD = 2;

/**
 * Encodes the frame of a good answer: a ttrpc.Response that has nothing but its payload. The same
 * bytes as through the generated code, with one copy of the payload instead of two.
 *
 * @param streamId The stream of the request.
 * @param payload The encoded answer.
 * @returns Undefined when the frame would be larger than the protocol allows.
 */
export function encodeAnswer(streamId: number, payload: Uint8Array): Uint8Array | undefined {
  const header: FrameHeader = { streamId, type: MESSAGE_TYPE.response, flags: 0 };
  if (payload.length === 0) return encodeFrame(header, payload);
  const prefix = new BinaryWriter()
    .tag(RESPONSE_PAYLOAD, WireType.LengthDelimited)
    .uint32(payload.length)
    .finish();
  const dataBytes = prefix.length + payload.length;
  if (dataBytes > MAX_DATA_BYTES) return undefined;
  const frame = new Uint8Array(HEADER_BYTES + dataBytes);
  writeHeader(frame, header, dataBytes);
  frame.set(prefix, HEADER_BYTES);
  frame.set(payload, HEADER_BYTES + prefix.length);
  return frame;
}

/**
 * Cuts a stream of bytes into frames. It holds at most one unfinished frame, and for that no more
 * than twice the bytes that arrived.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #head = new Uint8Array(HEADER_BYTES);
  #headFilled = 0;
  /** The frame whose data is arriving; undefined while a header is. */
  #current: FrameHeader | undefined;
  #dataBytes = 0;
  #body = new Uint8Array(0);
  #bodyFilled = 0;
  /** Bytes of an oversized frame that are still to be thrown away. */
  #skip = 0;
  #stopped = false;

  /**
   * Makes a reader at the beginning of a stream.
   *
   * @param sink Takes the frames, synchronously.
   */
  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Whether a frame has begun and is not complete. */
  get midFrame(): boolean {
    return this.#headFilled > 0 || this.#current !== undefined || this.#skip > 0;
  }

  /** Makes the reader deaf: nothing more is handed on, also not from the chunk in progress. */
  stop(): void {
    this.#stopped = true;
    this.#body = new Uint8Array(0);
  }

  /**
   * Takes the next bytes.
   *
   * @param chunk As it came off the socket; must not change while a frame of it is in use.
   * @throws FrameError when the bytes cannot be ttrpc. The reader is of no use afterwards.
   */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length && !this.#stopped) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, chunk.length - at);
        this.#skip -= skipped;
        at += skipped;
      } else if (this.#current === undefined) {
        at = this.#readHead(chunk, at);
      } else {
        at = this.#readBody(this.#current, chunk, at);
      }
    }
  }

  /** Takes header bytes; returns where the next part begins. */
  #readHead(chunk: Uint8Array, start: number): number {
    let head: Uint8Array = this.#head;
    let offset = 0;
    let next: number;
    if (this.#headFilled === 0 && chunk.length - start >= HEADER_BYTES) {
      head = chunk;
      offset = start;
      next = start + HEADER_BYTES;
    } else {
      const taken = Math.min(HEADER_BYTES - this.#headFilled, chunk.length - start);
      head.set(chunk.subarray(start, start + taken), this.#headFilled);
      this.#headFilled += taken;
      next = start + taken;
      if (this.#headFilled < HEADER_BYTES) return next;
      this.#headFilled = 0;
    }
    this.#begin(head, offset);
    return next;
  }

  /** A header is complete: checks it and says what follows. */
  #begin(head: Uint8Array, offset: number): void {
    const reserved = head[offset];
    if (reserved !== 0) {
      throw new FrameError(
        `cannot read ttrpc frame: its first byte is ${reserved}, expected 0 (reserved)`,
      );
    }
    const dataBytes = uint32(head, offset);
    const header: FrameHeader = {
      streamId: uint32(head, offset + 4),
      type: head[offset + 8] ?? 0,
      flags: head[offset + 9] ?? 0,
    };
    if (dataBytes > MAX_DATA_BYTES) {
      this.#skip = dataBytes;
      this.#sink.oversized(header, dataBytes);
    } else if (dataBytes === 0) {
      this.#sink.frame({ ...header, data: new Uint8Array(0) });
    } else {
      this.#current = header;
      this.#dataBytes = dataBytes;
    }
  }

  /** Takes data bytes; returns where the next part begins. */
  #readBody(header: FrameHeader, chunk: Uint8Array, start: number): number {
    const missing = this.#dataBytes - this.#bodyFilled;
    const available = chunk.length - start;
    if (this.#bodyFilled === 0 && available >= missing) {
      this.#complete(header, chunk.subarray(start, start + missing));
      return start + missing;
    }
    const taken = Math.min(missing, available);
    this.#grow(this.#bodyFilled + taken);
    this.#body.set(chunk.subarray(start, start + taken), this.#bodyFilled);
    this.#bodyFilled += taken;
    if (this.#bodyFilled === this.#dataBytes) {
      const data = this.#body.subarray(0, this.#bodyFilled);
      this.#body = new Uint8Array(0);
      this.#complete(header, data);
    }
    return start + taken;
  }

  #complete(header: FrameHeader, data: Uint8Array): void {
    this.#current = undefined;
    this.#bodyFilled = 0;
    this.#sink.frame({ ...header, data });
  }

  /** Makes room for a number of data bytes: what is promised is not allocated, what came is. */
  #grow(neededBytes: number): void {
    if (this.#body.length >= neededBytes) return;
    const doubled = Math.max(this.#body.length * 2, neededBytes, FIRST_BUFFER_BYTES);
    const grown = new Uint8Array(Math.min(doubled, this.#dataBytes));
    grown.set(this.#body.subarray(0, this.#bodyFilled));
    this.#body = grown;
  }
}

/** The big-endian unsigned 32-bit number at an offset that is known to be inside. */
function uint32(bytes: Uint8Array, offset: number): number {
  const high = bytes[offset] ?? 0;
  const rest = ((bytes[offset + 1] ?? 0) << 16) | ((bytes[offset + 2] ?? 0) << 8) |
    (bytes[offset + 3] ?? 0);
  return high * 0x100_0000 + rest;
}
