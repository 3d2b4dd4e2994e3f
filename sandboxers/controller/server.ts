/**
 * The gRPC server of the Sandbox API on a unix socket: bounded in message size and open calls, and
 * able to stop without telling containerd that its sandboxes are gone.
 *
 * @module
 */

import { Server, ServerCredentials } from "@grpc/grpc-js";
import { MESSAGE_BYTES_MAX, serviceDefinition } from "../../proto/grpc.ts";
import { Controller } from "../../proto/gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { claimSocketPath } from "../../task/ttrpc/unix_socket.ts";
import { controllerImplementation, type ControllerOptions } from "../controller.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import { OpenCalls } from "./calls.ts";

/**
 * Most open calls of one connection. containerd has one connection and keeps one Wait open for each
 * sandbox, so this is above the most sandboxes a sandboxer takes.
 */
const CALLS_MAX = 16_384;

/** The grace of a server that goes out of scope, in milliseconds. */
const DISPOSE_GRACE_MS = 500;

/** What a {@link ControllerServer} serves, and where. */
export interface ControllerServerOptions extends ControllerOptions {
  /** Its socket, an absolute path. */
  readonly path: string;
}

/** A listening Sandbox API. */
export class ControllerServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #calls: OpenCalls;
  readonly #path: string;
  #closing: Promise<void> | undefined;

  private constructor(server: Server, calls: OpenCalls, path: string) {
    this.#server = server;
    this.#calls = calls;
    this.#path = path;
  }

  /**
   * Listens. The socket can be used by this user only (mode 0600).
   *
   * @throws SandboxError `AlreadyExists` when somebody else listens there.
   */
  static async listen(options: ControllerServerOptions): Promise<ControllerServer> {
    const { path } = options;
    const calls = new OpenCalls();
    const server = new Server({
      "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
      "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
      "grpc.max_concurrent_streams": CALLS_MAX,
      "grpc.enable_channelz": 0,
    });
    server.addService(serviceDefinition(Controller), controllerImplementation(options, calls));
    await claimSocketPath(path);
    await bind(server, path);
    await Deno.chmod(path, 0o600);
    return new ControllerServer(server, calls, path);
  }

  /** Calls that are being served. */
  get openCalls(): number {
    return this.#calls.size;
  }

  /**
   * Stops listening and lets open calls end; those that do not are told to give up, which undoes
   * them, and are answered with `Unavailable`: on that, and only on that, containerd asks the next
   * process instead of taking its sandboxes for dead.
   *
   * @param graceMs How long calls may take to end by themselves, in milliseconds, and again as long
   *   to give up.
   */
  close(graceMs: number): Promise<void> {
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  async #close(graceMs: number): Promise<void> {
    const ended = new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    await within(ended, graceMs);
    this.#calls.abort(new SandboxError("Unavailable", "cannot finish the call: shutting down"));
    await within(ended, graceMs);
    this.#server.forceShutdown();
    await Deno.remove(this.#path).catch(() => undefined);
  }

  /** {@link close} without much grace. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close(DISPOSE_GRACE_MS);
  }
}

function bind(server: Server, path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.bindAsync(`unix://${path}`, ServerCredentials.createInsecure(), (error) => {
    if (error === null) resolve();
    else reject(SandboxError.from(error, `cannot listen at "${path}"`));
  });
  return promise;
}

/** Waits for a promise that never rejects, but no longer than some milliseconds. */
async function within(promise: Promise<void>, timeoutMs: number): Promise<void> {
  const { promise: timeout, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, timeoutMs);
  await Promise.race([promise, timeout]);
  clearTimeout(timer);
}
