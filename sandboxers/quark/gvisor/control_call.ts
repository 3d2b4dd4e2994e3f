/**
 * One call on the control socket of a gVisor sandbox: gVisor's own small protocol (pkg/urpc, release
 * 20240729.0). A request is the JSON object `{"method", "arg"}`, the answer
 * `{"success", "err", "result"}`; nothing separates them, and a connection serves one call at a time.
 *
 * Each call has its own connection, closed as soon as it is answered: a sandbox that ends waits up to
 * 15 s for connections that are open and idle.
 *
 * @module
 */

import {
  abortError,
  type ErrorCode,
  SandboxError,
  throwIfAborted,
} from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";
import { JsonFrame } from "./json_frame.ts";
import { meaning } from "./runsc_log.ts";

/** Connects to a unix socket by its path; see Gate. */
export type Connect = (path: string) => Promise<Deno.UnixConn>;

/** Most bytes of an answer. A process takes about 200 bytes in a list of processes. */
const ANSWER_BYTES_MAX = 4 * 1024 * 1024;
/** What is read at once, in bytes. */
const READ_BYTES = 16 * 1024;
/** The same for a wait: its answer is small, and there are many waits at a time. */
const WAIT_READ_BYTES = 128;
/** Most characters of a sandbox's own words in a message. */
const TEXT_LENGTH_MAX = 500;
/** How long a call may take that waits for nothing, in milliseconds. */
const CALL_MS = 10_000;
/** How often a connection is tried for that is not accepted, and how long is waited in between. */
const CONNECT_ATTEMPTS_MAX = 50;
const CONNECT_PAUSE_MS = 20;

/** A call. */
export interface ControlCall {
  /** The socket. */
  readonly path: string;
  /** Connects to it. */
  readonly connect: Connect;
  /** What is called, such as `containerManager.Wait`. */
  readonly method: string;
  /** Its argument. */
  readonly arg: Json;
  /** What is being done, for errors. */
  readonly action: string;
  /** Ends the call. */
  readonly signal?: AbortSignal | undefined;
  /** How long it may take, in milliseconds (default: 10 s); Infinity for a wait. */
  readonly timeoutMs?: number;
}

/**
 * Makes a call.
 *
 * @param call See {@link ControlCall}.
 * @returns The result; null where there is none.
 * @throws {SandboxError} What the sandbox said: `NotFound` for a container or process that is not
 *   there, `FailedPrecondition` for a container that was not started, `Unimplemented` for a method
 *   that it has not, or for what is no answer in this protocol, else `Internal`. `Unavailable` where
 *   the sandbox has ended; `Cancelled`, `DeadlineExceeded`.
 */
export async function controlCall(call: ControlCall): Promise<Json> {
  throwIfAborted(call.signal, call.action);
  const connection = await connectTo(call);
  using bounds = new Bounds(call, connection);
  try {
    await send(connection, JSON.stringify({ method: call.method, arg: call.arg }));
    return parseAnswer(await receive(connection, call), call.action);
  } catch (error) {
    throw bounds.over ?? callError(error, call.action);
  }
}

/** Closes a connection at its end, or sooner where a call is given up. */
class Bounds implements Disposable {
  readonly #call: ControlCall;
  readonly #connection: Deno.UnixConn;
  readonly #timer: ReturnType<typeof setTimeout> | undefined;
  /** Why it was given up. */
  over: SandboxError | undefined;

  constructor(call: ControlCall, connection: Deno.UnixConn) {
    this.#call = call;
    this.#connection = connection;
    const { signal, timeoutMs = CALL_MS } = call;
    signal?.addEventListener("abort", this);
    if (timeoutMs !== Infinity) this.#timer = setTimeout(() => this.#late(timeoutMs), timeoutMs);
    if (signal?.aborted === true) this.handleEvent();
  }

  /** The caller gave up. */
  handleEvent(): void {
    const { signal, action } = this.#call;
    if (signal !== undefined) this.over ??= abortError(signal, action);
    close(this.#connection);
  }

  #late(timeoutMs: number): void {
    const message = `${this.#call.action}: no answer in ${timeoutMs} ms`;
    this.over ??= new SandboxError("DeadlineExceeded", message);
    close(this.#connection);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#call.signal?.removeEventListener("abort", this);
    close(this.#connection);
  }
}

/** A sandbox that is busy for a moment accepts no connection just then. */
async function connectTo({ connect, path, action, signal }: ControlCall): Promise<Deno.UnixConn> {
  for (let attempt = 1;; attempt++) {
    try {
      return await connect(path);
    } catch (thrown) {
      const error = SandboxError.from(thrown, action);
      if (error.code === "NotFound" || isRefused(thrown) || isRefused(error.cause)) {
        throw ended(action, error);
      }
      if (isBusy(thrown) || isBusy(error.cause)) {
        if (attempt < CONNECT_ATTEMPTS_MAX) {
          await new Promise((resolve) => setTimeout(resolve, CONNECT_PAUSE_MS));
          throwIfAborted(signal, action);
          continue;
        }
      }
      // Whoever does not accept still lives.
      const code = error.code === "Unavailable" ? "DeadlineExceeded" : error.code;
      throw new SandboxError(code, `${action}: ${error.message}`, { cause: error });
    }
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Deno.errors.WouldBlock;
}

function isRefused(error: unknown): boolean {
  return error instanceof Deno.errors.ConnectionRefused;
}

function ended(action: string, cause?: unknown): SandboxError {
  return new SandboxError("Unavailable", `${action}: the sandbox has ended`, { cause });
}

async function send(connection: Deno.UnixConn, text: string): Promise<void> {
  let bytes = new TextEncoder().encode(text);
  while (bytes.length > 0) bytes = bytes.subarray(await connection.write(bytes));
}

/** While nothing has come, it holds next to nothing. */
async function receive(connection: Deno.UnixConn, call: ControlCall): Promise<string> {
  const { action } = call;
  const buffer = new Uint8Array(call.timeoutMs === Infinity ? WAIT_READ_BYTES : READ_BYTES);
  const first = await connection.read(buffer);
  const frame = new JsonFrame();
  const decoder = new TextDecoder();
  let [count, length, text] = [first, 0, ""];
  for (;;) {
    if (count === null) throw ended(action);
    const bytes = buffer.subarray(0, count);
    length += count;
    text += decoder.decode(bytes, { stream: true });
    const state = frame.push(bytes);
    if (state === "complete") return text;
    if (state === "garbage") throw strange(action, text);
    if (length > ANSWER_BYTES_MAX) break;
    count = await connection.read(buffer);
  }
  throw new SandboxError(
    "Internal",
    `${action}: an answer of more than ${ANSWER_BYTES_MAX} bytes`,
  );
}

/**
 * Reads an answer.
 *
 * @param text The answer, whole.
 * @param action What was being done, for errors.
 * @returns The result; null where there is none.
 * @throws {SandboxError} What the sandbox said; see {@link controlCall}.
 */
export function parseAnswer(text: string, action: string): Json {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    throw strange(action, text);
  }
  if (!isAnswer(answer)) throw strange(action, text);
  if (answer.success) return answer.result ?? null;
  const { code, words } = meaningOf(answer.err);
  throw new SandboxError(code, `${action}: ${words.slice(0, TEXT_LENGTH_MAX)}`);
}

interface Answer {
  readonly success: boolean;
  readonly err: string;
  readonly result?: Json;
}

function isAnswer(value: unknown): value is Answer {
  return typeof value === "object" && value !== null &&
    "success" in value && typeof value.success === "boolean" &&
    "err" in value && typeof value.err === "string";
}

/** The sandbox says in words only what went wrong. */
function meaningOf(said: string): { readonly code: ErrorCode; readonly words: string } {
  if (said === "unknown method") return { code: "Unimplemented", words: said };
  if (/^container ".*" not found$/.test(said)) return { code: "NotFound", words: said };
  if (/^container ".*" has stopped$/.test(said)) return { code: "FailedPrecondition", words: said };
  return meaning(said);
}

function strange(action: string, text: string): SandboxError {
  const found = JSON.stringify(text.slice(0, 60));
  return new SandboxError(
    "Unimplemented",
    `${action}: the control socket answered ${found}: expected an answer as runsc 20240729.0 gives`,
  );
}

function callError(error: unknown, action: string): SandboxError {
  const isBroken = error instanceof Deno.errors.BrokenPipe ||
    error instanceof Deno.errors.ConnectionReset;
  if (!isBroken) return SandboxError.from(error, action);
  return ended(action, error);
}

function close(connection: Deno.UnixConn): void {
  try {
    connection.close();
  } catch {
    // It was.
  }
}
