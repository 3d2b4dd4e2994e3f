/**
 * The sending end of a byte stream: frames are kept until their bytes were consumed on the other
 * side, and sent again from where that side stopped when the connection was cut.
 *
 * @module
 */

import {
  FLAG,
  FRAME,
  HEADER_BYTES,
  highWord,
  OVERHEAD_BYTES,
  sealFrame,
  type Window,
} from "./frames.ts";
import {
  FRAME_BYTES_MAX,
  STARVED_STREAM_BYTES,
  STREAM_WINDOW_BYTES,
  STREAM_WINDOW_FRAMES,
  WIDE_FRAME_BYTES_MAX,
  WIDE_WINDOW_BYTES,
} from "./limits.ts";
import type { OutboundStream, StreamReset } from "./peer.ts";
import { Violation } from "./violation.ts";

/** Buffers of whole frames that are kept for the next reservation while anything is on the way. */
const SPARE_BUFFERS_MAX = 8;

/** The same while nothing is. */
const IDLE_BUFFERS_MAX = 1;

/** What the streams of one peer share. */
export interface OutboundShare {
  /** Bytes that all streams keep. */
  retainedBytes: number;
  /** More than this and a stream gets little room. */
  readonly retainedBytesMax: number;
  /** Whether streams with a wide window have wide frames. */
  readonly sendsWide: boolean;
  /** Buffers to use again. */
  readonly spare: Uint8Array[];
  /** Streams that were refused room for want of bytes that all share. */
  readonly starved: Set<OutboundEnd>;
  /** A stream has something to send, perhaps. */
  wake(stream: OutboundEnd): void;
  /** A stream was reset by its user: the other side has to be told. */
  resetHere(stream: OutboundEnd, reason: string): void;
}

interface Kept {
  readonly bytes: Uint8Array;
  readonly offset: number;
  readonly length: number;
  readonly end: boolean;
}

function nothing(): void {}

/** See the module. */
export class OutboundEnd implements OutboundStream {
  readonly id: number;
  onWritable: () => void = nothing;
  onClosed: (reset: StreamReset | undefined) => void = nothing;
  resetBy: StreamReset | undefined;
  readonly #share: OutboundShare;
  /** Frames with bytes that were not acknowledged, and the end. */
  #kept: Kept[] = [];
  /** Bytes of them, as they lie in memory. */
  #keptBytes = 0;
  /** Which of them is sent next. */
  #next = 0;
  /** Bytes before this were acknowledged. */
  #base = 0;
  /** Bytes before this were sent, in whichever connection. */
  #sentEnd = 0;
  #endSent = false;
  /** Bytes before this were committed. */
  #tail = 0;
  /** Bytes before this may be sent; undefined while the other side does not listen. */
  #limit: number | undefined;
  /** How many bytes the other side lets be on the way. */
  #windowBytes = STREAM_WINDOW_BYTES;
  #reserved: { readonly buffer: Uint8Array; readonly view: Uint8Array } | undefined;
  #wanted = false;
  #ended = false;
  /** Whether `end` was called before it was known where the end is. */
  #endWanted = false;
  #closed = false;
  /** Whether it is not known yet at which byte the stream goes on. */
  #unknown: boolean;

  /**
   * A stream that nobody listens to yet.
   *
   * @param id Its number.
   * @param share What it shares with others.
   * @param adopt Whether an earlier process has sent an unknown number of bytes.
   */
  constructor(id: number, share: OutboundShare, adopt: boolean) {
    this.id = id;
    this.#share = share;
    this.#unknown = adopt;
  }

  /** Whether the other side has to have it already. */
  get adopting(): boolean {
    return this.#unknown;
  }

  get #over(): boolean {
    return this.#closed || this.#ended;
  }

  reserve(): Uint8Array | undefined {
    if (this.#over) return undefined;
    if (this.#reserved !== undefined) return this.#reserved.view;
    const room = this.#room();
    if (room <= 0) {
      this.#wanted = true;
      return undefined;
    }
    const size = this.#frameBytesMax;
    let buffer = this.#share.spare.pop();
    if (buffer?.length !== size) buffer = new Uint8Array(size);
    const view = buffer.subarray(
      HEADER_BYTES,
      HEADER_BYTES + Math.min(room, size - OVERHEAD_BYTES),
    );
    this.#reserved = { buffer, view };
    return view;
  }

  get #frameBytesMax(): number {
    const isWide = this.#share.sendsWide && this.#windowBytes > STREAM_WINDOW_BYTES;
    return isWide ? WIDE_FRAME_BYTES_MAX : FRAME_BYTES_MAX;
  }

  #room(): number {
    if (this.#unknown) return 0;
    if (this.#kept.length >= STREAM_WINDOW_FRAMES) return 0;
    const window = this.#windowBytes - (this.#tail - this.#base);
    const share = this.#share;
    if (share.retainedBytes < share.retainedBytesMax) return window;
    if (this.#kept.length === 0) return STARVED_STREAM_BYTES;
    share.starved.add(this);
    return 0;
  }

  commit(bytes: number): void {
    const reserved = this.#reserved;
    if (reserved === undefined) {
      // The stream may have been reset by the other side since the buffer was reserved.
      if (this.#over || bytes === 0) return;
      throw new RangeError(`cannot commit ${bytes} bytes to stream ${this.id}: none are reserved`);
    }
    if (bytes < 0 || bytes > reserved.view.length) {
      throw new RangeError(
        `cannot commit ${bytes} bytes to stream ${this.id}: ${reserved.view.length} are reserved`,
      );
    }
    this.#reserved = undefined;
    const { buffer } = reserved;
    // Many small frames must not keep a large buffer each.
    const small = bytes < buffer.length / 2;
    if (bytes > 0) {
      const size = OVERHEAD_BYTES + bytes;
      this.#append(small ? buffer.slice(0, size) : buffer.subarray(0, size), bytes, false);
    }
    if (small) this.#recycle(buffer);
  }

  #append(frame: Uint8Array, length: number, end: boolean): void {
    const offset = this.#tail;
    sealFrame(frame, FRAME.data, end ? FLAG.end : 0, this.id, offset >>> 0, highWord(offset));
    this.#kept.push({ bytes: frame, offset, length, end });
    this.#tail += length;
    this.#retain(frame.buffer.byteLength);
    this.#share.wake(this);
  }

  #retain(bytes: number): void {
    this.#keptBytes += bytes;
    this.#share.retainedBytes += bytes;
  }

  #recycle(buffer: Uint8Array): void {
    const { spare } = this.#share;
    if (spare.length < SPARE_BUFFERS_MAX) spare.push(buffer);
  }

  /** Where nothing is on the way any more, the memory for it is not held either. */
  #letGo(): void {
    const { spare, retainedBytes } = this.#share;
    if (retainedBytes === 0 && spare.length > IDLE_BUFFERS_MAX) spare.length = IDLE_BUFFERS_MAX;
  }

  end(): void {
    if (this.#over) return;
    this.commit(0);
    if (this.#unknown) {
      this.#endWanted = true;
      return;
    }
    this.#ended = true;
    this.#append(new Uint8Array(OVERHEAD_BYTES), 0, true);
  }

  reset(reason: string): void {
    if (this.#closed) return;
    this.#close({ remote: false, reason });
    this.#share.resetHere(this, reason);
  }

  /** The other side has closed it: all was consumed, or it wants no more. */
  closeFromThere(finished: boolean, reason: string): void {
    if (this.#closed) return;
    if (finished && !this.#endSent) {
      throw new Violation(`stream ${this.id} was called finished before its end was sent`);
    }
    this.#close(finished ? undefined : { remote: true, reason });
  }

  #close(reset: StreamReset | undefined): void {
    this.#closed = true;
    this.resetBy = reset;
    this.#reserved = undefined;
    this.#kept = [];
    this.#share.retainedBytes -= this.#keptBytes;
    this.#keptBytes = 0;
    this.#share.starved.delete(this);
    this.#letGo();
    this.onClosed(reset);
  }

  /** The next frame to send; undefined where there is none or the window is full. */
  nextFrame(): Uint8Array | undefined {
    const kept = this.#kept[this.#next];
    if (kept === undefined || this.#limit === undefined) return undefined;
    const end = kept.offset + kept.length;
    if (end > this.#limit) return undefined;
    this.#next++;
    if (end > this.#sentEnd) this.#sentEnd = end;
    if (kept.end) this.#endSent = true;
    return kept.bytes;
  }

  /** The connection was cut: nothing is sent until the other side tells where it is. */
  detach(): void {
    this.#limit = undefined;
  }

  /**
   * The other side tells how far it is.
   *
   * @throws {Violation} For what cannot be.
   */
  window(window: Window, flags: number): void {
    const resume = (flags & FLAG.resume) !== 0;
    const unknown = resume && (flags & FLAG.unknown) !== 0;
    // A window without `resume` is late where the connection is new.
    if (!resume && this.#limit === undefined) return;
    if (this.#unknown) this.#begin(window);
    const consumed = unknown ? this.#base : window.consumed;
    const received = unknown ? this.#base : window.received;
    if (consumed < this.#base || received > this.#sentEnd) {
      throw new Violation(
        `stream ${this.id} was told to be at ${consumed} of ${received} bytes, ` +
          `it is at ${this.#base} of ${this.#sentEnd}`,
      );
    }
    if (window.bytes > (this.#share.sendsWide ? WIDE_WINDOW_BYTES : STREAM_WINDOW_BYTES)) {
      throw new Violation(`stream ${this.id} got a window of ${window.bytes} bytes`);
    }
    this.#windowBytes = Math.max(STREAM_WINDOW_BYTES, window.bytes);
    this.#limit = consumed + window.bytes;
    this.#release(consumed);
    if (resume) this.#rewind(received);
    this.#share.wake(this);
    this.writable();
  }

  /** Goes on where an earlier process stopped. */
  #begin({ consumed, received }: Window): void {
    this.#unknown = false;
    this.#base = consumed;
    this.#sentEnd = this.#tail = received;
    if (this.#endWanted) this.end();
  }

  /** Tells the user of room that it had been refused. */
  writable(): void {
    if (!this.#wanted || this.#over || this.#room() <= 0) return;
    this.#wanted = false;
    this.onWritable();
  }

  /** Lets go of what was consumed. */
  #release(consumed: number): void {
    let count = 0;
    for (const { bytes, offset, length, end } of this.#kept) {
      if (end || offset + length > consumed) break;
      count++;
      this.#retain(-bytes.buffer.byteLength);
      if (bytes.buffer.byteLength === this.#frameBytesMax) {
        this.#recycle(new Uint8Array(bytes.buffer));
      }
    }
    this.#base = consumed;
    if (count === 0) return;
    this.#kept.splice(0, count);
    this.#next = Math.max(0, this.#next - count);
  }

  /** Makes the byte at an offset the next one to be sent. */
  #rewind(offset: number): void {
    let index = this.#kept.findIndex((kept) => kept.end || kept.offset + kept.length > offset);
    if (index < 0) index = this.#kept.length;
    this.#next = index;
    const kept = this.#kept[index];
    if (kept === undefined || kept.offset >= offset) return;
    // Its first bytes have come already.
    const skipped = offset - kept.offset;
    const length = kept.length - skipped;
    const frame = new Uint8Array(OVERHEAD_BYTES + length);
    frame.set(
      kept.bytes.subarray(HEADER_BYTES + skipped, HEADER_BYTES + kept.length),
      HEADER_BYTES,
    );
    sealFrame(frame, FRAME.data, 0, this.id, offset >>> 0, highWord(offset));
    this.#kept[index] = { bytes: frame, offset, length, end: false };
    this.#retain(frame.buffer.byteLength - kept.bytes.buffer.byteLength);
  }
}
