/**
 * The gRPC server of the Sandbox API on a unix socket: bounded in message size and open calls, and
 * able to stop without telling containerd that its sandboxes are gone.
 *
 * @module
 */

import net from "node:net";
import {
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { MESSAGE_BYTES_MAX, serviceDefinition } from "../../proto/grpc.ts";
import { Controller } from "../../proto/gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { claimSocketPath, makePrivate } from "../../task/ttrpc/unix_socket.ts";
import { controllerImplementation, type ControllerOptions } from "../controller.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import { OpenCalls } from "./calls.ts";
import { checkDirectory } from "./socket_access.ts";
import { Http2Connection } from "./http2_connection.ts";

/**
 * Most open calls of one connection. containerd has one connection and keeps one Wait open for each
 * sandbox, so this is above the most sandboxes a sandboxer takes.
 */
const CALLS_MAX = 16_384;

/** Connections that may wait to be accepted. */
const BACKLOG = 4096;

/** How often it is looked whether calls have ended while the server closes, in milliseconds. */
const CLOSE_INTERVAL_MS = 5;

/** How long callers may take to read that they are to go elsewhere, in milliseconds. */
const TOLD_MS = 2_000;

/** How long answers may take to leave once their calls have ended, in milliseconds. */
const FLUSH_MS = 50;

/** The grace of a server that goes out of scope, in milliseconds. */
const DISPOSE_GRACE_MS = 500;

/** A service that is served on the same socket. */
export interface ServedService {
  /** Its methods. */
  readonly definition: ServiceDefinition;
  /**
   * What serves it.
   *
   * @param calls Where calls are kept whose end the server waits for when it closes.
   */
  implementation(calls: OpenCalls): UntypedServiceImplementation;
  /** Ends its other calls: the server is about to go and does not wait for them. */
  endCalls(reason: SandboxError): void;
}

/** What a {@link ControllerServer} serves, and where. */
export interface ControllerServerOptions extends ControllerOptions {
  /** Its socket, an absolute path. */
  readonly path: string;
  /** More services for it; missing for none. */
  readonly services?: readonly ServedService[];
}

/** A listening Sandbox API. */
export class ControllerServer implements AsyncDisposable {
  readonly #listener: net.Server;
  readonly #connections = new Set<Http2Connection>();
  readonly #calls: OpenCalls;
  readonly #services: readonly ServedService[];
  #closing: Promise<void> | undefined;
  #unlistened: Promise<void> | undefined;

  private constructor(server: Server, calls: OpenCalls, services: readonly ServedService[]) {
    this.#calls = calls;
    this.#services = services;
    const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
    this.#listener = net.createServer((socket) => {
      const connection = new Http2Connection(socket);
      this.#connections.add(connection);
      connection.on("close", () => this.#connections.delete(connection));
      connection.on("error", () => undefined); // The calls on it hear of it by their cancellation.
      injector.injectConnection(connection);
    });
  }

  /**
   * Listens. The socket can be used by this user only (mode 0600).
   *
   * @throws SandboxError `AlreadyExists` when somebody else listens there.
   */
  static async listen(options: ControllerServerOptions): Promise<ControllerServer> {
    const { path, services = [], log } = options;
    const calls = new OpenCalls();
    const server = new Server({
      "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
      "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
      "grpc.max_concurrent_streams": CALLS_MAX,
      "grpc.enable_channelz": 0,
    });
    server.addService(serviceDefinition(Controller), controllerImplementation(options, calls));
    for (const each of services) {
      server.addService(each.definition, each.implementation(calls));
    }
    await claimSocketPath(path);
    await checkDirectory(path, log);
    await using resources = new AsyncDisposableStack();
    const controller = new ControllerServer(server, calls, services);
    await listen(controller.#listener, path);
    resources.use(controller);
    await makePrivate(path);
    resources.move();
    return controller;
  }

  /** Calls that are being served. */
  get openCalls(): number {
    return this.#calls.size;
  }

  /**
   * Stops listening and lets open calls end; those that do not are told to give up, which undoes
   * them, and are answered with `Unavailable`: on that, and only on that, containerd asks the next
   * process instead of taking its sandboxes for dead. Calls of other services that only
   * look on end at once.
   *
   * @param graceMs How long calls may take to end by themselves, in milliseconds, and again as long
   *   to give up.
   */
  close(graceMs: number): Promise<void> {
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  /**
   * Stops listening and sends callers elsewhere with all calls that they have not made yet; those that
   * are open go on until {@link close}. Returns when those that were on their way have come, but for
   * callers who do not answer in time.
   *
   * @param takePlace Has somebody else listen at the socket; says whether somebody does.
   */
  async handOver(takePlace: () => Promise<boolean>): Promise<void> {
    void this.#unlisten();
    if (!await takePlace()) return;
    const told = Promise.all([...this.#connections].map((each) => each.sendElsewhere()));
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, TOLD_MS);
    await Promise.race([told, late]);
    clearTimeout(timer);
  }

  /** Makes open calls give up, which undoes them; they are answered with `Unavailable`. */
  abort(): void {
    this.#calls.abort(new SandboxError("Unavailable", "cannot finish the call: shutting down"));
  }

  /** Closing removes the socket file at once, before another server can have put its own there. */
  #unlisten(): Promise<void> {
    this.#unlistened ??= new Promise<void>((resolve) => this.#listener.close(() => resolve()));
    return this.#unlistened;
  }

  async #close(graceMs: number): Promise<void> {
    const unlistened = this.#unlisten();
    const leaving = new SandboxError("Unavailable", "cannot go on: the sandboxer is shutting down");
    for (const service of this.#services) service.endCalls(leaving);
    await this.#callsEnded(graceMs);
    this.abort();
    await this.#callsEnded(graceMs);
    if (this.#connections.size > 0) await sleep(FLUSH_MS);
    for (const connection of this.#connections) connection.endSocket();
    // Peers that do not read hold their connection open.
    const timer = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, FLUSH_MS);
    await unlistened;
    clearTimeout(timer);
  }

  /** Resolves when no call is open, or after some milliseconds. */
  async #callsEnded(timeoutMs: number): Promise<void> {
    const end = performance.now() + timeoutMs;
    while (this.#calls.size > 0 && performance.now() < end) await sleep(CLOSE_INTERVAL_MS);
  }

  /** {@link close} without much grace. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close(DISPOSE_GRACE_MS);
  }
}

function listen(listener: net.Server, path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  listener.once("error", (error) => reject(SandboxError.from(error, `cannot listen at "${path}"`)));
  listener.listen({ path, backlog: BACKLOG }, resolve);
  return promise;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
