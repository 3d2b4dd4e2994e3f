/**
 * The client's side of a streaming exec, over a WebSocket: each message begins with a byte that says
 * which stream it belongs to. containerd speaks version 4, in which a client ends standard input only
 * by going away.
 *
 * Source: Kubernetes, pkg/util/remotecommand and apimachinery/pkg/util/httpstream/wsstream.
 *
 * @module
 */

import { waitFor } from "./wait.ts";

/** What a command in a container did. */
export interface ExecResult {
  /** Exit status. */
  readonly exitCode: number;
  /** What it wrote to standard output. */
  readonly stdout: string;
  /** What it wrote to standard error. */
  readonly stderr: string;
}

const PROTOCOL = "v4.channel.k8s.io";
const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const ERROR = 3;
const RESIZE = 4;

/** The end of a command as the server tells it, a Kubernetes Status. */
interface Status {
  readonly status?: string;
  readonly message?: string;
  readonly details?: { readonly causes?: { readonly reason: string; readonly message: string }[] };
}

/** A running command. Disposing of it goes away. */
export class ExecStream implements Disposable {
  readonly #socket: WebSocket;
  readonly #texts = new Map([STDOUT, STDERR, ERROR].map((stream) => [stream, ""]));
  readonly #closed = Promise.withResolvers<void>();

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    const decoder = new TextDecoder();
    socket.onclose = () => this.#closed.resolve();
    socket.onmessage = ({ data }) => {
      if (!(data instanceof ArrayBuffer)) return;
      const bytes = new Uint8Array(data);
      const stream = bytes[0] ?? -1;
      const before = this.#texts.get(stream);
      if (before !== undefined) this.#texts.set(stream, before + decoder.decode(bytes.subarray(1)));
    };
  }

  /**
   * Attaches to an exec that was prepared.
   *
   * @param url Where the server waits for its client.
   * @throws {Error} When the server does not take the client.
   */
  static async attach(url: string): Promise<ExecStream> {
    const socket = new WebSocket(url.replace(/^http/, "ws"), [PROTOCOL]);
    socket.binaryType = "arraybuffer";
    const stream = new ExecStream(socket);
    await new Promise<void>((resolve, reject) => {
      socket.onopen = () => resolve();
      stream.#closed.promise.then(() => reject(new Error(`Cannot attach to the exec at ${url}`)));
    });
    return stream;
  }

  /** What it wrote to standard output so far. */
  get stdout(): string {
    return this.#texts.get(STDOUT) ?? "";
  }

  /**
   * Sends text to its standard input.
   *
   * @param text ASCII, or whole characters.
   */
  send(text: string): void {
    this.#socket.send(new Uint8Array([STDIN, ...new TextEncoder().encode(text)]));
  }

  /**
   * Sets the size of its terminal.
   *
   * @param columns In characters.
   * @param rows In characters.
   */
  resize(columns: number, rows: number): void {
    const text = JSON.stringify({ Width: columns, Height: rows });
    this.#socket.send(new Uint8Array([RESIZE, ...new TextEncoder().encode(text)]));
  }

  /**
   * Waits until what it has written to standard output fits.
   *
   * @param pattern What it is to match.
   * @returns The match.
   */
  async matched(pattern: RegExp): Promise<RegExpExecArray> {
    return await waitFor(
      `${pattern} in the output of an exec`,
      () => Promise.resolve(pattern.exec(this.stdout) ?? undefined),
    );
  }

  /**
   * Waits until it has written something.
   *
   * @param text All that it has written to standard output by then.
   */
  async printed(text: string): Promise<void> {
    await waitFor("the output of an exec", () => Promise.resolve(this.stdout === text));
  }

  /**
   * Waits for its end.
   *
   * @throws {Error} When it could not be run.
   */
  async ended(): Promise<ExecResult> {
    await this.#closed.promise;
    const status: Status = JSON.parse(this.#texts.get(ERROR) || "{}");
    const stderr = this.#texts.get(STDERR) ?? "";
    return { exitCode: exitCode(status), stdout: this.stdout, stderr };
  }

  /** Goes away; its standard input ends by that. */
  async close(): Promise<void> {
    this.#socket.close();
    await this.#closed.promise;
  }

  /** Goes away without waiting. */
  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

function exitCode({ status, message, details }: Status): number {
  if (status === "Success") return 0;
  const cause = details?.causes?.find(({ reason }) => reason === "ExitCode");
  if (cause !== undefined) return Number(cause.message);
  throw new Error(`The exec failed: ${message ?? "the server said nothing of its end"}`);
}
