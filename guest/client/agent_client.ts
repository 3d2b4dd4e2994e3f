/**
 * The host's client of a guest agent: finds its socket, asks it things, opens streams, watches
 * whether it is alive, and connects again when the connection drops while the machine lives.
 *
 * @module
 */

import { abortError, SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { HostPeer, type HostPeerEnd } from "../protocol/host_peer.ts";
import {
  type AgentEvent,
  type Hello,
  PROTOCOL_VERSION,
  type RequestName,
  type Requests,
} from "../protocol/messages.ts";
import type { InboundStream, OutboundStream } from "../protocol/peer.ts";
import { RateLimit } from "../protocol/rate_limit.ts";
import {
  type AgentClientOptions,
  type ClientLog,
  DEFAULT_HEARTBEAT,
  DEFAULT_RECONNECT_MS,
  DEFAULT_REQUEST_TIMEOUT_MS,
  type Heartbeat,
} from "./options.ts";
import { pause } from "./pause.ts";
import { type SocketConn, SocketTransport } from "./socket_transport.ts";

/** Pauses between attempts to connect, in milliseconds: a clone answers within some 70 ms. */
const FIRST_PAUSE_MS = 3;
const PAUSE_MAX_MS = 50;
/** Reconnections in a row, and how many per second for long. */
const RECONNECTS_MAX = 20;
const RECONNECTS_PER_SECOND = 1;
/** How long it may take to tell the guest what was consumed. */
const FLUSH_MS = 200;

/** Options of one request. */
export interface RequestOptions {
  /** Stops waiting; the agent goes on with what it does. */
  readonly signal?: AbortSignal;
  /** How long the answer may take, in milliseconds; default two minutes. */
  readonly timeoutMs?: number;
}

/** See the module. */
export class AgentClient implements Disposable {
  readonly #options: AgentClientOptions;
  readonly #log: ClientLog;
  readonly #heartbeat: Heartbeat;
  readonly #peer: HostPeer;
  readonly #closed = Promise.withResolvers<SandboxError>();
  readonly #ready = Promise.withResolvers<void>();
  /** Aborted when all is over. */
  readonly #life = new AbortController();
  readonly #reconnects: RateLimit;
  readonly #waiting = new Set<(error: SandboxError) => void>();
  #error: SandboxError | undefined;
  #transport: SocketTransport | undefined;
  #hello: Hello | undefined;
  #connecting = false;
  #ticker: ReturnType<typeof setInterval> | undefined;
  /** Looks at the clock since the agent was last heard. */
  #silentTicks = 0;
  #lastStream = 0;
  #lastFailure = "it did not answer";

  private constructor(options: AgentClientOptions) {
    this.#options = options;
    this.#log = options.log ?? { debug: () => undefined, warn: () => undefined };
    this.#heartbeat = options.heartbeat ?? DEFAULT_HEARTBEAT;
    const now = () => performance.now();
    this.#reconnects = new RateLimit(RECONNECTS_MAX, RECONNECTS_PER_SECOND, now());
    this.#peer = new HostPeer({
      random: (bytes) => crypto.getRandomValues(new Uint8Array(bytes)),
      timer: startTimer,
      now,
      event: (event) => this.#onEvent(event),
      connected: () => this.#onConnected(),
      disconnected: (reason) => this.#onDisconnected(reason),
      over: (end) => this.#end(errorOf(end)),
      log: (message) => this.#log.debug(message),
    });
  }

  /**
   * Connects to an agent, which may still be about to come up.
   *
   * @param options Where, and who is told of what.
   * @throws {SandboxError} `DeadlineExceeded` where it is not ready in time; `Cancelled`;
   *   `FailedPrecondition` where it speaks another version; `Internal` where it breaks the protocol.
   */
  static async connect(options: AgentClientOptions): Promise<AgentClient> {
    const client = new AgentClient(options);
    const { signal, timeoutMs, path } = options;
    const action = `cannot reach the agent at "${path}"`;
    const timer = setTimeout(() => {
      const seconds = timeoutMs / 1000;
      const message = `${action}: not ready within ${seconds} s: ${client.#lastFailure}`;
      client.#end(new SandboxError("DeadlineExceeded", message));
    }, timeoutMs);
    const onAbort = () => {
      if (signal !== undefined) client.#end(abortError(signal, action));
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      if (signal?.aborted === true) onAbort();
      void client.#open(options.adopt ?? false, undefined);
      const error = await Promise.race([client.#ready.promise, client.#closed.promise]);
      if (error instanceof SandboxError) throw error;
      client.#watch();
      return client;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Who the agent is. */
  get hello(): Hello {
    if (this.#hello === undefined) throw new SandboxError("Internal", "agent is not known yet");
    return this.#hello;
  }

  /** Settles when the agent cannot be talked to any more, with the reason; never rejects. */
  get closed(): Promise<SandboxError> {
    return this.#closed.promise;
  }

  /** Whether a connection is open at this moment. */
  get connected(): boolean {
    return this.#peer.connected;
  }

  /** Connects, and keeps trying until all is over or `giveUpMs` have passed. */
  async #open(cut: boolean, giveUpMs: number | undefined): Promise<void> {
    if (this.#connecting) return;
    this.#connecting = true;
    const { path, connect = connectUnix } = this.#options;
    const end = giveUpMs === undefined ? Infinity : performance.now() + giveUpMs;
    let pauseMs = FIRST_PAUSE_MS;
    while (!this.#life.signal.aborted) {
      try {
        const conn = await connect(path);
        this.#connecting = false;
        this.#attach(conn, cut);
        return;
      } catch (error) {
        this.#lastFailure = error instanceof Error ? error.message : String(error);
        if (performance.now() > end) {
          this.#end(lostConnection(this.#lastFailure));
          break;
        }
      }
      await pause(pauseMs, this.#life.signal);
      pauseMs = Math.min(pauseMs * 1.5, PAUSE_MAX_MS);
    }
    this.#connecting = false;
  }

  #attach(conn: SocketConn, cut: boolean): void {
    if (this.#life.signal.aborted) {
      conn.close();
      return;
    }
    this.#lastFailure = "it did not answer";
    const transport = new SocketTransport(conn);
    this.#transport = transport;
    transport.start(this.#peer.attach(transport, cut));
  }

  #onConnected(): void {
    this.#silentTicks = 0;
    this.#log.debug("agent connected");
  }

  #onDisconnected(reason: string): void {
    this.#lastFailure = reason;
    if (this.#life.signal.aborted) return;
    if (!this.#reconnects.take(performance.now())) {
      this.#end(lostConnection(`it breaks again and again: ${reason}`));
      return;
    }
    const ready = this.#hello !== undefined;
    if (ready) this.#log.warn("connection to the agent was lost: connecting again", { reason });
    const giveUpMs = this.#options.reconnectMs ?? DEFAULT_RECONNECT_MS;
    // A VMM that is still starting may close the first ones.
    void pause(FIRST_PAUSE_MS, this.#life.signal)
      .then(() => this.#open(true, ready ? giveUpMs : undefined));
  }

  #onEvent(event: AgentEvent): void {
    if (event.kind === "ready") {
      this.#hello = event.hello;
      this.#ready.resolve();
    }
    this.#options.onEvent?.(event);
  }

  /** Watches the agent, from when it is ready on. */
  #watch(): void {
    if (this.#life.signal.aborted || this.#ticker !== undefined) return;
    this.#silentTicks = 0;
    this.#ticker = setInterval(() => this.#tick(), this.#heartbeat.everyMs);
  }

  #tick(): void {
    const { everyMs, answerMs } = this.#heartbeat;
    // Ticks and not time: a host that stood still itself has not waited for anything.
    if (this.#silentTicks * everyMs >= answerMs) {
      const message = `agent does not answer: silent for more than ${answerMs / 1000} s`;
      this.#end(new SandboxError("Unavailable", message));
      return;
    }
    this.#silentTicks++;
    this.#peer.ping(() => this.#silentTicks = 0);
  }

  /**
   * Stops watching, for a machine that is made to stand still; or begins again.
   *
   * @param on Whether to watch.
   */
  watch(on: boolean): void {
    if (on) {
      this.#watch();
      return;
    }
    clearInterval(this.#ticker);
    this.#ticker = undefined;
  }

  /**
   * Asks the agent, and waits for the answer.
   *
   * @param op What.
   * @param args Its arguments.
   * @throws {SandboxError} What the agent answers with; `Unavailable` where it does not answer in
   *   time or cannot be talked to any more; `Cancelled`; `ResourceExhausted` where too many wait.
   */
  request<K extends RequestName>(
    op: K,
    args: Requests[K]["args"],
    { signal, timeoutMs = DEFAULT_REQUEST_TIMEOUT_MS }: RequestOptions = {},
  ): Promise<Requests[K]["result"]> {
    const action = `cannot ask the agent for "${op}"`;
    if (this.#error !== undefined) {
      const { code, message } = this.#error;
      return Promise.reject(
        new SandboxError(code, `${action}: ${message}`, { cause: this.#error }),
      );
    }
    if (signal?.aborted === true) return Promise.reject(abortError(signal, action));
    const { promise, resolve, reject } = Promise.withResolvers<Requests[K]["result"]>();
    const fail = (error: SandboxError): void => {
      release();
      reject(error);
    };
    const timer = setTimeout(() => {
      const message = `${action}: no answer within ${timeoutMs / 1000} s`;
      fail(new SandboxError("Unavailable", message));
    }, timeoutMs);
    const onAbort = () => {
      if (signal !== undefined) fail(abortError(signal, action));
    };
    const release = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      this.#waiting.delete(fail);
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#waiting.add(fail);
    const refused = this.#peer.request(op, args, (outcome) => {
      release();
      if (outcome.kind === "result") resolve(outcome.result);
      else reject(new SandboxError(outcome.failure.code, outcome.failure.message));
    });
    if (refused !== undefined) fail(new SandboxError("ResourceExhausted", `${action}: ${refused}`));
    return promise;
  }

  /** A number for a stream that was not used in this guest before. */
  nextStreamId(): number {
    return ++this.#lastStream;
  }

  /**
   * Leaves numbers out that an earlier process has used.
   *
   * @param last The highest one (`inventory`'s `lastStream`).
   */
  useStreamsAfter(last: number): void {
    this.#lastStream = Math.max(this.#lastStream, last);
  }

  /**
   * Opens a process's input, before the process is asked for.
   *
   * @param id See {@link nextStreamId}; with `adopt` the one that the process has.
   * @throws {SandboxError} `Unavailable` where the agent is gone; `ResourceExhausted`.
   */
  openInput(id: number, { adopt = false }: { readonly adopt?: boolean } = {}): OutboundStream {
    return this.#opened(id, this.#peer.openInput(id, adopt));
  }

  /**
   * Opens a process's output, before the process is asked for.
   *
   * @param id See {@link nextStreamId}; with `adopt` the one that the process has.
   * @throws {SandboxError} `Unavailable` where the agent is gone; `ResourceExhausted`.
   */
  openOutput(id: number, { adopt = false }: { readonly adopt?: boolean } = {}): InboundStream {
    return this.#opened(id, this.#peer.openOutput(id, adopt));
  }

  #opened<T>(id: number, stream: T | undefined): T {
    if (stream !== undefined) return stream;
    const action = `cannot open stream ${id} of the agent`;
    if (this.#error !== undefined) {
      throw new SandboxError("Unavailable", `${action}: ${this.#error.message}`);
    }
    throw new SandboxError("ResourceExhausted", `${action}: it or too many others are open`);
  }

  /** Tells the agent at once what was read of outputs: before the guest is saved with its memory. */
  flush(): void {
    this.#peer.flush();
  }

  /** Closes the connection so that another process can take over without getting bytes twice. */
  async release(): Promise<void> {
    if (!this.#life.signal.aborted) {
      this.#peer.flush();
      const idle = this.#transport?.idle();
      await Promise.race([idle, pause(FLUSH_MS, this.#life.signal)]);
    }
    this[Symbol.dispose]();
  }

  /** Closes the connection; streams and requests that are open fail. */
  [Symbol.dispose](): void {
    this.#end(new SandboxError("Cancelled", "connection to the agent was closed"));
  }

  #end(error: SandboxError): void {
    if (this.#error !== undefined) return;
    this.#error = error;
    this.watch(false);
    this.#life.abort();
    this.#transport?.close();
    this.#peer.dispose(error.message);
    for (const fail of [...this.#waiting]) fail(new SandboxError(error.code, error.message));
    this.#closed.resolve(error);
  }
}

function connectUnix(path: string): Promise<SocketConn> {
  return Deno.connect({ transport: "unix", path });
}

function startTimer(run: () => void, delayMs: number): () => void {
  const timer = setTimeout(run, delayMs);
  return () => clearTimeout(timer);
}

function lostConnection(reason: string): SandboxError {
  return new SandboxError("Unavailable", `connection to the agent was lost: ${reason}`);
}

function errorOf(end: HostPeerEnd): SandboxError {
  switch (end.kind) {
    case "violation":
      return new SandboxError("Internal", `agent broke the protocol: ${end.message}`);
    case "lost":
      return new SandboxError("Unavailable", `agent cannot go on: ${end.message}`);
    case "version":
      return new SandboxError(
        "FailedPrecondition",
        `agent speaks version ${end.version} of the protocol, expected ${PROTOCOL_VERSION}: ` +
          "build the guest image again with `deno task guest:image`",
      );
  }
}
