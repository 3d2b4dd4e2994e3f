/**
 * A ttrpc server on a unix socket: unary calls, as containerd makes them to a task service. It knows
 * frames, services and deadlines, not containers.
 *
 * Source: containerd/ttrpc PROTOCOL.md (version 1.2 without streaming).
 *
 * @module
 */

import * as net from "node:net";
import type { LifecycleLog } from "../../sandboxers/lifecycle/core.ts";
import { RESTARTING, SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { Connection, type ConnectionLimits } from "./connection.ts";
import {
  type Around,
  type ServiceDescription,
  type ServiceHandlers,
  ServiceTable,
} from "./services.ts";
import { claimSocketPath, makePrivate } from "./unix_socket.ts";

/** What a server and each of its connections may use. */
export interface ServerLimits extends ConnectionLimits {
  /** Open connections; one more is closed at once. containerd opens one for each container. */
  readonly connections: number;
}

const DEFAULT_LIMITS: ServerLimits = {
  connections: 16_384,
  calls: 1_024,
  queuedBytes: 8 << 20,
  stallMs: 30_000,
};

/**
 * Connections that wait to be accepted. A connect beyond that fails at once (EAGAIN), and containerd
 * opens one for each container when it starts again. The kernel cuts it to net.core.somaxconn.
 */
const BACKLOG = 4_096;

/** How long the last answers may take to reach their callers when the server stops. */
const FLUSH_MS = 1_000;

/** How a {@link TtrpcServer} is made. */
export interface TtrpcServerOptions {
  /** Limits that differ from the defaults. */
  readonly limits?: Partial<ServerLimits>;
  /** Where warnings go. */
  readonly log?: LifecycleLog;
}

/** A ttrpc server. */
export class TtrpcServer implements AsyncDisposable {
  readonly #limits: ServerLimits;
  readonly #log: LifecycleLog;
  readonly #services = new ServiceTable();
  readonly #connections = new Set<Connection>();
  #listener: net.Server | undefined;
  #closing: Promise<void> | undefined;

  /**
   * Makes a server that does not listen yet.
   *
   * @param options Limits that differ from the defaults, and where warnings go.
   */
  constructor(options: TtrpcServerOptions = {}) {
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#log = options.log ?? { warn: () => undefined };
  }

  /** Open connections. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Calls that wait for their answer, on all connections. */
  get openCalls(): number {
    let calls = 0;
    for (const connection of this.#connections) calls += connection.openCalls;
    return calls;
  }

  /**
   * Adds a service; before or after {@link listen}.
   *
   * @param service Its generated description.
   * @param handlers One handler per method.
   * @param around Stands around each of them; missing for nobody.
   * @returns The server.
   * @throws SandboxError `AlreadyExists` when it is served already.
   */
  add<S extends ServiceDescription>(
    service: S,
    handlers: ServiceHandlers<S>,
    around?: Around,
  ): this {
    this.#services.add(service, handlers, around);
    return this;
  }

  /**
   * Listens. A directory that is missing is made with mode 0700; the socket gets 0600; the file that
   * a dead server left is removed.
   *
   * @param path Absolute path of the socket.
   * @throws SandboxError `AlreadyExists` when another process answers there, `FailedPrecondition`
   *   when the server listens or has been closed already.
   */
  async listen(path: string): Promise<void> {
    if (this.#listener !== undefined || this.#closing !== undefined) {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot listen at "${path}": the server has been started already`,
      );
    }
    const listener = net.createServer((socket) => this.#accept(socket));
    this.#listener = listener;
    try {
      await claimSocketPath(path);
      await listenAt(listener, path);
      listener.on("error", (error: Error) => {
        this.#log.warn("ttrpc server cannot accept connections", { error });
      });
      await makePrivate(path);
    } catch (error) {
      this.#listener = undefined;
      listener.close();
      throw SandboxError.from(error, `cannot listen at "${path}"`);
    }
  }

  /**
   * Stops: takes no more connections and requests, gives open calls some time, answers the rest
   * with `Unavailable` and closes every connection. Further calls wait for the first one.
   *
   * @param graceMs How long open calls may take to end by themselves, in milliseconds.
   */
  close(graceMs = 0): Promise<void> {
    this.#closing ??= this.#stop(graceMs);
    return this.#closing;
  }

  /** {@link close} without grace. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #accept(socket: net.Socket): void {
    if (this.#connections.size >= this.#limits.connections || this.#closing !== undefined) {
      socket.on("error", () => undefined);
      socket.destroy();
      this.#log.warn("ttrpc connection refused", { connections: this.#connections.size });
      return;
    }
    const connection = new Connection(socket, {
      services: this.#services,
      limits: this.#limits,
      log: this.#log,
      onClosed: (closed) => void this.#connections.delete(closed),
    });
    this.#connections.add(connection);
  }

  async #stop(graceMs: number): Promise<void> {
    const reason = new SandboxError(
      "Unavailable",
      "cannot finish the call: the server is stopping",
    );
    // What was not begun can be asked of the next process.
    const refusal = new SandboxError(
      "Unavailable",
      `cannot take the call: the server ${RESTARTING}`,
    );
    const listener = this.#listener;
    // Closing removes the socket file at once, before the next server can have put its own there.
    const closed = listener === undefined
      ? Promise.resolve()
      : new Promise<void>((resolve) => void listener.close(() => resolve()));
    for (const connection of this.#connections) connection.refuse(refusal);
    const idle = [...this.#connections].map((connection) => connection.idle());
    await within(Promise.all(idle), graceMs);
    for (const connection of this.#connections) connection.end(reason);
    await within(closed, FLUSH_MS);
    for (const connection of [...this.#connections]) connection.destroy();
    await closed;
  }
}

function listenAt(listener: net.Server, path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  listener.once("error", reject);
  listener.listen({ path, backlog: BACKLOG }, () => {
    listener.off("error", reject);
    resolve();
  });
  return promise;
}

/** Waits for a promise that never rejects, but no longer than some milliseconds. */
async function within(promise: Promise<unknown>, timeoutMs: number): Promise<void> {
  const { promise: timeout, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, timeoutMs);
  await Promise.race([promise, timeout]);
  clearTimeout(timer);
}
