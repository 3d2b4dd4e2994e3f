/**
 * A connected socket as a transport of the wire.
 *
 * @module
 */

import { giveBuffer, takeBuffer } from "../protocol/buffers.ts";
import type { Transport, TransportSink } from "../protocol/transport.ts";

/** What a connection reads into that nothing comes from; there may be many. */
const IDLE_READ_BYTES = 2 * 1024;
/** What one reads into that much comes from. */
const BUSY_READ_BYTES = 128 * 1024;
/** The peer is asked to wait when more than this waits to be sent, in bytes. */
const QUEUE_HIGH_BYTES = 128 * 1024;
/** It may go on when no more than this waits, in bytes. */
const QUEUE_LOW_BYTES = 64 * 1024;

/** A connection, as Deno gives it. */
export type SocketConn = Pick<Deno.Conn, "read" | "write" | "close">;

/** See the module. It owns the connection. */
export class SocketTransport implements Transport {
  readonly #conn: SocketConn;
  readonly #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #blocked = false;
  #writing = false;
  #closed = false;
  #sink: TransportSink | undefined;
  #onIdle: (() => void) | undefined;

  /**
   * A transport that does not read yet.
   *
   * @param conn The connection.
   */
  constructor(conn: SocketConn) {
    this.#conn = conn;
  }

  /** Begins to read. */
  start(sink: TransportSink): void {
    this.#sink = sink;
    void this.#read(sink);
  }

  async #read(sink: TransportSink): Promise<void> {
    const small = new Uint8Array(IDLE_READ_BYTES);
    let buffer: Uint8Array = small;
    let reason = "the other side has closed it";
    try {
      while (!this.#closed) {
        const count = await this.#conn.read(buffer);
        if (count === null) break;
        if (!this.#closed) sink.onBytes(buffer.subarray(0, count));
        // Whatever comes next (an answer to a ping at the latest) makes it small again.
        if (buffer === small && count === small.length) buffer = takeBuffer(BUSY_READ_BYTES);
        else if (buffer !== small && count < small.length) {
          giveBuffer(buffer);
          buffer = small;
        }
      }
    } catch (error) {
      reason = String(error);
    }
    if (buffer !== small) giveBuffer(buffer);
    this.#fail(reason);
  }

  #fail(reason: string): void {
    if (this.#closed) return;
    this.close();
    this.#sink?.onClosed(reason);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#closed) return true;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (!this.#writing) void this.#send();
    this.#blocked ||= this.#queuedBytes > QUEUE_HIGH_BYTES;
    return !this.#blocked;
  }

  async #send(): Promise<void> {
    this.#writing = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        let rest = next;
        while (rest.length > 0) rest = rest.subarray(await this.#conn.write(rest));
        this.#queuedBytes -= next.length;
        if (!this.#blocked || this.#queuedBytes > QUEUE_LOW_BYTES) continue;
        this.#blocked = false;
        this.#sink?.onDrain();
      }
    } catch (error) {
      this.#fail(String(error));
    }
    this.#writing = false;
    this.#onIdle?.();
  }

  /** Resolves when all was handed to the kernel, or the connection is closed. */
  idle(): Promise<void> {
    if (!this.#writing || this.#closed) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onIdle = resolve;
    return promise;
  }

  discard(): void {
    this.#queue.length = 0;
    this.#queuedBytes = 0;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.discard();
    try {
      this.#conn.close();
    } catch {
      // Whoever gave it has closed it.
    }
    this.#onIdle?.();
  }
}
