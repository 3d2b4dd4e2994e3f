/**
 * What a connection has to say: answers on their way to a peer that may read slowly, or never. One
 * write for all answers of one received chunk, a bound on what is queued, and a limit on how long
 * nothing may move.
 *
 * @module
 */

import type { Socket } from "node:net";
import { concat } from "../../sandboxers/bytes.ts";

/** What may be queued, and how long. */
export interface OutboxLimits {
  /** Bytes queued for a peer that does not read; with more than that the peer is given up. */
  readonly queuedBytes: number;
  /** How long queued bytes may take to move, in milliseconds. */
  readonly stallMs: number;
}

/** The writing side of a connection. */
export class Outbox {
  readonly #socket: Socket;
  readonly #limits: OutboxLimits;
  readonly #onStuck: (why: string) => void;
  /** Frames that are held back; undefined while frames are written as they come. */
  #held: Uint8Array[] | undefined;
  #heldBytes = 0;
  /** Bytes given to the socket so far, whether the peer has read them or not. */
  #givenBytes = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  /**
   * Makes the outbox of a socket.
   *
   * @param socket Where the bytes go.
   * @param limits What may be queued.
   * @param onStuck Called when the peer does not read; it is to close the connection.
   */
  constructor(socket: Socket, limits: OutboxLimits, onStuck: (why: string) => void) {
    this.#socket = socket;
    this.#limits = limits;
    this.#onStuck = onStuck;
    socket.on("drain", () => this.#stopTimer());
  }

  /** Holds frames back until {@link release}. */
  hold(): void {
    if (!this.#closed) this.#held = [];
  }

  /** Writes what was held back, in one piece. */
  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    this.#heldBytes = 0;
    const [first] = held;
    if (first !== undefined) this.#send(held.length === 1 ? first : concat(held));
  }

  /** Writes a frame, or holds it back. */
  write(frame: Uint8Array): void {
    if (this.#closed) return;
    if (this.#held === undefined) return this.#send(frame);
    this.#held.push(frame);
    this.#heldBytes += frame.length;
    if (this.#heldBytes < this.#limits.queuedBytes) return;
    // What is held back counts as little as possible against what may be queued.
    this.release();
    this.hold();
  }

  /** Forgets what is held back and stops its timer. */
  close(): void {
    this.#closed = true;
    this.#held = undefined;
    this.#stopTimer();
  }

  #send(bytes: Uint8Array): void {
    if (this.#closed || this.#socket.writableEnded) return;
    const { queuedBytes } = this.#limits;
    const queued = this.#socket.writableLength;
    if (queued > 0 && queued + bytes.length > queuedBytes) {
      return this.#onStuck(`${queued} bytes wait for the peer to read, at most ${queuedBytes} may`);
    }
    this.#givenBytes += bytes.length;
    if (!this.#socket.write(bytes)) this.#startTimer();
  }

  /** Gives the peer up when nothing of what is queued now has moved after a while. */
  #startTimer(): void {
    if (this.#timer !== undefined || this.#closed) return;
    const moved = this.#movedBytes();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#movedBytes() > moved) this.#startTimer();
      else this.#onStuck("the peer does not read its answers");
    }, this.#limits.stallMs);
  }

  #stopTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #movedBytes(): number {
    return this.#givenBytes - this.#socket.writableLength;
  }
}
