/**
 * The receiving end of a byte stream: what came is kept until it was consumed, and only then
 * acknowledged.
 *
 * @module
 */

import { FLAG, windowFrame } from "./frames.ts";
import { ACKNOWLEDGE_FRAMES, ACKNOWLEDGE_PART } from "./limits.ts";
import type { InboundStream, StreamReset } from "./peer.ts";
import { Violation } from "./violation.ts";

/** Blocks that small payloads are gathered in. */
const BLOCK_BYTES = 4 * 1024;

/** What an inbound stream needs of its peer. */
export interface InboundHome {
  /** Bytes of each stream that may be on the way. */
  readonly windowBytes: number;
  /** Sends a frame at once where a connection is open; else it is dropped. */
  sendNow(frame: Uint8Array): void;
  /** The stream was consumed up to its end: the other side has to be told. */
  finished(stream: InboundEnd): void;
  /** The stream was reset by its user: the other side has to be told. */
  resetHere(stream: InboundEnd, reason: string): void;
  /** Calls {@link InboundEnd.acknowledge} soon; missing to have it called at once. */
  readonly soon?: (stream: InboundEnd) => void;
}

/** Bytes in memory, of which some may have been consumed and some may follow. */
interface Block {
  readonly bytes: Uint8Array;
  start: number;
  end: number;
}

function nothing(): void {}

/** See the module. */
export class InboundEnd implements InboundStream {
  readonly id: number;
  onReadable: () => void = nothing;
  ended = false;
  resetBy: StreamReset | undefined;
  readonly #home: InboundHome;
  #blocks: Block[] = [];
  /** The payload that is being taken; not copied yet. */
  #passing: Uint8Array | undefined;
  /** Whether it is not known yet at which byte the stream begins. */
  #unknown: boolean;
  #received = 0;
  #consumed = 0;
  #acknowledged = 0;
  /** Frames since the last acknowledgement. */
  #frames = 0;
  #end: number | undefined;

  /**
   * A stream at its first byte.
   *
   * @param id Its number.
   * @param home The peer.
   * @param adopt Whether an earlier process has taken an unknown number of bytes.
   */
  constructor(id: number, home: InboundHome, adopt: boolean) {
    this.id = id;
    this.#home = home;
    this.#unknown = adopt;
  }

  /** Whether the sender has said where the stream ends. */
  get endKnown(): boolean {
    return this.#end !== undefined;
  }

  /** Whether nothing comes any more. */
  get over(): boolean {
    return this.ended || this.resetBy !== undefined;
  }

  /**
   * Takes the payload of a frame.
   *
   * @returns Whether it was of use.
   * @throws {Violation} For bytes that do not fit in.
   */
  receive(offset: number, payload: Uint8Array, end: boolean): boolean {
    if (this.#unknown) {
      this.#unknown = false;
      this.#received = this.#consumed = this.#acknowledged = offset;
    }
    if (offset > this.#received) {
      throw new Violation(`stream ${this.id} goes on at ${offset}, expected ${this.#received}`);
    }
    const last = offset + payload.length;
    if (last > this.#consumed + this.#home.windowBytes) {
      throw new Violation(`stream ${this.id} brought more than its window allows`);
    }
    if (this.#end !== undefined && (last > this.#end || end && last < this.#end)) {
      throw new Violation(`stream ${this.id} brought bytes after its end`);
    }
    const known = this.#received - offset;
    const useful = last > this.#received || end && this.#end === undefined;
    if (!useful) return false;
    if (end) {
      if (last < this.#received) {
        throw new Violation(`stream ${this.id} ended before bytes that have come`);
      }
      this.#end = last;
    }
    this.#frames++;
    this.#take(known > 0 ? payload.subarray(known) : payload);
    return true;
  }

  #take(payload: Uint8Array): void {
    this.#received += payload.length;
    const direct = this.#blocks.length === 0 && payload.length > 0;
    if (direct) this.#passing = payload;
    else if (payload.length > 0) this.#store(payload);
    this.#checkEnd();
    this.onReadable();
    const rest = this.#passing;
    this.#passing = undefined;
    if (rest !== undefined && rest.length > 0 && !this.over) this.#store(rest);
  }

  #store(payload: Uint8Array): void {
    const last = this.#blocks.at(-1);
    if (last !== undefined && last.bytes.length - last.end >= payload.length) {
      last.bytes.set(payload, last.end);
      last.end += payload.length;
      return;
    }
    const bytes = new Uint8Array(Math.max(payload.length, BLOCK_BYTES));
    bytes.set(payload, 0);
    this.#blocks.push({ bytes, start: 0, end: payload.length });
  }

  peek(): Uint8Array | undefined {
    if (this.#passing !== undefined) return this.#passing.length > 0 ? this.#passing : undefined;
    const block = this.#blocks[0];
    return block?.bytes.subarray(block.start, block.end);
  }

  consume(bytes: number): void {
    const there = this.peek()?.length ?? 0;
    // It may have been given up here since.
    if (bytes <= 0 || this.resetBy?.remote === false) return;
    if (bytes > there) {
      throw new RangeError(
        `cannot consume ${bytes} bytes of stream ${this.id}: ${there} are there`,
      );
    }
    this.#consumed += bytes;
    if (this.#passing !== undefined) {
      this.#passing = this.#passing.subarray(bytes);
    } else {
      const block = this.#blocks[0];
      if (block !== undefined) {
        block.start += bytes;
        if (block.start === block.end) this.#blocks.shift();
      }
    }
    this.#progress();
  }

  #progress(): void {
    if (this.over || this.#checkEnd()) return;
    const unacknowledged = this.#consumed - this.#acknowledged;
    const idle = this.#consumed === this.#received;
    const much = this.#home.windowBytes * ACKNOWLEDGE_PART;
    if (unacknowledged >= much || idle && this.#frames >= ACKNOWLEDGE_FRAMES) {
      this.acknowledge();
    } else if (this.#home.soon !== undefined) {
      this.#home.soon(this);
    }
  }

  /** Notes the end once everything was consumed. */
  #checkEnd(): boolean {
    if (this.over || this.#end === undefined || this.#consumed < this.#end) return false;
    this.ended = true;
    this.#blocks = [];
    this.#home.finished(this);
    return true;
  }

  /** Tells the other side what was consumed, where it does not know. */
  acknowledge(): void {
    if (this.over || this.#unknown || this.#consumed === this.#acknowledged) return;
    this.#sendWindow(0);
  }

  /**
   * Tells the other side where to begin, on a new connection or when the stream was opened.
   */
  attach(): void {
    if (this.over) return;
    this.#sendWindow(FLAG.resume | (this.#unknown ? FLAG.unknown | FLAG.adopt : 0));
  }

  #sendWindow(flags: number): void {
    this.#acknowledged = this.#consumed;
    this.#frames = 0;
    this.#home.sendNow(windowFrame(this.id, flags, {
      consumed: this.#consumed,
      received: this.#received,
      bytes: this.#home.windowBytes,
    }));
  }

  reset(reason: string): void {
    if (this.over) return;
    this.resetBy = { remote: false, reason };
    this.#blocks = [];
    this.#passing = undefined;
    this.#home.resetHere(this, reason);
  }

  /** The other side has given it up. What has come can still be consumed. */
  resetFromThere(reason: string): void {
    if (this.over) return;
    this.resetBy = { remote: true, reason };
    this.onReadable();
  }
}
