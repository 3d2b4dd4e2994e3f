/**
 * Answers `GET /metrics`. One thing at a time: who scrapes while another scrape is being put together
 * gets that one.
 *
 * @module
 */

import { claimSocketPath, makePrivate } from "../../task/ttrpc/unix_socket.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { Log } from "../log.ts";
import { type MetricsAddress, metricsAddressText } from "./address.ts";

/** The type of Prometheus' text format. */
const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** How long open requests may take when the server closes, in milliseconds. */
const CLOSE_MS = 500;

/** What a {@link MetricsServer} serves, and where. */
export interface MetricsServerOptions {
  /** Where it listens. */
  readonly address: MetricsAddress;
  /** Puts the text together. */
  readonly collect: () => Promise<string>;
  /** Where notes go. */
  readonly log: Log;
}

/** A server of metrics. */
export class MetricsServer implements AsyncDisposable {
  readonly #options: MetricsServerOptions;
  readonly #server: Deno.HttpServer;
  readonly #closing = new AbortController();
  #collecting: Promise<string> | undefined;

  private constructor(options: MetricsServerOptions) {
    this.#options = options;
    const { address } = options;
    const common = {
      signal: this.#closing.signal,
      onListen: () => undefined,
      onError: (error: unknown) => this.#failed(error),
    };
    const handler = (request: Request) => this.#answer(request);
    this.#server = address.kind === "unix"
      ? Deno.serve({ ...common, transport: "unix", path: address.path }, handler)
      : Deno.serve({ ...common, hostname: address.hostname, port: address.port }, handler);
  }

  /**
   * Listens. A unix socket can be used by this user only (mode 0600).
   *
   * @throws {SandboxError} `AlreadyExists` when somebody else listens there, `FailedPrecondition` when
   *   the permissions of this process do not let it.
   */
  static async listen(options: MetricsServerOptions): Promise<MetricsServer> {
    const { address } = options;
    const action = `cannot serve metrics at "${metricsAddressText(address)}"`;
    try {
      if (address.kind === "unix") await claimSocketPath(address.path);
      await using resources = new AsyncDisposableStack();
      const server = resources.use(new MetricsServer(options));
      if (address.kind === "unix") await makePrivate(address.path);
      resources.move();
      return server;
    } catch (error) {
      throw listenError(action, address, error);
    }
  }

  async #answer(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname !== "/metrics") return plain(404, "not found: metrics are at /metrics");
    if (request.method !== "GET" && request.method !== "HEAD") {
      return plain(405, "method not allowed: expected GET");
    }
    this.#collecting ??= this.#options.collect().finally(() => this.#collecting = undefined);
    return new Response(await this.#collecting, { headers: { "content-type": CONTENT_TYPE } });
  }

  #failed(error: unknown): Response {
    this.#options.log.error("cannot put metrics together", { error });
    return plain(500, "cannot put metrics together: see the log");
  }

  /** Stops; requests that are open have a moment to end. */
  async [Symbol.asyncDispose](): Promise<void> {
    const timer = setTimeout(() => this.#closing.abort(), CLOSE_MS);
    await this.#server.shutdown();
    clearTimeout(timer);
    const { address } = this.#options;
    if (address.kind === "unix") await Deno.remove(address.path).catch(() => undefined);
  }
}

function plain(status: number, text: string): Response {
  return new Response(`${text}\n`, { status, headers: { "content-type": "text/plain" } });
}

/** What listening failed with, in words that say what to do. */
function listenError(action: string, address: MetricsAddress, error: unknown): SandboxError {
  if (error instanceof Deno.errors.AddrInUse) {
    return new SandboxError("AlreadyExists", `${action}: somebody else listens there`, {
      cause: error,
    });
  }
  if (error instanceof Deno.errors.NotCapable) {
    const resource = address.kind === "unix" ? `unix:${address.path}` : metricsAddressText(address);
    return new SandboxError(
      "FailedPrecondition",
      `${action}: the permissions of this process do not include it: add --allow-net=${resource}`,
      { cause: error },
    );
  }
  return SandboxError.from(error, action);
}
