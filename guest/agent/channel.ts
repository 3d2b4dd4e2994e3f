/**
 * A descriptor that leads to the host as a transport of the protocol: a port of virtio-serial, an
 * accepted vsock or unix connection. Reads and writes never block; a write that the kernel has no
 * room for waits in a queue.
 *
 * @module
 */

import type { GuestPeer } from "../protocol/peer.ts";
import type { Transport, TransportSink } from "../protocol/transport.ts";
import { EAGAIN, errnoName } from "./errno.ts";
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from "./linux.ts";
import { after, type Timer, type Watch, watch } from "./loop.ts";
import * as sys from "./sys.js";

const READ_BYTES = 64 * 1024;
/**
 * How long a port's host has to be away until it is taken for gone, in milliseconds. A guest may hear
 * of bytes before it hears that there is a host: a clone of a template does.
 */
const ABSENCE_MS = 100;
/** Full buffers in a row before others get a turn. */
const TURNS_MAX = 4;
/** The peer is asked to wait when more than this waits to be sent, in bytes. */
const QUEUE_HIGH_BYTES = 256 * 1024;
/** It may go on when no more than this waits, in bytes. */
const QUEUE_LOW_BYTES = 64 * 1024;
/** Wakes for what comes in and for a host that comes or goes: once for each change. */
const QUIET = EPOLLET | EPOLLIN | EPOLLRDHUP;

/** How a channel behaves. */
export interface ChannelOptions {
  /** The largest write, in bytes: some transports lose what is larger. */
  readonly writeBytesMax: number;
  /**
   * Whether the descriptor outlives the other side: a port does, whose host side was closed; it is
   * used again when the host is back. A socket does not: it is closed.
   */
  readonly survives: boolean;
  /** Called when a channel that does not survive has been closed by the other side. */
  readonly onGone?: () => void;
}

// One buffer for all channels: what was read is dealt with before the next read.
const buffer = new ArrayBuffer(READ_BYTES);
const bytes = new Uint8Array(buffer);

/** See the module. The channel owns the descriptor. */
export class Channel implements Transport {
  readonly #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  /** What of the first array was sent already, in bytes. */
  #sentBytes = 0;
  #blocked = false;
  #sink: TransportSink | undefined;
  /** Whether a host was heard that has not gone since. */
  #hasHost = false;
  #watch: Watch | undefined;
  #absence: Timer | undefined;

  /**
   * Begins to use a descriptor.
   *
   * @param peer Who uses the channel.
   * @param fd The descriptor, non-blocking.
   * @param options How it behaves.
   */
  constructor(
    readonly peer: Pick<GuestPeer, "attach">,
    readonly fd: number,
    readonly options: ChannelOptions,
  ) {
    this.#sink = peer.attach(this);
    this.#watch = watch(fd, QUIET, (events) => this.#onEvents(events));
  }

  #onEvents(events: number): void {
    if (events & EPOLLOUT) this.#flush();
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) this.#read();
  }

  #read(): void {
    let filled = 0;
    for (let turn = 0; this.#watch !== undefined; filled = 0) {
      let count = 0;
      // A port gives 4 KiB at once, so one buffer takes several reads.
      while (filled < READ_BYTES) {
        count = sys.read(this.fd, buffer, filled, READ_BYTES - filled);
        if (count <= 0) break;
        filled += count;
      }
      if (filled > 0) this.#take(filled);
      if (count <= 0) {
        if (count === 0 && this.options.survives) this.#missHost(filled > 0);
        else if (count !== -EAGAIN) {
          this.#gone(count === 0 ? "the host has closed" : errnoName(count));
        } else this.#findHost();
        return;
      }
      if (++turn === TURNS_MAX) {
        after(0, () => this.#read());
        return;
      }
    }
  }

  #take(filled: number): void {
    this.#hasHost = true;
    this.#sink?.onBytes(bytes.subarray(0, filled));
  }

  /** The port says that no host is there. */
  #missHost(hasHeard: boolean): void {
    if (hasHeard) this.#findHost();
    if (!this.#hasHost) return;
    this.#absence ??= after(ABSENCE_MS, () => {
      this.#absence = undefined;
      if (sys.poll(this.fd, EPOLLIN, 0) & EPOLLHUP) this.#gone("the host has closed");
      else this.#read();
    });
  }

  /** The host is there. */
  #findHost(): void {
    this.#absence?.cancel();
    this.#absence = undefined;
  }

  #gone(reason: string): void {
    const sink = this.#sink;
    this.#sink = undefined;
    this.#hasHost = false;
    this.discard();
    if (!this.options.survives) this.close();
    sink?.onClosed(reason);
    // A port's host may be back: whoever clones this guest has all ready for that.
    if (this.options.survives) this.#sink = this.peer.attach(this);
    else this.options.onGone?.();
  }

  write(sent: Uint8Array): boolean {
    if (this.#watch === undefined) return true;
    this.#queue.push(sent);
    this.#queuedBytes += sent.byteLength;
    if (this.#queue.length === 1) this.#send();
    this.#blocked = this.#queuedBytes > QUEUE_HIGH_BYTES;
    return !this.#blocked;
  }

  discard(): void {
    this.#queue.length = 0;
    this.#queuedBytes = 0;
    this.#sentBytes = 0;
    this.#blocked = false;
  }

  close(): void {
    if (this.#watch === undefined) return;
    this.#watch.stop();
    this.#watch = undefined;
    this.#findHost();
    this.discard();
    sys.close(this.fd);
  }

  #flush(): void {
    this.#send();
    if (!this.#blocked || this.#queuedBytes > QUEUE_LOW_BYTES) return;
    this.#blocked = false;
    this.#sink?.onDrain();
  }

  /** Sends what the kernel takes; asks to be woken where something stays. */
  #send(): void {
    const { writeBytesMax } = this.options;
    for (;;) {
      const first = this.#queue[0];
      if (first === undefined || this.#watch === undefined) break;
      const count = sys.writeFrom(this.fd, first, this.#sentBytes, writeBytesMax);
      if (count === -EAGAIN) break;
      if (count < 0) {
        // The read side tells that the host is gone; what is here would reach nobody.
        this.discard();
        break;
      }
      this.#queuedBytes -= count;
      this.#sentBytes += count;
      if (this.#sentBytes < first.byteLength) continue;
      this.#queue.shift();
      this.#sentBytes = 0;
    }
    this.#watch?.modify(this.#queue.length > 0 ? QUIET | EPOLLOUT : QUIET);
  }
}
