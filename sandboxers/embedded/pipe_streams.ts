/**
 * Web streams over the descriptors of a pipe. The event loop watches the descriptor, so no thread
 * waits for it; reading goes on only as fast as the stream is read, writing as fast as the pipe
 * takes it.
 *
 * @module
 */

import { Socket } from "node:net";
import { SandboxError } from "../lifecycle/errors.ts";

/** A stream with its descriptor, which is closed at the stream's end or by disposal. */
export interface PipeReader extends Disposable {
  /** What comes out of the pipe, up to its end. */
  readonly stream: ReadableStream<Uint8Array<ArrayBuffer>>;
}

/** A stream with its descriptor, which is closed with the stream or by disposal. */
export interface PipeWriter extends Disposable {
  /** What goes into the pipe. */
  readonly stream: WritableStream<Uint8Array>;
}

/**
 * Reads from a pipe.
 *
 * @param fd The read end; owned from now on.
 * @param what What is read, for messages, such as `stdout of container "a"`.
 */
export function readPipe(fd: number, what: string): PipeReader {
  const socket = new Socket({ fd, readable: true, writable: false });
  let failure: unknown;
  socket.on("error", (error) => {
    failure = error;
  });
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      const chunk = await nextChunk(socket);
      if (chunk !== undefined) controller.enqueue(chunk);
      else if (socket.readableEnded) controller.close();
      else controller.error(brokenPipe(`cannot read ${what}`, failure));
    },
    cancel() {
      socket.destroy();
    },
  }, { highWaterMark: 0 });
  return { stream, [Symbol.dispose]: () => void socket.destroy() };
}

/** The next bytes; undefined at the end, or when the socket was destroyed. */
async function nextChunk(socket: Socket): Promise<Uint8Array<ArrayBuffer> | undefined> {
  while (!socket.readableEnded && !socket.destroyed) {
    const chunk: unknown = socket.read();
    // A copy: the buffer may be part of a larger one that is used again.
    if (chunk instanceof Uint8Array) return new Uint8Array(chunk);
    await somethingHappened(socket);
  }
  return undefined;
}

const READ_EVENTS = ["readable", "end", "close"] as const;

function somethingHappened(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const wake = (): void => {
    for (const event of READ_EVENTS) socket.off(event, wake);
    resolve();
  };
  for (const event of READ_EVENTS) socket.on(event, wake);
  return promise;
}

/**
 * Writes to a pipe.
 *
 * @param fd The write end; owned from now on.
 * @param what What is written, for messages, such as `stdin of container "a"`.
 */
export function writePipe(fd: number, what: string): PipeWriter {
  const socket = new Socket({ fd, readable: false, writable: true });
  let failure: unknown;
  const fail = (error: unknown): SandboxError =>
    brokenPipe(`cannot write ${what}`, failure ?? error);
  const stream = new WritableStream<Uint8Array>({
    start(controller) {
      socket.on("error", (error) => {
        failure = error;
      });
      // Too late to matter where the stream itself was closed.
      socket.on("close", () => controller.error(fail(undefined)));
      // The stream would call abort() only after the write under way, which may wait for ever.
      controller.signal.addEventListener("abort", () => void socket.destroy(), { once: true });
    },
    write(chunk) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      socket.write(chunk, (error) => error ? reject(fail(error)) : resolve());
      return promise;
    },
    close() {
      const { promise, resolve } = Promise.withResolvers<void>();
      if (socket.destroyed) return;
      socket.once("close", () => resolve());
      socket.end();
      return promise;
    },
  });
  return { stream, [Symbol.dispose]: () => void socket.destroy() };
}

function brokenPipe(action: string, cause: unknown): SandboxError {
  const reason = isBroken(cause) ? "nobody reads it any more" : "it was closed";
  return new SandboxError("FailedPrecondition", `${action}: ${reason}`, { cause });
}

function isBroken(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EPIPE";
}
