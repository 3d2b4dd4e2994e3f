/**
 * What carries the bytes between host and guest: one byte stream in each direction. A transport
 * knows nothing of frames. On the host it is a unix socket, in the guest a port of virtio-serial
 * (or an accepted vsock connection) with a write queue of its own.
 *
 * @module
 */

/**
 * The sending half of a transport, made by whoever owns the descriptor or socket.
 *
 * No call throws and none calls back into the peer before it has returned: failures are told by
 * {@link TransportSink.onClosed} later.
 */
export interface Transport {
  /**
   * Takes bytes to send after all earlier ones. The transport may keep the array until it is sent
   * (it is not changed meanwhile), so it need not copy. One call brings at most
   * `WIDE_FRAME_BYTES_MAX` (128 KiB): a transport whose writes have to be smaller makes several.
   *
   * @returns Whether more may follow at once. After `false` (its queue is longer than it likes;
   *   64 to 256 KiB is a good mark) the peer holds back what can wait until
   *   {@link TransportSink.onDrain}. What cannot wait (a handshake, an answer to a ping) still comes;
   *   it is small.
   */
  write(bytes: Uint8Array): boolean;
  /**
   * Throws away what was not sent yet, if need be in the middle of a frame: the other side has been
   * replaced by a new one, which will find the next frame by itself.
   */
  discard(): void;
  /** Closes it. {@link TransportSink.onClosed} is not called any more. */
  close(): void;
}

/** The receiving half: what a transport tells the peer. Nothing here throws. */
export interface TransportSink {
  /**
   * Bytes have come. The array is the transport's again when the call returns. Fewer, larger calls
   * cost less: read until the buffer (64 KiB) is full or nothing is there, then call once.
   */
  onBytes(bytes: Uint8Array): void;
  /** The write queue has room again after {@link Transport.write} gave `false`. */
  onDrain(): void;
  /**
   * The other side has gone. Bytes that had come before it went were told first. The peer keeps its
   * streams and waits for the next `attach`; a transport that lives on (virtio-serial, whose host
   * side was closed) is attached again when the host is back. Where a transport cannot see that its
   * other side went and came back, nothing has to be told: the peer finds out from the bytes.
   */
  onClosed(reason: string): void;
}
