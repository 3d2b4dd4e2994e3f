/**
 * How a ttrpc client's bytes travel: over a socket of Node's, which the client connects by itself, or
 * over a unix connection that somebody else has made, such as one through a gate. Nothing here knows
 * frames.
 *
 * @module
 */

import type { Socket } from "node:net";

/** Bytes read at a time: answers are small, and every connection holds a buffer of this size. */
const READ_BYTES = 4_096;

/** What a transport tells its client. */
export interface TransportEvents {
  /** Bytes have come; they are the receiver's. */
  data(chunk: Uint8Array): void;
  /** Nothing comes any more. May be said more than once. */
  lost(why: string): void;
}

/** The connection of one client. */
export interface Transport {
  /** Bytes that wait for the server to read. */
  readonly queuedBytes: number;
  /** Sends bytes after those that wait. */
  write(bytes: Uint8Array): void;
  /** Closes it; what waits is dropped. May be called more than once. */
  destroy(): void;
}

/**
 * Uses a socket of Node's that is connected.
 *
 * @param socket The socket; the transport closes it.
 * @param events Who is told what.
 */
export function socketTransport(socket: Socket, events: TransportEvents): Transport {
  socket.on("data", (chunk: Uint8Array) => events.data(chunk));
  socket.on("error", (error: Error) => events.lost(error.message));
  socket.on("end", () => events.lost("the server closed the connection"));
  socket.on("close", () => events.lost("the connection was closed"));
  return {
    get queuedBytes() {
      return socket.writableLength;
    },
    write: (bytes) => void socket.write(bytes),
    destroy: () => void socket.destroy(),
  };
}

/** Uses a unix connection that was made elsewhere. */
export class ConnectionTransport implements Transport {
  readonly #connection: Deno.UnixConn;
  readonly #events: TransportEvents;
  #waiting: Uint8Array[] = [];
  #queuedBytes = 0;
  #sending = false;
  #over = false;

  /**
   * Takes a connection over and begins to read.
   *
   * @param connection The connection; the transport closes it.
   * @param events Who is told what.
   */
  constructor(connection: Deno.UnixConn, events: TransportEvents) {
    this.#connection = connection;
    this.#events = events;
    void this.#receive();
  }

  /** Bytes that wait. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Sends bytes. */
  write(bytes: Uint8Array): void {
    if (this.#over) return;
    this.#waiting.push(bytes);
    this.#queuedBytes += bytes.length;
    if (!this.#sending) void this.#send();
  }

  /** Closes it. */
  destroy(): void {
    if (this.#over) return;
    this.#over = true;
    this.#waiting = [];
    this.#queuedBytes = 0;
    this.#connection.close();
  }

  async #receive(): Promise<void> {
    const buffer = new Uint8Array(READ_BYTES);
    try {
      for (;;) {
        const length = await this.#connection.read(buffer);
        if (length === null) return this.#events.lost("the server closed the connection");
        this.#events.data(buffer.slice(0, length));
      }
    } catch (error) {
      this.#lost(error);
    }
  }

  async #send(): Promise<void> {
    this.#sending = true;
    try {
      for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
        for (let at = 0; at < next.length && !this.#over;) {
          const written = await this.#connection.write(next.subarray(at));
          at += written;
          this.#queuedBytes -= written;
        }
      }
    } catch (error) {
      this.#lost(error);
    } finally {
      this.#sending = false;
    }
  }

  #lost(error: unknown): void {
    if (!this.#over) this.#events.lost(error instanceof Error ? error.message : String(error));
  }
}
