/**
 * A peer that speaks ttrpc by hand, so that tests can break its rules.
 *
 * @module
 */

import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import * as net from "node:net";
import { RequestSchema, type Response, ResponseSchema } from "../../proto/gen/ttrpc/request_pb.ts";
import { encodeFrame, FrameReader, MESSAGE_TYPE } from "../ttrpc/frames.ts";

/** An answer with the stream it came on. */
export interface RawAnswer {
  /** The stream it came on. */
  readonly streamId: number;
  /** Status number; 0 for a good answer. */
  readonly code: number;
  /** Status message. */
  readonly message: string;
  /** The whole answer. */
  readonly response: Response;
}

/** A connection. */
export class RawPeer implements Disposable {
  /** To write to and to pause. */
  readonly socket: net.Socket;
  /** Resolves when the other side has closed the connection. */
  readonly closed: Promise<void>;
  readonly #answers: RawAnswer[] = [];
  #waiting: (() => void) | undefined;
  #ended = false;

  private constructor(socket: net.Socket) {
    this.socket = socket;
    const reader = new FrameReader({
      frame: ({ streamId, data }) => {
        const response = fromBinary(ResponseSchema, data);
        const { code = 0, message = "" } = response.status ?? {};
        this.#answers.push({ streamId, code, message, response });
        this.#waiting?.();
      },
      oversized: () => undefined,
    });
    socket.on("data", (chunk: Uint8Array) => reader.push(chunk));
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#ended = true;
      resolve();
      this.#waiting?.();
    });
  }

  /** Connects. */
  static async connect(path: string): Promise<RawPeer> {
    const socket = net.connect({ path });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", () => resolve());
      socket.once("error", reject);
    });
    return new RawPeer(socket);
  }

  /** Sends bytes as they are. */
  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** Sends a frame. */
  frame(streamId: number, type: number, flags: number, data: Uint8Array): void {
    this.send(encodeFrame({ streamId, type, flags }, data));
  }

  /** Sends a request. */
  request(streamId: number, request: MessageInitShape<typeof RequestSchema>, flags = 0): void {
    const data = toBinary(RequestSchema, create(RequestSchema, request));
    this.frame(streamId, MESSAGE_TYPE.request, flags, data);
  }

  /** The next answer. */
  async answer(): Promise<RawAnswer> {
    for (;;) {
      const answer = this.#answers.shift();
      if (answer !== undefined) return answer;
      if (this.#ended) throw new Error("the connection was closed without an answer");
      await new Promise<void>((resolve) => this.#waiting = resolve);
    }
  }

  /** Closes the connection. */
  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}
