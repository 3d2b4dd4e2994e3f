/**
 * The sandboxer's side of the protocol: calls with answers, within bounded time, over one connection
 * to a pod process.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { System } from "../native/system.ts";
import { Channel } from "./channel.ts";
import { encodeHello, PROTOCOL_VERSION, SOCKET_FILE } from "./hello.ts";
import {
  type Answers,
  fromWire,
  parseAnswer,
  parseMessage,
  type PodMessage,
  type Request,
  type SandboxerMessage,
} from "./protocol.ts";
import type { UnixSockets } from "./sockets.ts";

/** How long a pod process may take to say what it has, once connected. */
const STATE_TIMEOUT_MS = 10_000;
/** How long a call may take beyond what it asks for itself. */
export const CALL_TIMEOUT_MS = 30_000;
/** Most calls under way; the lifecycle asks for far fewer. */
const CALLS_MAX = 4_096;

/** What a pod process has, as it says when one connects. */
export type PodState = Extract<PodMessage, { kind: "state" }>;
/** What it tells by itself. */
export type PodNews = Exclude<PodMessage, { kind: "state" | "answer" | "refusal" }>;

/** Hears what a pod process tells by itself, and on which connection. It must not throw. */
export type NewsListener = (news: PodNews, from: PodConnection) => void;

/** What a {@link PodConnection} works with. */
export interface ConnectionCalls {
  /** Connects, and hands descriptors over. */
  readonly sockets: UnixSockets;
  /** Closes descriptors. */
  readonly system: System;
}

interface PendingCall {
  readonly call: Request["call"];
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: SandboxError) => void;
}

/** A connection to one pod process. */
export class PodConnection {
  readonly #calls: ConnectionCalls;
  readonly #directory: string;
  readonly #listener: NewsListener;
  readonly #channel: Channel;
  readonly #pending = new Map<number, PendingCall>();
  readonly #state = Promise.withResolvers<PodState>();
  readonly #closed = Promise.withResolvers<string>();
  #lastId = 0;
  #lastTicket = 0;

  private constructor(calls: ConnectionCalls, directory: string, listener: NewsListener) {
    this.#calls = calls;
    this.#directory = directory;
    this.#listener = listener;
    this.#state.promise.catch(() => undefined);
    const fd = calls.sockets.connect(directory, SOCKET_FILE);
    try {
      const hello = { version: PROTOCOL_VERSION, kind: "control", ticket: 0 } as const;
      calls.sockets.send(fd, encodeHello(hello), []);
    } catch (error) {
      calls.system.close(fd);
      throw error;
    }
    this.#channel = new Channel(fd, {
      onValue: (value) => this.#onValue(value),
      onClose: (reason) => this.#onClose(reason),
    });
  }

  /**
   * Connects.
   *
   * @param calls See {@link ConnectionCalls}.
   * @param directory The pod's.
   * @param listener Hears of it from now on.
   * @returns The connection, and what the pod process has.
   * @throws {SandboxError} `Unavailable` when nobody is there; `DeadlineExceeded` when it says
   *   nothing; `FailedPrecondition` when it does not speak this version.
   */
  static async open(
    calls: ConnectionCalls,
    directory: string,
    listener: NewsListener,
  ): Promise<{ readonly connection: PodConnection; readonly state: PodState }> {
    const connection = new PodConnection(calls, directory, listener);
    const timer = setTimeout(
      () => connection.close(`it said nothing for ${STATE_TIMEOUT_MS} ms`),
      STATE_TIMEOUT_MS,
    );
    try {
      return { connection, state: await connection.#state.promise };
    } finally {
      clearTimeout(timer);
    }
  }

  /** Resolves with the reason when the connection is over. */
  get closed(): Promise<string> {
    return this.#closed.promise;
  }

  /** Ends the connection. The pod goes on. */
  close(reason: string): void {
    this.#channel.close(reason);
  }

  /**
   * Makes a call.
   *
   * @param request What to do.
   * @param options `signal`: tells the pod process that the caller has given up; it answers all the
   *   same. `timeoutMs`: how long to wait for the answer (default 30 s).
   * @throws {SandboxError} What the pod process refused with; `Unavailable` when the connection
   *   ended; `DeadlineExceeded`.
   */
  async call<R extends Request>(
    request: R,
    options: { readonly signal?: AbortSignal; readonly timeoutMs?: number } = {},
  ): Promise<Answers[R["call"]]> {
    const { signal, timeoutMs = CALL_TIMEOUT_MS } = options;
    if (!this.#channel.open) throw this.#unavailable(request.call, "it is not connected");
    if (this.#pending.size >= CALLS_MAX) {
      throw new SandboxError("ResourceExhausted", `${CALLS_MAX} calls to a pod are under way`);
    }
    const id = ++this.#lastId;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { call: request.call, resolve, reject });
    const cancel = (): void => this.#send({ kind: "cancel", id });
    const timer = setTimeout(
      () => reject(new SandboxError("DeadlineExceeded", late(request.call, timeoutMs))),
      timeoutMs,
    );
    try {
      this.#send({ kind: "call", id, request });
      signal?.addEventListener("abort", cancel, { once: true });
      if (signal?.aborted === true) cancel();
      return parseAnswer<R["call"]>(request.call, await promise);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", cancel);
      this.#pending.delete(id);
    }
  }

  /**
   * Hands descriptors over.
   *
   * @param descriptors They stay the caller's.
   * @returns What names them in a call; 0 where there are none.
   */
  pass(descriptors: readonly number[]): number {
    if (descriptors.length === 0) return 0;
    const { sockets, system } = this.#calls;
    const ticket = ++this.#lastTicket;
    const fd = sockets.connect(this.#directory, SOCKET_FILE);
    try {
      const hello = { version: PROTOCOL_VERSION, kind: "descriptors", ticket } as const;
      sockets.send(fd, encodeHello(hello), descriptors);
    } finally {
      system.close(fd);
    }
    return ticket;
  }

  /** Answers a `find` of the pod process. */
  found(id: number, ticket: number): void {
    this.#send({ kind: "found", id, ticket });
  }

  #send(message: SandboxerMessage): void {
    this.#channel.send(message);
  }

  #onValue(value: unknown): void {
    let message: PodMessage;
    try {
      message = parseMessage(value);
    } catch (error) {
      this.close(SandboxError.from(error).message);
      return;
    }
    switch (message.kind) {
      case "state":
        return this.#state.resolve(message);
      case "answer":
        return this.#pending.get(message.id)?.resolve(message.value);
      case "refusal":
        return this.#pending.get(message.id)?.reject(fromWire(message.error));
      default:
        return this.#listener(message, this);
    }
  }

  #onClose(reason: string): void {
    this.#state.reject(this.#unavailable("connect", reason));
    for (const { call, reject } of this.#pending.values()) reject(this.#unavailable(call, reason));
    this.#closed.resolve(reason);
  }

  #unavailable(call: string, reason: string): SandboxError {
    return new SandboxError(
      "Unavailable",
      `cannot ${call}: no answer of the pod process: ${reason}`,
    );
  }
}

function late(call: string, timeoutMs: number): string {
  return `cannot ${call}: no answer of the pod process after ${timeoutMs} ms`;
}
