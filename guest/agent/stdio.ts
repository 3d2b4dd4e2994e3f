/**
 * The standard streams of a process in the guest: pipes or a terminal on the one side, streams of
 * the protocol on the other, with the flow control of both. Nothing is copied on the way but by the
 * kernel: outputs are read straight into the frames that go out.
 *
 * @module
 */

import type { GuestStdio } from "../protocol/messages.ts";
import type { GuestPeer, InboundStream, OutboundStream } from "../protocol/peer.ts";
import { EAGAIN, EPIPE, must, systemError } from "./errno.ts";
import { EPOLLET, EPOLLIN, EPOLLOUT } from "./linux.ts";
import { after, type Timer, type Watch, watch } from "./loop.ts";
import * as sys from "./sys.js";

/** What of the peer is needed here. */
export type StreamOpener = Pick<GuestPeer, "openInput" | "openOutput">;

/** Reads or writes in a row (of a frame each) before others get a turn. */
const TURNS_MAX = 8;
/**
 * How long outputs are kept open after the process has ended while something else still holds them,
 * in milliseconds.
 */
const LINGER_MS = 500;
/** What is read at most after that, in bytes: all that a pipe can hold. */
const LAST_BYTES_MAX = 1024 * 1024;
/**
 * What the pipe of an output holds, in bytes. A frame takes a little less than half of a pipe of the
 * usual size, so that many frames would be small; and each switch between writer and agent costs.
 */
const OUTPUT_PIPE_BYTES = 512 * 1024;

/** Where outputs go that nobody wants. */
const discarded = new Uint8Array(16 * 1024);

/** Standard streams of one process. */
export class ProcessStdio {
  /**
   * The descriptors for 0, 1 and 2 of the process; -1 is /dev/null. The agent's until
   * {@link closeChildEnds}. With a terminal that is still to come all are -1.
   */
  readonly childFds: readonly number[];
  /** Whether it is to have a terminal. */
  readonly hasTerminal: boolean;
  #childEnds: number[] = [];
  #outputs: OutputPump[] = [];
  #input: InputPump | undefined;
  #inbound: InboundStream | undefined;
  #outbound: OutboundStream | undefined;
  #master = -1;
  #size: { readonly columns: number; readonly rows: number };

  /**
   * Opens the streams, and the pipes where there is no terminal.
   *
   * @param streams Who opens streams.
   * @param stdio What the host asked for.
   * @throws AgentError As the peer's `openInput` and `openOutput`; `ResourceExhausted` without
   *   descriptors. Nothing is left open then.
   */
  constructor(streams: StreamOpener, stdio: GuestStdio) {
    this.hasTerminal = stdio.terminal !== undefined;
    this.#size = stdio.terminal ?? { columns: 0, rows: 0 };
    const fds = [-1, -1, -1];
    try {
      if (stdio.stdin !== undefined) this.#inbound = streams.openInput(stdio.stdin);
      if (this.hasTerminal) {
        if (stdio.stdout !== undefined) this.#outbound = streams.openOutput(stdio.stdout);
      } else {
        if (this.#inbound !== undefined) fds[0] = this.#connectInput(this.#inbound);
        if (stdio.stdout !== undefined) fds[1] = this.#connectOutput(streams, stdio.stdout);
        if (stdio.stderr !== undefined) fds[2] = this.#connectOutput(streams, stdio.stderr);
      }
    } catch (thrown) {
      this.abandon("the process was not started");
      throw thrown;
    }
    this.childFds = fds;
  }

  #connectInput(inbound: InboundStream): number {
    const [readEnd, writeEnd] = this.#pipe();
    this.#childEnds.push(readEnd);
    this.#input = new InputPump(inbound, writeEnd, true);
    this.#inbound = undefined;
    return readEnd;
  }

  #connectOutput(streams: StreamOpener, id: number): number {
    const [readEnd, writeEnd] = this.#pipe();
    this.#childEnds.push(writeEnd);
    // Without the room it works as well, only slower.
    sys.setPipeSize(readEnd, OUTPUT_PIPE_BYTES);
    let outbound: OutboundStream;
    try {
      outbound = streams.openOutput(id);
    } catch (thrown) {
      sys.close(readEnd);
      throw thrown;
    }
    this.#outputs.push(new OutputPump(outbound, readEnd, true));
    return writeEnd;
  }

  #pipe(): readonly [number, number] {
    const pair = sys.pipe(0);
    if (typeof pair === "number") throw systemError("cannot make a pipe", pair);
    return pair;
  }

  /** Closes what the child has inherited; to be called once it was started, or could not be. */
  closeChildEnds(): void {
    for (const fd of this.#childEnds) sys.close(fd);
    this.#childEnds = [];
  }

  /**
   * Makes a terminal of the agent's own, for a process that is started without crun.
   *
   * @returns The descriptor for 0, 1 and 2 of the process; {@link closeChildEnds} closes it.
   * @throws AgentError Where there is none to have.
   */
  openTerminal(): number {
    const pair = sys.openPty(this.#size.columns, this.#size.rows);
    if (typeof pair === "number") throw systemError("cannot open a terminal", pair);
    const [master, slave] = pair;
    this.#childEnds.push(slave);
    this.attachTerminal(master);
    return slave;
  }

  /**
   * Takes the process's terminal over; it gets the size that was asked for last.
   *
   * @param master The terminal's master descriptor; it is closed here from now on.
   */
  attachTerminal(master: number): void {
    this.#master = master;
    sys.setNonblocking(master);
    if (this.#size.columns > 0 && this.#size.rows > 0) {
      sys.setWindowSize(master, this.#size.columns, this.#size.rows);
    }
    // The input has a descriptor of its own, so that each side can end by itself.
    const inbound = this.#inbound;
    this.#inbound = undefined;
    if (inbound !== undefined) {
      this.#input = new InputPump(inbound, must("cannot open a terminal", sys.dup(master)), false);
    }
    const output = new OutputPump(this.#outbound, master, false);
    output.onEnd = () => {
      this.#master = -1;
      this.#input?.close("the terminal was hung up");
    };
    this.#outbound = undefined;
    this.#outputs.push(output);
  }

  /**
   * Sets the size of the terminal, also of one that is still to come. Without one it does nothing.
   *
   * @param columns In characters.
   * @param rows In characters.
   */
  resize(columns: number, rows: number): void {
    if (!this.hasTerminal) return;
    this.#size = { columns, rows };
    if (this.#master >= 0) sys.setWindowSize(this.#master, columns, rows);
  }

  /**
   * The process has ended: what it wrote is still delivered; then its outputs end, at the latest
   * when something that outlives it has held them open for half a second.
   */
  processEnded(): void {
    this.closeChildEnds();
    this.#input?.close("the process has ended");
    this.#inbound?.reset("the process has ended");
    this.#inbound = undefined;
    this.#outbound?.end();
    this.#outbound = undefined;
    for (const output of this.#outputs) output.processEnded();
  }

  /**
   * Gives everything up at once; what was not delivered is lost.
   *
   * @param reason For people.
   */
  abandon(reason: string): void {
    this.closeChildEnds();
    this.#inbound?.reset(reason);
    this.#outbound?.reset(reason);
    this.#inbound = undefined;
    this.#outbound = undefined;
    this.#input?.close(reason);
    for (const output of this.#outputs) output.abandon(reason);
  }
}

/** Moves bytes from the host to a pipe or a terminal. */
class InputPump {
  #watch: Watch | undefined;

  constructor(
    readonly stream: InboundStream,
    readonly fd: number,
    /** Whether the end of the stream is passed on; a terminal has none. */
    readonly passesEnd: boolean,
  ) {
    sys.setNonblocking(fd);
    this.#watch = watch(fd, EPOLLOUT | EPOLLET, () => this.#move());
    stream.onReadable = () => this.#move();
    this.#move();
  }

  #move(): void {
    const { stream, fd } = this;
    for (let turn = 0; this.#watch !== undefined; turn++) {
      const bytes = stream.peek();
      if (bytes === undefined) {
        if ((stream.ended && this.passesEnd) || stream.resetBy !== undefined) this.close("");
        return;
      }
      if (turn === TURNS_MAX) {
        after(0, () => this.#move());
        return;
      }
      const count = sys.writeFrom(fd, bytes, 0, bytes.byteLength);
      if (count === -EAGAIN) return;
      if (count < 0) {
        this.close(count === -EPIPE ? "the process does not read" : "the process is gone");
        return;
      }
      stream.consume(count);
    }
  }

  /** Closes the process's input; bytes that were not written are lost. */
  close(reason: string): void {
    if (this.#watch === undefined) return;
    this.#watch.stop();
    this.#watch = undefined;
    sys.close(this.fd);
    this.stream.onReadable = () => {};
    this.stream.reset(reason);
  }
}

/** Moves bytes from a pipe or a terminal to the host. */
class OutputPump {
  /** Called when it has ended and its descriptor is closed. */
  onEnd: () => void = () => {};
  #watch: Watch | undefined;
  #stream: OutboundStream | undefined;
  /** What may still be read once nobody waits for the end any more, in bytes. */
  #lastBytes = Infinity;
  #lingering: Timer | undefined;

  constructor(stream: OutboundStream | undefined, readonly fd: number, setNonblocking: boolean) {
    if (setNonblocking) sys.setNonblocking(fd);
    this.#stream = stream;
    this.#watch = watch(fd, EPOLLIN | EPOLLET, () => this.#move());
    if (stream === undefined) return;
    stream.onWritable = () => this.#move();
    stream.onClosed = (reset) => {
      // Nobody wants it any more: read it away, so that the process does not wait for ever.
      if (reset === undefined || this.#stream === undefined) return;
      this.#stream = undefined;
      this.#move();
    };
  }

  #move(): void {
    for (let turn = 0; this.#watch !== undefined; turn++) {
      if (turn === TURNS_MAX) {
        after(0, () => this.#move());
        return;
      }
      const count = this.#stream === undefined ? this.#discard() : this.#forward(this.#stream);
      if (count === undefined) return;
      if (count <= 0 && count !== -EAGAIN) {
        // The end of a pipe is 0, that of a terminal EIO.
        this.#finish();
        return;
      }
      if (count === -EAGAIN) {
        if (this.#lastBytes !== Infinity) this.#finish();
        return;
      }
      this.#lastBytes -= count;
      if (this.#lastBytes <= 0) this.#finish();
    }
  }

  #discard(): number {
    return sys.readInto(this.fd, discarded);
  }

  /** Undefined where the host has no room. */
  #forward(stream: OutboundStream): number | undefined {
    const room = stream.reserve();
    if (room === undefined) return undefined;
    const count = sys.readInto(this.fd, room);
    stream.commit(count > 0 ? count : 0);
    return count;
  }

  /** See {@link ProcessStdio.processEnded}. */
  processEnded(): void {
    if (this.#watch === undefined || this.#lingering !== undefined) return;
    this.#move();
    if (this.#watch === undefined) return;
    this.#lingering = after(LINGER_MS, () => {
      this.#lastBytes = LAST_BYTES_MAX;
      this.#move();
    });
  }

  abandon(reason: string): void {
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.reset(reason);
    this.#finish();
  }

  #finish(): void {
    if (this.#watch === undefined) return;
    this.#lingering?.cancel();
    this.#watch.stop();
    this.#watch = undefined;
    sys.close(this.fd);
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.end();
    this.onEnd();
  }
}
