/**
 * Cuts a byte stream into frames. In step it takes whole frames only; out of step (at the start of a
 * connection, or after a cut) it looks for the one frame that begins a connection.
 *
 * @module
 */

import { giveBuffer, takeBuffer } from "./buffers.ts";
import {
  DATA_BYTES_MAX,
  emptyHead,
  type FrameHead,
  HEADER_BYTES,
  isTrailer,
  MAGIC,
  OPENING_BYTES,
  OVERHEAD_BYTES,
  readHead,
} from "./frames.ts";

/** Who takes the frames. */
export interface FrameSink {
  /**
   * A whole frame. Head and payload are good until the call returns. It may call
   * {@link FrameReader.restart}.
   */
  onFrame(head: FrameHead, payload: Uint8Array): void;
  /** Whether this is the frame that begins the connection; asked only when out of step. */
  begins(head: FrameHead, payload: Uint8Array): boolean;
  /** The bytes are no frame: out of step from here on, unless the reader is stopped. */
  onLost(): void;
}

/** Beginnings of frames that fit in here need no larger buffer. */
const SMALL_BYTES = 1024;

/** Bytes of the frame that begins a connection. */
const OPENING_FRAME_BYTES: number = OVERHEAD_BYTES + OPENING_BYTES;

/** See the module. */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #head = emptyHead();
  readonly #dataBytesMax: number;
  readonly #small: Uint8Array = new Uint8Array(SMALL_BYTES);
  /** The beginning of a frame whose rest is to come: `#small`, or a shared buffer while needed. */
  #partial: Uint8Array = this.#small;
  #have = 0;
  /** Bytes of the partial frame with all; its header's where not even that is there. */
  #need = HEADER_BYTES;
  #inStep = false;
  #stopped = false;
  /** Bytes that were passed over since the last {@link restart}. */
  skipped = 0;

  /**
   * A reader that is out of step.
   *
   * @param sink Takes the frames.
   * @param dataBytesMax The largest payload that may come.
   */
  constructor(sink: FrameSink, dataBytesMax: number = DATA_BYTES_MAX) {
    this.#sink = sink;
    this.#dataBytesMax = dataBytesMax;
  }

  /** Forgets what was begun; what comes next belongs to another connection. */
  restart(): void {
    this.#inStep = false;
    this.#have = 0;
    this.#need = HEADER_BYTES;
    this.skipped = 0;
    this.#shrink();
  }

  /** Takes nothing any more. */
  stop(): void {
    this.#stopped = true;
    this.#shrink();
  }

  /** Makes room for a partial frame; what is there of it stays. */
  #grow(bytes: number): void {
    if (bytes <= this.#partial.length) return;
    const larger = takeBuffer(bytes);
    larger.set(this.#partial.subarray(0, this.#have), 0);
    this.#shrink();
    this.#partial = larger;
  }

  /** Gives the large buffer back; its content is not needed. */
  #shrink(): void {
    if (this.#partial === this.#small) return;
    giveBuffer(this.#partial);
    this.#partial = this.#small;
  }

  /** Takes bytes. They are not kept. */
  push(bytes: Uint8Array): void {
    let rest = bytes;
    while (rest.length > 0 && !this.#stopped) {
      if (!this.#inStep) rest = this.#scan(rest);
      else if (this.#have > 0) rest = this.#complete(rest);
      else rest = this.#direct(rest);
    }
  }

  /** Frames that lie whole in the bytes, without a copy. */
  #direct(bytes: Uint8Array): Uint8Array {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const head = this.#head;
    let at = 0;
    while (bytes.length - at >= HEADER_BYTES) {
      if (!readHead(view, at, head, this.#dataBytesMax)) {
        return this.#lose(bytes.subarray(at + HEADER_BYTES));
      }
      const end = at + OVERHEAD_BYTES + head.length;
      if (end > bytes.length) break;
      if (!isTrailer(view, end - 4, head)) return this.#lose(bytes.subarray(end));
      this.#sink.onFrame(head, bytes.subarray(at + HEADER_BYTES, end - 4));
      at = end;
      if (!this.#inStep || this.#stopped) return bytes.subarray(at);
    }
    this.#keep(bytes.subarray(at));
    return bytes.subarray(bytes.length);
  }

  #keep(bytes: Uint8Array): void {
    this.#need = HEADER_BYTES;
    // The header was good a moment ago; the head was filled by it.
    if (bytes.length >= HEADER_BYTES) this.#need = OVERHEAD_BYTES + this.#head.length;
    this.#grow(this.#need);
    this.#partial.set(bytes, 0);
    this.#have = bytes.length;
  }

  /** Adds to the partial frame what belongs to it. */
  #complete(bytes: Uint8Array): Uint8Array {
    const taken = Math.min(this.#need - this.#have, bytes.length);
    this.#partial.set(taken === bytes.length ? bytes : bytes.subarray(0, taken), this.#have);
    this.#have += taken;
    const rest = bytes.subarray(taken);
    if (this.#have < this.#need) return rest;
    const head = this.#head;
    if (this.#need === HEADER_BYTES) {
      if (!readHead(viewOf(this.#partial), 0, head, this.#dataBytesMax)) return this.#lose(rest);
      this.#need = OVERHEAD_BYTES + head.length;
      this.#grow(this.#need);
      return rest;
    }
    const end = this.#need;
    const frame = this.#partial;
    this.#have = 0;
    this.#need = HEADER_BYTES;
    if (!isTrailer(viewOf(frame), end - 4, head)) return this.#lose(rest);
    // Out of the reader's hands while the frame is taken: that may restart it.
    this.#partial = this.#small;
    this.#sink.onFrame(head, frame.subarray(HEADER_BYTES, end - 4));
    if (frame !== this.#small) giveBuffer(frame);
    return rest;
  }

  #lose(rest: Uint8Array): Uint8Array {
    this.restart();
    this.#sink.onLost();
    return rest;
  }

  /** Looks for the frame that begins the connection; gives what follows it. */
  #scan(bytes: Uint8Array): Uint8Array {
    const window = this.#have === 0 ? bytes : this.#joined(bytes);
    this.#have = 0;
    const view = new DataView(window.buffer, window.byteOffset, window.byteLength);
    let at = window.indexOf(MAGIC);
    while (at >= 0 && window.length - at >= OPENING_FRAME_BYTES) {
      if (this.#isOpening(window, view, at)) return this.#begin(window, at);
      at = window.indexOf(MAGIC, at + 1);
    }
    if (at < 0) at = window.length;
    this.skipped += at;
    // Less than the frame that is looked for; it may go on in the next bytes.
    this.#partial.set(window.subarray(at), 0);
    this.#have = window.length - at;
    return bytes.subarray(bytes.length);
  }

  #joined(bytes: Uint8Array): Uint8Array {
    const joined = new Uint8Array(this.#have + bytes.length);
    joined.set(this.#partial.subarray(0, this.#have), 0);
    joined.set(bytes, this.#have);
    return joined;
  }

  #isOpening(window: Uint8Array, view: DataView, at: number): boolean {
    const head = this.#head;
    if (!readHead(view, at, head, this.#dataBytesMax) || head.length !== OPENING_BYTES) {
      return false;
    }
    const end = at + OPENING_FRAME_BYTES;
    if (!isTrailer(view, end - 4, head)) return false;
    return this.#sink.begins(head, window.subarray(at + HEADER_BYTES, end - 4));
  }

  #begin(window: Uint8Array, at: number): Uint8Array {
    const end = at + OPENING_FRAME_BYTES;
    this.skipped += at;
    this.#inStep = true;
    this.#need = HEADER_BYTES;
    this.#sink.onFrame(this.#head, window.subarray(at + HEADER_BYTES, end - 4));
    return window.subarray(end);
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
