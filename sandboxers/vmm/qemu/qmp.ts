/**
 * A client of QMP, the protocol that controls a running QEMU: JSON messages, one per line, over a
 * unix socket. What comes from QEMU is checked and bounded, because a guest may have taken it over.
 * Source: QEMU's docs/interop/qmp-spec.rst and qapi/.
 *
 * @module
 */

import { abortError, SandboxError } from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";
import { type QmpArgs, type QmpCommand, type QmpResult, readResult } from "./qmp_commands.ts";
import { type QmpEvent, readEvent } from "./qmp_events.ts";

/** A connection that QMP can be spoken over. */
export interface QmpConnection {
  /** Reads what comes next. @returns how many bytes; null at the end. */
  read(into: Uint8Array): Promise<number | null>;
  /** Writes all or part of the bytes. @returns how many. */
  write(bytes: Uint8Array): Promise<number>;
  /** Ends it; throws where it has ended. */
  close(): void;
}

/** Options of {@link QmpClient.open}. */
export interface QmpOptions {
  /** Longest line that is taken, in bytes. Default 1 MiB. */
  readonly lineBytesMax?: number;
  /** Most commands without an answer. Default 64. */
  readonly pendingMax?: number;
  /** How long an answer may take, in milliseconds. Default 10 s. */
  readonly timeoutMs?: number;
  /** Called for each event that we use, in order. What it throws ends the connection. */
  readonly onEvent?: (event: QmpEvent) => void;
}

/** Options of one command. */
export interface QmpCallOptions {
  /** How long the answer may take, in milliseconds; else that of the client. */
  readonly timeoutMs?: number;
  /** Gives up waiting; the command itself goes on in QEMU. */
  readonly signal?: AbortSignal | undefined;
}

/** A command that QEMU refused. */
export class QmpRefusal extends SandboxError {
  /**
   * Makes it.
   *
   * @param command The command.
   * @param kind QEMU's class of error, such as `GenericError` or `CommandNotFound`.
   * @param description QEMU's own words.
   */
  constructor(readonly command: string, readonly kind: string, readonly description: string) {
    super("Internal", `QEMU refused the command "${command}": ${description}`);
  }
}

interface Pending {
  readonly command: QmpCommand;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: SandboxError) => void;
}

type Bounds = Required<Omit<QmpOptions, "onEvent">>;

const DEFAULTS: Bounds = { lineBytesMax: 1 << 20, pendingMax: 64, timeoutMs: 10_000 };

/** What is read at a time, in bytes: each machine holds a buffer of that size. */
const READ_BYTES = 2048;

/** Longest text of QEMU that gets into a message, in characters. */
const TEXT_MAX = 500;

/** A client of one QEMU. */
export class QmpClient {
  /** Settles once, when the connection has ended; with the reason where it was not {@link close}. */
  readonly closed: Promise<SandboxError | undefined>;
  readonly #connection: QmpConnection;
  readonly #options: QmpOptions & Bounds;
  readonly #pending = new Map<number, Pending>();
  readonly #greeting = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<SandboxError | undefined>();
  #writing: Promise<void> = Promise.resolve();
  #nextId = 1;
  #greeted = false;
  #ended = false;
  /** Why it ended; undefined after {@link close}. */
  #failure: SandboxError | undefined;

  private constructor(connection: QmpConnection, options: QmpOptions) {
    this.#connection = connection;
    this.#options = { ...DEFAULTS, ...options };
    this.closed = this.#closed.promise;
    this.#greeting.promise.catch(() => undefined);
  }

  /**
   * Waits for QEMU's greeting and enters command mode.
   *
   * @param connection A fresh connection; it is the client's from here on.
   * @param options Bounds, and who hears events.
   * @param signal Gives up.
   * @throws {SandboxError} `Unavailable` where it is no QMP or ends; `DeadlineExceeded`; `Cancelled`.
   *   The connection is closed then.
   */
  static async open(
    connection: QmpConnection,
    options: QmpOptions = {},
    signal?: AbortSignal,
  ): Promise<QmpClient> {
    const client = new QmpClient(connection, options);
    const reading = client.#read();
    try {
      await client.#wait(client.#greeting.promise, "QEMU's greeting", { signal });
      await client.execute("qmp_capabilities", {}, { signal });
      return client;
    } catch (thrown) {
      client.close();
      await reading;
      throw thrown;
    }
  }

  /**
   * Runs a command.
   *
   * @param command Its name.
   * @param args Its arguments.
   * @param options Time and cancellation.
   * @throws {QmpRefusal} where QEMU says no.
   * @throws {SandboxError} `Unavailable` where the connection has ended or what QEMU answers is not
   *   what it should be; `DeadlineExceeded`; `Cancelled`; `ResourceExhausted` where too many wait.
   */
  async execute<C extends QmpCommand>(
    command: C,
    args: QmpArgs<C>,
    options: QmpCallOptions = {},
  ): Promise<QmpResult<C>> {
    const action = `the answer to QEMU's command "${command}"`;
    if (options.signal?.aborted === true) throw abortError(options.signal, `wait for ${action}`);
    if (this.#ended) {
      const { message } = this.#endError();
      throw new SandboxError("Unavailable", `cannot send the command "${command}": ${message}`);
    }
    if (this.#pending.size >= this.#options.pendingMax) {
      throw new SandboxError(
        "ResourceExhausted",
        `cannot send the command "${command}" to QEMU: ${this.#options.pendingMax} are unanswered`,
      );
    }
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { command, resolve, reject });
    promise.catch(() => undefined);
    try {
      const message = JSON.stringify({ execute: command, arguments: args, id }) + "\n";
      await this.#wait(this.#write(message).then(() => promise), action, options);
      return readResult(command, await promise);
    } finally {
      this.#pending.delete(id);
    }
  }

  /** Ends the connection. May be called more than once. */
  close(): void {
    this.#end(undefined);
  }

  /** Why nothing can be asked any more. */
  #endError(): SandboxError {
    return this.#failure ??
      new SandboxError("Unavailable", "the connection to QEMU was closed");
  }

  #end(failure: SandboxError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = failure;
    try {
      this.#connection.close();
    } catch {
      // It was closed by its own failure.
    }
    const error = this.#endError();
    this.#greeting.reject(error);
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
    this.#closed.resolve(failure);
  }

  async #wait<T>(promise: Promise<T>, what: string, options: QmpCallOptions): Promise<T> {
    const timeoutMs = options.timeoutMs ?? this.#options.timeoutMs;
    const { signal } = options;
    const stop = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      stop.reject(
        new SandboxError("DeadlineExceeded", `${what} did not come within ${timeoutMs} ms`),
      );
    }, timeoutMs);
    const onAbort = () => {
      if (signal !== undefined) stop.reject(abortError(signal, `wait for ${what}`));
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
    try {
      return await Promise.race([promise, stop.promise]);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Writes one message after the ones before it. */
  #write(message: string): Promise<void> {
    const bytes = new TextEncoder().encode(message);
    const written = this.#writing.then(async () => {
      let rest = bytes;
      while (rest.length > 0) rest = rest.subarray(await this.#connection.write(rest));
    });
    this.#writing = written.catch((thrown) => this.#end(lost(thrown)));
    return written.catch((thrown) => {
      throw this.#ended ? this.#endError() : lost(thrown);
    });
  }

  async #read(): Promise<void> {
    try {
      const lines = new Lines(this.#options.lineBytesMax);
      const buffer = new Uint8Array(READ_BYTES);
      for (;;) {
        const count = await this.#connection.read(buffer);
        if (count === null) break;
        for (const line of lines.take(buffer.subarray(0, count))) {
          if (this.#ended) return;
          this.#take(line);
        }
      }
      this.#end(new SandboxError("Unavailable", "QEMU closed its control connection"));
    } catch (thrown) {
      this.#end(lost(thrown));
    }
  }

  /** Takes one message. Throws where it is none of QMP's. */
  #take(line: string): void {
    const message = parseObject(line);
    if (!this.#greeted) {
      if (!isObject(message["QMP"])) throw garbage(line);
      this.#greeted = true;
      this.#greeting.resolve();
    } else if ("event" in message) {
      const event = readEvent(message);
      if (event !== undefined) this.#options.onEvent?.(event);
    } else if ("return" in message || "error" in message) {
      this.#answer(message, line);
    } else throw garbage(line);
  }

  #answer(message: Readonly<Record<string, Json>>, line: string): void {
    const { id, error } = message;
    // An answer without an id is about a message that QEMU could not read: ours are well formed.
    if (typeof id !== "number") throw garbage(line);
    // What nobody waits for any more is the late answer to a command that was given up.
    const pending = this.#pending.get(id);
    if (pending === undefined) {
      if (!Number.isInteger(id) || id < 1 || id >= this.#nextId) throw garbage(line);
      return;
    }
    if (error === undefined) return pending.resolve(message["return"]);
    const { class: kind, desc } = isObject(error) ? error : {};
    if (typeof kind !== "string" || typeof desc !== "string") throw garbage(line);
    pending.reject(new QmpRefusal(pending.command, kind.slice(0, 80), desc.slice(0, TEXT_MAX)));
  }
}

/** Cuts a stream of bytes into lines of bounded length. */
class Lines {
  readonly #decoder = new TextDecoder();
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  constructor(readonly bytesMax: number) {}

  *take(chunk: Uint8Array): Generator<string> {
    let rest = chunk;
    while (rest.length > 0) {
      const end = rest.indexOf(10);
      const part = end < 0 ? rest : rest.subarray(0, end);
      this.#length += part.length;
      if (this.#length > this.bytesMax) {
        throw new SandboxError(
          "Unavailable",
          `QEMU sent a line that is longer than ${this.bytesMax} bytes`,
        );
      }
      // A copy: the reader may use its buffer again.
      this.#parts.push(part.slice());
      if (end < 0) return;
      rest = rest.subarray(end + 1);
      const line = this.#finish().trim();
      if (line !== "") yield line;
    }
  }

  #finish(): string {
    const bytes = new Uint8Array(this.#length);
    let offset = 0;
    for (const part of this.#parts) {
      bytes.set(part, offset);
      offset += part.length;
    }
    this.#parts.length = 0;
    this.#length = 0;
    return this.#decoder.decode(bytes);
  }
}

function parseObject(line: string): Readonly<Record<string, Json>> {
  let value: Json;
  try {
    value = JSON.parse(line);
  } catch {
    throw garbage(line);
  }
  if (!isObject(value)) throw garbage(line);
  return value;
}

function isObject(value: Json | undefined): value is Readonly<Record<string, Json>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function garbage(line: string): SandboxError {
  return new SandboxError(
    "Unavailable",
    `QEMU sent something that is not QMP: ${JSON.stringify(line.slice(0, 80))}`,
  );
}

function lost(thrown: unknown): SandboxError {
  if (thrown instanceof SandboxError) return thrown;
  return new SandboxError(
    "Unavailable",
    `the connection to QEMU broke: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
    { cause: thrown },
  );
}
