/**
 * Control messages: numbered frames that are kept until the other side has said that they came, and
 * sent again on the next connection of the same session. So each is taken exactly once, in order.
 * A message larger than a frame travels in parts.
 *
 * @module
 */

import { DATA_BYTES_MAX, FLAG, FRAME, HEADER_BYTES, makeFrame, OVERHEAD_BYTES } from "./frames.ts";
import { type FrameHead, sealFrame } from "./frames.ts";
import { CONTROL_ACKNOWLEDGE_FRAMES, CONTROL_WINDOW_FRAMES } from "./limits.ts";
import { Violation } from "./violation.ts";

/** The numbers of control frames end here; no session comes near. */
const SEQUENCE_MAX = 0xffff_0000;

const NOTHING = new Uint8Array(0);

/** How a control channel is bounded and where its messages go. */
export interface ControlOptions {
  /** The largest message that is taken. */
  readonly receiveBytesMax: number;
  /** Bytes that may wait to be sent or acknowledged. */
  readonly sendBytesMax: number;
  /** Takes a message; the payload is good until the call returns. */
  message(type: number, flags: number, id: number, payload: Uint8Array): void;
}

/** A frame that was not acknowledged yet. Its header is written when it is sent. */
interface Kept {
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly bytes: Uint8Array;
}

/** See the module. */
export class ControlChannel {
  readonly #options: ControlOptions;
  /** Frames from number `#acknowledged` on. */
  #kept: Kept[] = [];
  #keptBytes = 0;
  #acknowledged = 0;
  /** The number of the next frame to send in this connection. */
  #next = 0;
  /** The highest number ever sent, plus one. */
  #sentEnd = 0;
  #expected = 0;
  /** Frames that have come since the other side was last told. */
  #untold = 0;
  #parts: Uint8Array[] = [];
  #partsBytes = 0;

  /**
   * A channel at the start of a session.
   *
   * @param options Bounds, and who takes the messages.
   */
  constructor(options: ControlOptions) {
    this.#options = options;
  }

  /** The number of the next frame that is expected from the other side. */
  get expected(): number {
    return this.#expected;
  }

  /**
   * Queues a message.
   *
   * @returns Whether there was room.
   */
  send(type: number, flags: number, id: number, payload: Uint8Array): boolean {
    const parts = Math.max(1, Math.ceil(payload.length / DATA_BYTES_MAX));
    const bytes = payload.length + parts * OVERHEAD_BYTES;
    if (this.#keptBytes + bytes > this.#options.sendBytesMax) return false;
    if (this.#acknowledged + this.#kept.length + parts > SEQUENCE_MAX) return false;
    for (let part = 0; part < parts; part++) {
      const piece = payload.subarray(part * DATA_BYTES_MAX, (part + 1) * DATA_BYTES_MAX);
      const frame = new Uint8Array(OVERHEAD_BYTES + piece.length);
      frame.set(piece, HEADER_BYTES);
      const more = part < parts - 1 ? FLAG.more : 0;
      this.#kept.push({ type, flags: flags | more, id, bytes: frame });
    }
    this.#keptBytes += bytes;
    return true;
  }

  /** The next frame to send; undefined where none is there or too many are on the way. */
  nextFrame(): Uint8Array | undefined {
    const index = this.#next - this.#acknowledged;
    const kept = index < CONTROL_WINDOW_FRAMES ? this.#kept[index] : undefined;
    if (kept === undefined) return undefined;
    sealFrame(kept.bytes, kept.type, kept.flags, kept.id, this.#next, this.#expected);
    this.#next++;
    this.#sentEnd = Math.max(this.#sentEnd, this.#next);
    this.#untold = 0;
    return kept.bytes;
  }

  /** A frame that only acknowledges, where the other side should be told. */
  acknowledgement(): Uint8Array | undefined {
    if (this.#untold < CONTROL_ACKNOWLEDGE_FRAMES) return undefined;
    this.#untold = 0;
    return makeFrame(FRAME.acknowledge, 0, 0, NOTHING, 0, this.#expected);
  }

  /** Notes that the other side was told by another frame. */
  told(): void {
    this.#untold = 0;
  }

  /**
   * The other side has all frames before `number`.
   *
   * @throws {Violation} For what was never sent.
   */
  acknowledge(number: number): void {
    if (number > this.#sentEnd) {
      throw new Violation(`acknowledged control frame ${number}, ${this.#sentEnd} were sent`);
    }
    const count = number - this.#acknowledged;
    if (count <= 0) return;
    // One by one: there are few, and an emulated guest has shift() translated already.
    for (let done = 0; done < count; done++) {
      this.#keptBytes -= this.#kept.shift()?.bytes.length ?? 0;
    }
    this.#acknowledged = number;
    this.#next = Math.max(this.#next, number);
  }

  /**
   * Takes a control frame.
   *
   * @returns Whether it was new.
   * @throws {Violation} For one out of order, or for a message that is too large.
   */
  receive(head: FrameHead, payload: Uint8Array): boolean {
    this.acknowledge(head.b);
    if (head.a < this.#expected) return false;
    if (head.a > this.#expected) {
      throw new Violation(`control frame ${head.a} came, expected ${this.#expected}`);
    }
    this.#expected++;
    this.#untold++;
    const { type, flags, id } = head;
    if (this.#partsBytes + payload.length > this.#options.receiveBytesMax) {
      throw new Violation(`message is larger than ${this.#options.receiveBytesMax} bytes`);
    }
    if ((flags & FLAG.more) !== 0) {
      // An empty part would let one message cost memory without end.
      if (payload.length === 0) throw new Violation("part of a message is empty");
      this.#parts.push(payload.slice());
      this.#partsBytes += payload.length;
      return true;
    }
    this.#options.message(
      type,
      flags,
      id,
      this.#parts.length === 0 ? payload : this.#join(payload),
    );
    return true;
  }

  #join(last: Uint8Array): Uint8Array {
    const whole = new Uint8Array(this.#partsBytes + last.length);
    let at = 0;
    for (const part of this.#parts) {
      whole.set(part, at);
      at += part.length;
    }
    whole.set(last, at);
    this.#parts = [];
    this.#partsBytes = 0;
    return whole;
  }

  /**
   * The session goes on over a new connection.
   *
   * @param number The number that the other side expects.
   * @throws {Violation} For one that cannot be.
   */
  resume(number: number): void {
    if (number < this.#acknowledged) {
      throw new Violation(`control frame ${number} is wanted again after it was acknowledged`);
    }
    this.acknowledge(number);
    this.#next = number;
    this.#untold = 0;
  }

  /** Another session begins: what was under way is dropped. */
  reset(): void {
    this.#kept = [];
    this.#keptBytes = 0;
    this.#acknowledged = 0;
    this.#next = 0;
    this.#sentEnd = 0;
    this.#expected = 0;
    this.#untold = 0;
    this.#parts = [];
    this.#partsBytes = 0;
  }
}
