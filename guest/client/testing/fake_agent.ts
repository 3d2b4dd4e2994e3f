/**
 * An agent in this process behind a unix socket, for tests: the guest's end of the wire as it is, and
 * connections that can be cut, held back and counted.
 *
 * @module
 */

import { createGuestPeer } from "../../protocol/guest_peer.ts";
import { type Hello, PROTOCOL_VERSION } from "../../protocol/messages.ts";
import type { GuestPeer, RequestHandlers } from "../../protocol/peer.ts";
import type { TransportSink } from "../../protocol/transport.ts";
import { SocketTransport } from "../socket_transport.ts";

/** What the fake says of itself. */
export const FAKE_HELLO: Hello = {
  protocol: PROTOCOL_VERSION,
  agent: "fake",
  kernel: "none",
  warnings: [],
};

/** An agent that listens. */
export class FakeAgent implements Disposable {
  /** Its end of the wire. */
  readonly peer: GuestPeer;
  /** How many connections there were. */
  connections = 0;
  /** Whether it reads what comes. */
  deaf = false;
  readonly #path: string;
  #listener: Deno.UnixListener | undefined;
  #conn: Deno.UnixConn | undefined;
  #transport: SocketTransport | undefined;

  /**
   * An agent that does not listen yet.
   *
   * @param path Its socket.
   * @param handlers What it can do.
   */
  constructor(path: string, handlers: RequestHandlers = {}) {
    this.#path = path;
    this.peer = createGuestPeer({
      handlers,
      connected: () => void this.peer.event({ kind: "ready", hello: FAKE_HELLO }),
      log: () => undefined,
    });
  }

  /** Listens. */
  listen(): this {
    const listener = Deno.listen({ transport: "unix", path: this.#path });
    this.#listener = listener;
    void this.#serve(listener);
    return this;
  }

  async #serve(listener: Deno.UnixListener): Promise<void> {
    for await (const conn of listener) {
      this.connections++;
      this.cut();
      const transport = new SocketTransport(conn);
      this.#conn = conn;
      this.#transport = transport;
      const sink = this.peer.attach(transport);
      transport.start(this.#hearing(sink));
    }
  }

  #hearing(sink: TransportSink): TransportSink {
    return {
      onBytes: (bytes) => {
        if (!this.deaf) sink.onBytes(bytes);
      },
      onDrain: () => sink.onDrain(),
      onClosed: (reason) => sink.onClosed(reason),
    };
  }

  /** Breaks the connection that is open. */
  cut(): void {
    this.#transport?.close();
    this.#transport = undefined;
  }

  /** Sends bytes that are no part of the protocol. */
  async sendRaw(bytes: Uint8Array): Promise<void> {
    await this.#conn?.write(bytes);
  }

  /** Ends it. */
  [Symbol.dispose](): void {
    this.#listener?.close();
    this.#listener = undefined;
    this.cut();
  }
}
