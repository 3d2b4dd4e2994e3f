/**
 * The connection to the task service of one sandbox: every call goes over it, and the waits for all
 * its processes. Its end is how the end of Quark is noticed. Where it is lost although Quark lives, it
 * is made again.
 *
 * @module
 */

import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { Task } from "../../../proto/gen/containerd/task/v2/shim_pb.ts";
import { abortError, SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import { sleep } from "../../lifecycle/signals.ts";
import { type CallOptions, TtrpcClient, type UnaryMethod } from "../../../task/ttrpc/client.ts";
import type { QuarkOptions } from "./options.ts";

/** How long a call may take unless it says otherwise, in milliseconds. */
export const CALL_MS = 60_000;
/** How often is looked whether Quark listens, in milliseconds. */
const LOOK_MS = 20;
/** How long Quark may go on while nobody can connect to it, in milliseconds. */
const RECONNECT_MS = 10_000;

/** What a {@link TaskConnection} works with. */
export interface TaskConnectionOptions {
  /** Connects to the socket. */
  readonly connect: QuarkOptions["connect"];
  /** The socket. */
  readonly path: string;
  /** Whether Quark's process is still there. */
  alive(): Promise<boolean>;
}

/** A connection. */
export class TaskConnection implements Disposable {
  readonly #options: TaskConnectionOptions;
  readonly #ended = Promise.withResolvers<SandboxError>();
  readonly #life = new AbortController();
  #client: TtrpcClient;
  /** Settles when it is known whether there is a connection again. */
  #ready: Promise<void> = Promise.resolve();

  private constructor(options: TaskConnectionOptions, client: TtrpcClient) {
    this.#options = options;
    this.#client = client;
    this.#watch(client);
  }

  /**
   * Connects to a Quark that may still be about to come up, and has it answer.
   *
   * @param options See {@link TaskConnectionOptions}.
   * @param readyMs How long that may take, in milliseconds.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} `DeadlineExceeded`, `Cancelled`; `Unavailable` where its process has ended;
   *   `FailedPrecondition` where something else answers.
   */
  static async open(
    options: TaskConnectionOptions,
    readyMs: number,
    signal: AbortSignal,
  ): Promise<TaskConnection> {
    return new TaskConnection(options, await connectReady(options, readyMs, signal));
  }

  /** Settles when Quark has ended, or cannot be reached any more; never rejects. */
  get ended(): Promise<SandboxError> {
    return this.#ended.promise;
  }

  /**
   * Calls a method of the task service.
   *
   * @param method From the generated service.
   * @param request The request.
   * @param options Deadline, by default {@link CALL_MS}, and signal.
   * @throws {SandboxError} As Quark says; `Unavailable` where it has ended; `DeadlineExceeded`,
   *   `Cancelled`.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: UnaryMethod<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    await this.#ready;
    return await this.#client.call(method, request, { timeoutMs: CALL_MS, ...options });
  }

  /**
   * Waits for the end of a process, however often the connection is lost meanwhile.
   *
   * @param container What Quark calls its container.
   * @param exec The exec; empty for the init process.
   * @throws {SandboxError} As Quark says; `Unavailable` where it has ended.
   */
  async wait(
    container: string,
    exec: string,
  ): Promise<MessageShape<typeof Task.method.wait.output>> {
    for (;;) {
      await this.#ready;
      const client = this.#client;
      try {
        return await client.call(Task.method.wait, { id: container, execId: exec });
      } catch (error) {
        if (client.connected || this.#life.signal.aborted) throw error;
      }
    }
  }

  /** Closes it; open calls fail. Nothing is said of Quark's end any more. */
  [Symbol.dispose](): void {
    this.#life.abort();
    this.#client.close();
  }

  #watch(client: TtrpcClient): void {
    this.#ready = Promise.resolve();
    void client.closed.then((reason) => {
      if (this.#life.signal.aborted) return;
      this.#ready = this.#connectAgain(reason);
    });
  }

  async #connectAgain(lost: SandboxError): Promise<void> {
    const { signal } = this.#life;
    try {
      if (!await this.#options.alive()) throw lost;
      this.#client = await connectReady(this.#options, RECONNECT_MS, signal);
      if (signal.aborted) this.#client.close();
      else this.#watch(this.#client);
    } catch (error) {
      if (signal.aborted) return;
      this.#life.abort();
      this.#ended.resolve(SandboxError.from(error));
    }
  }
}

/** Tries until Quark answers. */
async function connectReady(
  options: TaskConnectionOptions,
  readyMs: number,
  signal: AbortSignal,
): Promise<TtrpcClient> {
  const action = `cannot reach Quark at "${options.path}"`;
  const end = Date.now() + readyMs;
  let last = "nobody listens";
  while (Date.now() < end) {
    throwIfAborted(signal, action);
    const client = await tryConnect(options).catch((error: unknown) => {
      last = SandboxError.from(error).message;
      return undefined;
    });
    if (client !== undefined) {
      await checkAnswers(client, { action, timeoutMs: Math.max(1, end - Date.now()), signal });
      return client;
    }
    if (!await options.alive()) {
      throw new SandboxError("Unavailable", `${action}: its process has ended`);
    }
    await sleep(LOOK_MS, signal);
  }
  if (signal.aborted) throw abortError(signal, action);
  throw new SandboxError("DeadlineExceeded", `${action}: not ready within ${readyMs} ms: ${last}`);
}

async function tryConnect({ connect, path }: TaskConnectionOptions): Promise<TtrpcClient> {
  return TtrpcClient.over(await connect(path));
}

interface Check {
  readonly action: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Any answer will do: Quark listens long before it serves. Closes the client where none comes. */
async function checkAnswers(client: TtrpcClient, check: Check): Promise<void> {
  const { action, timeoutMs, signal } = check;
  try {
    await client.call(Task.method.state, { id: "ready" }, { timeoutMs, signal });
  } catch (error) {
    const { code, message } = SandboxError.from(error);
    // It knows no such container: that is an answer.
    if (client.connected && code !== "DeadlineExceeded" && code !== "Cancelled") return;
    client.close();
    if (signal.aborted) throw abortError(signal, action);
    if (code !== "Unavailable") throw new SandboxError(code, `${action}: ${message}`);
    throw new SandboxError(
      "FailedPrecondition",
      `${action}: ${message}: expected that it serves containerd.task.v2 there: see its log`,
      { cause: error },
    );
  }
}
