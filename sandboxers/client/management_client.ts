/**
 * The client of a running sandboxer's management API: one method for each call, over the socket of
 * the Sandbox API. The command line, `top` and programs use it.
 *
 * @module
 */

import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { type CallOptions, type DuplexCall, GrpcClient } from "../../proto/grpc.ts";
import {
  type AttachRequestSchema,
  type AttachResponseSchema,
  type Event,
  type EventsRequestSchema,
  type Exit,
  type GetRequestSchema,
  type GetResponse,
  type InfoResponse,
  type KillRequestSchema,
  type ListRequestSchema,
  type ListResponse,
  type LogEntry,
  type LogsRequestSchema,
  Management,
  type PauseRequestSchema,
  type RemoveRequestSchema,
  type RemoveResponse,
  type RestoreRequestSchema,
  type RestoreResponse,
  type ResumeRequestSchema,
  type RunRequestSchema,
  type RunResponse,
  type Sandbox,
  type SetLogLevelRequestSchema,
  type SetLogLevelResponse,
  type SnapshotRequestSchema,
  type StatsRequestSchema,
  type StatsResponse,
  type StopRequestSchema,
  type StopResponse,
  type UpdateRequestSchema,
  type WaitRequestSchema,
  type WatchResponse,
} from "../../proto/gen/quasaur/management/v1/management_pb.ts";

/** How long a call may take that only looks or changes one thing, in milliseconds. */
const CALL_MS = 20_000;

/** How long a call may take that starts a sandbox or saves one, in milliseconds. */
const START_MS = 300_000;

/** How long processes may take to end after SIGTERM where the caller does not say, in seconds. */
const GRACE_SECONDS = 10n;

/** The streams of a process: requests go in, responses come out. */
export type AttachCall = DuplexCall<
  MessageInitShape<typeof AttachRequestSchema>,
  MessageShape<typeof AttachResponseSchema>
>;

/**
 * The client of one sandboxer. Every call throws a `SandboxError` with the code and the message of the
 * sandboxer; `Unavailable` where it cannot be reached or goes away, `DeadlineExceeded` after the
 * time-out, `Cancelled` (or the reason) when the signal fires. Streams have no time-out unless one is
 * given.
 */
export class ManagementClient implements Disposable {
  /** The sandboxer's socket, an absolute path. */
  readonly address: string;
  readonly #client: GrpcClient;

  /**
   * Makes a client; nothing is dialled before the first call.
   *
   * @param address The sandboxer's socket, an absolute path.
   */
  constructor(address: string) {
    this.address = address;
    // A sandboxer that restarts is there again within a second; grpc-js would wait up to two minutes.
    this.#client = new GrpcClient(address, {
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.min_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 2000,
    });
  }

  /**
   * Waits until the sandboxer accepts connections.
   *
   * @param timeoutMs How long to wait, in milliseconds.
   * @throws {SandboxError} `Unavailable` when nobody answers in time.
   */
  ready(timeoutMs: number): Promise<void> {
    return this.#client.ready(timeoutMs);
  }

  /** Who is there: kind, version, abilities, how much it holds. */
  info(options?: CallOptions): Promise<InfoResponse> {
    return this.#client.call(Management.method.info, {}, { timeoutMs: CALL_MS, ...options });
  }

  /** All sandboxes, however many: the sandboxer gives them in pages. */
  async list(
    request: MessageInitShape<typeof ListRequestSchema> = {},
    options?: CallOptions,
  ): Promise<Sandbox[]> {
    const sandboxes: Sandbox[] = [];
    let afterId = "";
    do {
      const page = await this.listPage({ ...request, afterId }, options);
      sandboxes.push(...page.sandboxes);
      afterId = page.nextAfterId;
    } while (afterId !== "");
    return sandboxes;
  }

  /** One page of sandboxes. */
  listPage(
    request: MessageInitShape<typeof ListRequestSchema> = {},
    options?: CallOptions,
  ): Promise<ListResponse> {
    return this.#client.call(Management.method.list, request, { timeoutMs: CALL_MS, ...options });
  }

  /** One sandbox or container in full. */
  get(
    request: MessageInitShape<typeof GetRequestSchema>,
    options?: CallOptions,
  ): Promise<GetResponse> {
    return this.#client.call(Management.method.get, request, { timeoutMs: CALL_MS, ...options });
  }

  /** All sandboxes now, then each one again whenever something of it has changed. */
  watch(options?: CallOptions): AsyncGenerator<WatchResponse> {
    return this.#client.stream(Management.method.watch, {}, options);
  }

  /** What happens, as it happens. */
  events(
    request: MessageInitShape<typeof EventsRequestSchema> = {},
    options?: CallOptions,
  ): AsyncGenerator<Event> {
    return this.#client.stream(Management.method.events, request, options);
  }

  /** What sandboxes and containers use; once, or again and again. */
  stats(
    request: MessageInitShape<typeof StatsRequestSchema> = {},
    options?: CallOptions,
  ): AsyncGenerator<StatsResponse> {
    return this.#client.stream(Management.method.stats, request, options);
  }

  /** Makes a sandbox with one container and starts it, unless an Attach is to start it. */
  run(
    request: MessageInitShape<typeof RunRequestSchema>,
    options?: CallOptions,
  ): Promise<RunResponse> {
    return this.#client.call(Management.method.run, request, { timeoutMs: START_MS, ...options });
  }

  /**
   * Connects to the streams of a process, or runs another one in a container: the first message that
   * is sent says which.
   */
  attach(options?: CallOptions): AttachCall {
    return this.#client.duplex(Management.method.attach, options);
  }

  /** What a container that was made by `run` has written. */
  logs(
    request: MessageInitShape<typeof LogsRequestSchema>,
    options?: CallOptions,
  ): AsyncGenerator<LogEntry> {
    return this.#client.stream(Management.method.logs, request, options);
  }

  /** Waits for the end of a container, for as long as it takes unless a time-out is given. */
  wait(request: MessageInitShape<typeof WaitRequestSchema>, options?: CallOptions): Promise<Exit> {
    return this.#client.call(Management.method.wait, request, { timeoutMs: Infinity, ...options });
  }

  /** Sends a signal. */
  async kill(
    request: MessageInitShape<typeof KillRequestSchema>,
    options?: CallOptions,
  ): Promise<void> {
    await this.#client.call(Management.method.kill, request, { timeoutMs: CALL_MS, ...options });
  }

  /** Stops a sandbox. The time-out begins after the grace that its processes get. */
  stop(
    request: MessageInitShape<typeof StopRequestSchema>,
    options?: CallOptions,
  ): Promise<StopResponse> {
    const { seconds = 0n, nanos = 0 } = request.grace ?? { seconds: GRACE_SECONDS };
    const timeoutMs = Number(seconds) * 1000 + nanos / 1e6 + CALL_MS;
    return this.#client.call(Management.method.stop, request, { timeoutMs, ...options });
  }

  /** Deletes a sandbox. */
  remove(
    request: MessageInitShape<typeof RemoveRequestSchema>,
    options?: CallOptions,
  ): Promise<RemoveResponse> {
    const timeoutMs = Number(GRACE_SECONDS) * 1000 + CALL_MS;
    return this.#client.call(Management.method.remove, request, { timeoutMs, ...options });
  }

  /** Freezes a container, or all of a sandbox. */
  async pause(
    request: MessageInitShape<typeof PauseRequestSchema>,
    options?: CallOptions,
  ): Promise<void> {
    await this.#client.call(Management.method.pause, request, { timeoutMs: CALL_MS, ...options });
  }

  /** Thaws a container, or all of a sandbox. */
  async resume(
    request: MessageInitShape<typeof ResumeRequestSchema>,
    options?: CallOptions,
  ): Promise<void> {
    await this.#client.call(Management.method.resume, request, { timeoutMs: CALL_MS, ...options });
  }

  /** Changes the limits of a container. */
  async update(
    request: MessageInitShape<typeof UpdateRequestSchema>,
    options?: CallOptions,
  ): Promise<void> {
    await this.#client.call(Management.method.update, request, { timeoutMs: CALL_MS, ...options });
  }

  /** Saves a running sandbox with its memory, where the kind can. */
  async snapshot(
    request: MessageInitShape<typeof SnapshotRequestSchema>,
    options?: CallOptions,
  ): Promise<void> {
    const { method } = Management;
    await this.#client.call(method.snapshot, request, { timeoutMs: START_MS, ...options });
  }

  /** Makes a sandbox of a snapshot, or a second one of a running sandbox. */
  restore(
    request: MessageInitShape<typeof RestoreRequestSchema>,
    options?: CallOptions,
  ): Promise<RestoreResponse> {
    const { method } = Management;
    return this.#client.call(method.restore, request, { timeoutMs: START_MS, ...options });
  }

  /** Changes what is logged from now on. */
  setLogLevel(
    request: MessageInitShape<typeof SetLogLevelRequestSchema>,
    options?: CallOptions,
  ): Promise<SetLogLevelResponse> {
    const { method } = Management;
    return this.#client.call(method.setLogLevel, request, { timeoutMs: CALL_MS, ...options });
  }

  /** Closes the connection; open calls end with an error. */
  close(): void {
    this.#client.close();
  }

  /** The same as {@link ManagementClient.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
