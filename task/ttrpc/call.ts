/**
 * One call as its handler sees it: the metadata that came with it and a signal that says when
 * nobody waits for the answer any more.
 *
 * @module
 */

import type { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import type { KeyValue, Request } from "../../proto/gen/ttrpc/request_pb.ts";

/** The longest time a timer can take, in milliseconds (setTimeout's limit, 24.8 days). */
const MAX_TIMER_MS = 0x7fff_ffff;
const NANOSECONDS_PER_MS = 1_000_000n;

/** A call in progress. */
export interface Call {
  /** Full name of the method, such as `containerd.task.v3.Task/State`. */
  readonly method: string;
  /**
   * Aborted when the deadline passed (reason `DeadlineExceeded`), the caller's connection closed
   * (`Cancelled`) or the server stops (`Unavailable`).
   */
  readonly signal: AbortSignal;
  /** A metadata value by its key; undefined where the caller sent none. */
  metadata(key: string): string | undefined;
}

/** The server's side of a {@link Call}. */
export class OpenCall implements Call {
  /** See {@link Call.method}. */
  readonly method: string;
  /** The stream to answer on. */
  readonly streamId: number;
  readonly #metadata: readonly KeyValue[];
  readonly #timeoutNano: bigint;
  /** Made when a handler first asks for the signal: most calls are answered before. */
  #controller: AbortController | undefined;
  #aborted: SandboxError | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * Begins a call.
   *
   * @param streamId The stream to answer on.
   * @param request The request. Its payload is not kept: it may pin a whole received chunk.
   */
  constructor(streamId: number, request: Request) {
    this.streamId = streamId;
    this.method = `${request.service}/${request.method}`;
    this.#metadata = request.metadata;
    this.#timeoutNano = request.timeoutNano;
  }

  /** See {@link Call.signal}. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted);
    }
    return this.#controller.signal;
  }

  /** See {@link Call.metadata}. */
  metadata(key: string): string | undefined {
    return this.#metadata.find((entry) => entry.key === key)?.value;
  }

  /** Whether the deadline had passed before the request arrived. */
  get expired(): boolean {
    return this.#timeoutNano < 0n;
  }

  /**
   * Starts the clock, for a call that was not answered at once.
   *
   * @param onDeadline Called once when the deadline passes; not after {@link finish}.
   */
  startClock(onDeadline: () => void): void {
    if (this.#timeoutNano <= 0n) return;
    const timeoutMs = (this.#timeoutNano + NANOSECONDS_PER_MS - 1n) / NANOSECONDS_PER_MS;
    // A deadline further away than a timer reaches is none.
    if (timeoutMs > BigInt(MAX_TIMER_MS)) return;
    this.#timer = setTimeout(onDeadline, Number(timeoutMs));
  }

  /** Tells the handler that its answer is of no use any more. */
  abort(reason: SandboxError): void {
    this.finish();
    this.#aborted ??= reason;
    this.#controller?.abort(this.#aborted);
  }

  /** Stops the clock. */
  finish(): void {
    clearTimeout(this.#timer);
  }
}
