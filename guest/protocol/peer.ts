/**
 * What the two ends of the wire offer to those who use them: requests, events and byte streams that
 * survive a cut of the connection. `guest_peer.ts` makes the guest's end, `host_peer.ts` the host's.
 *
 * **Connections and sessions.** A connection begins with the host's OPEN frame, wherever it appears
 * in the bytes. A session is one host process's talk with the agent; it goes on over many
 * connections. When a connection is cut and the same host comes back, requests, answers and events
 * that were under way are sent again and taken once; streams go on at the byte where they stopped.
 * When a new host process comes, requests and answers under way are dropped, and it takes the
 * streams over that it asks for.
 *
 * **What is promised of streams.** Guest to host: a byte is kept by the guest until the host said
 * that it was consumed (written to its FIFO). Within one session no byte is lost or comes twice.
 * After the host was killed, the new one gets every byte that was not acknowledged: those that the
 * killed one had consumed within the last `ACKNOWLEDGE_DELAY_MS` (or the last
 * a quarter of its window for a busy stream, see `limits.ts`) come twice, none is lost. Host to guest:
 * within one session no byte is lost or comes twice; bytes that a killed host had read from its FIFO
 * and that had not reached the guest are lost with it.
 *
 * **Order.** Bytes of one stream, and all requests, answers, events and stream endings by `reset`,
 * come in order. Between a stream and an event there is no order: an event overtakes data. So the
 * host waits for the end of the outputs itself after it was told of an exit, and an agent that tells
 * an exit only has to make sure that `end()` of the outputs will follow.
 *
 * @module
 */

import type { AgentEvent, RequestName, Requests } from "./messages.ts";
import type { Transport, TransportSink } from "./transport.ts";

/** How a stream ended before its end was consumed. */
export interface StreamReset {
  /** Whether the other side did it. */
  readonly remote: boolean;
  /** Why, for people. */
  readonly reason: string;
}

/**
 * Bytes that come from the other side. Pull: {@link peek} the bytes that are there, {@link consume}
 * as many as were dealt with. Only what is consumed is acknowledged and makes room for more, so a
 * consumer that stops consuming stops the sender.
 */
export interface InboundStream {
  /** The stream's number. */
  readonly id: number;
  /**
   * Called when bytes, the end or a reset have come; assign it. It may consume at once: bytes that
   * are consumed inside of the call are not copied.
   */
  onReadable: () => void;
  /**
   * The next bytes, at least one; undefined where none is there now. The array is good until the next
   * {@link consume}, and inside of {@link onReadable} until that returns.
   */
  peek(): Uint8Array | undefined;
  /**
   * Bytes of {@link peek} that were dealt with; not more than it gave.
   *
   * @param bytes How many.
   */
  consume(bytes: number): void;
  /** Whether the sender has ended it and every byte was consumed. */
  readonly ended: boolean;
  /**
   * Set when it was reset; nothing comes any more then. Where the other side did it, bytes that had
   * come can still be consumed.
   */
  readonly resetBy: StreamReset | undefined;
  /** Gives it up: no more bytes are wanted. Does nothing after the end or a reset. */
  reset(reason: string): void;
}

/**
 * Bytes that go to the other side. Push, without a copy: {@link reserve} a buffer, fill it,
 * {@link commit} what was filled. Bytes are kept until the other side has consumed them.
 */
export interface OutboundStream {
  /** The stream's number. */
  readonly id: number;
  /** Called when {@link reserve} gives a buffer again after it gave none; assign it. */
  onWritable: () => void;
  /** Called once when all is over: consumed up to the end, or reset; assign it. */
  onClosed: (reset: StreamReset | undefined) => void;
  /**
   * A buffer to fill (just under 32 KiB, or 128 KiB in a guest); undefined while as many bytes are
   * on the way as the window allows, or when the stream was ended or reset. The same buffer until
   * {@link commit}. Room is there without a connection too, until the window is full.
   */
  reserve(): Uint8Array | undefined;
  /**
   * Sends the first bytes of the reserved buffer.
   *
   * @param bytes How many; 0 gives the buffer back.
   */
  commit(bytes: number): void;
  /** No more bytes follow. What was committed is still delivered. */
  end(): void;
  /** Gives it up at once; bytes that are on the way may be lost. Does nothing when it is over. */
  reset(reason: string): void;
  /** Set when it was reset. */
  readonly resetBy: StreamReset | undefined;
}

/** Calls `run` once after some milliseconds; the answer cancels. */
export type Timer = (run: () => void, delayMs: number) => () => void;

/** A request handler of the agent: throws `AgentError` for a failure with a code. */
export type RequestHandler<K extends RequestName> = (
  args: Requests[K]["args"],
) => Requests[K]["result"] | Promise<Requests[K]["result"]>;

/** The handlers by request; those that are missing are answered `Unimplemented`. */
export type RequestHandlers = { readonly [K in RequestName]?: RequestHandler<K> };

/** What the guest's end needs. */
export interface GuestPeerOptions {
  /** Handlers of requests. Arguments have been checked (see `checks.ts`) as far as types go. */
  readonly handlers: RequestHandlers;
  /**
   * A host has connected: tell it who you are (event `ready`), at once.
   *
   * @param resumed Whether it is the host that was there before: then nothing was lost.
   */
  connected(resumed: boolean): void;
  /** The host has gone (where that could be seen). */
  disconnected?(): void;
  /** Takes a note for people; never throws. */
  log(message: string): void;
}

/** The guest's end. Nothing throws except where it is said. */
export interface GuestPeer {
  /**
   * Begins to use a transport; an earlier one is dropped without being closed. To be called before
   * the first byte is read.
   */
  attach(transport: Transport): TransportSink;
  /** Whether a host has opened the connection. */
  readonly connected: boolean;
  /**
   * Sends an event. Within a session it survives a cut.
   *
   * @returns Whether it was taken: not before the first host has connected, and not when a host that
   *   does not read has let too many pile up. What must not get lost (an exit) is told again at the
   *   next `connected` and after `inventory`.
   */
  event(event: AgentEvent): boolean;
  /**
   * Opens the guest's end of a process's input.
   *
   * @param id As the host gave it (`GuestStdio.stdin`).
   * @throws {AgentError} `InvalidArgument` for a bad id, `AlreadyExists` for one in use,
   *   `ResourceExhausted` for too many streams.
   */
  openInput(id: number): InboundStream;
  /**
   * Opens the guest's end of an output. Bytes may be committed at once.
   *
   * @param id As the host gave it (`GuestStdio.stdout`, `stderr`).
   * @throws {AgentError} As {@link openInput}.
   */
  openOutput(id: number): OutboundStream;
  /** The highest stream id that was ever opened; 0 for none. */
  readonly lastStream: number;
}
