/**
 * Streams bytes through CRI's exec, and counts them instead of keeping them: the client's side of a
 * WebSocket as in tests/support/exec_stream.ts.
 *
 * Source: Kubernetes, pkg/util/remotecommand.
 *
 * @module
 */

import { type Container, runtime } from "../../tests/support/cri.ts";
import { within } from "./within.ts";

const PROTOCOL = "v4.channel.k8s.io";
const STDIN = 0;
const STDOUT = 1;
/** How long anything here may take, in milliseconds: far beyond any goal. */
const LIMIT_MS = 120_000;
/** How much is sent in one message, in bytes. */
const MESSAGE_BYTES = 32 << 10;
/** How much may wait to be sent, in bytes. */
const WAITING_BYTES_MAX = 1 << 20;
/** How much of an output's end is looked through for a mark, in characters. */
const TAIL_LENGTH = 256;

/** How an exec is started. */
export interface ByteExecOptions {
  /** Whether it has an input. Default false. */
  readonly stdin?: boolean;
  /** Words that it prints once each, short, alone or after other output. */
  readonly marks?: readonly string[];
}

/** An exec whose output is counted. Disposing of it goes away. */
export class ByteExec implements Disposable {
  readonly #socket: WebSocket;
  readonly #closed = Promise.withResolvers<void>();
  readonly #marks: ReadonlyMap<string, PromiseWithResolvers<number>>;
  readonly #decoder = new TextDecoder("latin1");
  #tail = "";
  #bytes = 0;
  #firstAt: number | undefined;
  #lastAt = 0;

  private constructor(socket: WebSocket, marks: readonly string[]) {
    this.#socket = socket;
    this.#marks = new Map(marks.map((mark) => [mark, Promise.withResolvers<number>()]));
    for (const { promise } of this.#marks.values()) promise.catch(() => undefined);
    socket.onclose = () => this.#end();
    socket.onmessage = ({ data }) => {
      if (!(data instanceof ArrayBuffer)) return;
      const bytes = new Uint8Array(data);
      if (bytes[0] === STDOUT && bytes.length > 1) this.#hear(bytes.subarray(1));
    };
  }

  /**
   * Starts a command in a container.
   *
   * @param container The container.
   * @param cmd The command and its arguments.
   * @param options See {@link ByteExecOptions}.
   * @throws {Error} When the server does not take its client.
   */
  static async start(
    container: Container,
    cmd: string[],
    { stdin = false, marks = [] }: ByteExecOptions = {},
  ): Promise<ByteExec> {
    const request = { containerId: container.id, cmd, stdin, stdout: true };
    const { url } = await container.pod.cri.client.call(runtime.exec, request);
    const socket = new WebSocket(url.replace(/^http/, "ws"), [PROTOCOL]);
    socket.binaryType = "arraybuffer";
    const exec = new ByteExec(socket, marks);
    const opened = Promise.withResolvers<void>();
    socket.onopen = () => opened.resolve();
    const refused = exec.#closed.promise.then(() => {
      throw new Error(`cannot attach to the exec at ${url}`);
    });
    refused.catch(() => undefined);
    await within(LIMIT_MS, "an exec to begin", Promise.race([opened.promise, refused]));
    return exec;
  }

  /** How many bytes of output have come, and how long after the first the last came. */
  get received(): { readonly bytes: number; readonly elapsedMs: number } {
    return { bytes: this.#bytes, elapsedMs: this.#lastAt - (this.#firstAt ?? this.#lastAt) };
  }

  /**
   * Waits for a mark in its output.
   *
   * @param mark One of those that it was started with.
   * @returns When it came (`performance.now`).
   * @throws {Error} When it ends without.
   */
  async marked(mark: string): Promise<number> {
    const known = this.#marks.get(mark);
    if (known === undefined) throw new Error(`"${mark}" is no mark of this exec`);
    return await within(LIMIT_MS, `"${mark}" in the output of an exec`, known.promise);
  }

  /** Waits for its end. */
  async ended(): Promise<void> {
    await within(LIMIT_MS, "the end of an exec", this.#closed.promise);
  }

  /**
   * Sends zeros to its input, not faster than they are taken.
   *
   * @param count How many bytes.
   * @throws {Error} When it ends before.
   */
  async send(count: number): Promise<void> {
    const message = new Uint8Array(1 + MESSAGE_BYTES);
    message[0] = STDIN;
    for (let left = count; left > 0; left -= MESSAGE_BYTES) {
      this.#socket.send(message.subarray(0, 1 + Math.min(left, MESSAGE_BYTES)));
      while (this.#socket.bufferedAmount > WAITING_BYTES_MAX) {
        if (this.#socket.readyState !== WebSocket.OPEN) throw new Error("an exec has ended early");
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
  }

  /** Goes away. */
  [Symbol.dispose](): void {
    this.#socket.close();
  }

  #hear(bytes: Uint8Array): void {
    const now = performance.now();
    this.#firstAt ??= now;
    this.#lastAt = now;
    this.#bytes += bytes.length;
    const text = this.#tail + this.#decoder.decode(bytes.subarray(-TAIL_LENGTH));
    for (const [mark, { resolve }] of this.#marks) if (text.includes(mark)) resolve(now);
    this.#tail = text.slice(-TAIL_LENGTH);
  }

  #end(): void {
    this.#closed.resolve();
    for (const [mark, { reject }] of this.#marks) {
      reject(new Error(`an exec ended without "${mark}": its output ends in "${this.#tail}"`));
    }
  }
}
