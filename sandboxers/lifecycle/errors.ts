/**
 * The one error class of Quasaur. Every layer throws {@link SandboxError}; only the edges (gRPC,
 * ttrpc, the command line) turn its code into a status number or an exit code.
 *
 * @module
 */

/**
 * Error codes: the names of the gRPC canonical codes that containerd understands.
 * Source: google.rpc.Code, and containerd's errgrpc mapping.
 */
export type ErrorCode =
  | "Cancelled"
  | "Unknown"
  | "InvalidArgument"
  | "DeadlineExceeded"
  | "NotFound"
  | "AlreadyExists"
  | "PermissionDenied"
  | "ResourceExhausted"
  | "FailedPrecondition"
  | "Aborted"
  | "OutOfRange"
  | "Unimplemented"
  | "Internal"
  | "Unavailable"
  | "DataLoss";

/** The number of each code on the wire, the same for gRPC and ttrpc (google.rpc.Code). */
export const STATUS_NUMBER: Readonly<Record<ErrorCode, number>> = {
  Cancelled: 1,
  Unknown: 2,
  InvalidArgument: 3,
  DeadlineExceeded: 4,
  NotFound: 5,
  AlreadyExists: 6,
  PermissionDenied: 7,
  ResourceExhausted: 8,
  FailedPrecondition: 9,
  Aborted: 10,
  OutOfRange: 11,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
  DataLoss: 15,
};

/**
 * In the message of an `Unavailable` error: the process is about to leave, and what was asked for was
 * not begun. The relay of task calls looks for it (host/native/relay.c) and asks the next process.
 */
export const RESTARTING = "is restarting";

/** Facts that belong to an error, for logs: ids, paths, field names. Never secrets. */
export type ErrorContext = Readonly<Record<string, string | number | boolean>>;

/** An error with a code. The message starts with the failed action and names what to do. */
export class SandboxError extends Error {
  /** The name shown in stack traces. */
  override readonly name = "SandboxError";

  /**
   * Makes an error.
   *
   * @param code What kind of failure this is; decides the status on the wire.
   * @param message Lower case like the messages it may be put behind, no full stop, the failed action first.
   * @param options `cause`: the error below this one; `context`: facts for logs.
   */
  constructor(
    readonly code: ErrorCode,
    message: string,
    options: { readonly cause?: unknown; readonly context?: ErrorContext } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.context = options.context ?? {};
  }

  /** Facts that belong to the error. */
  readonly context: ErrorContext;

  /**
   * Turns anything thrown into a SandboxError: used at every boundary.
   *
   * @param thrown What was caught. A SandboxError comes back unchanged.
   * @param action What was being done, put before the message of a foreign error.
   * @param fallback The code where the error does not tell (default `Internal`).
   */
  static from(thrown: unknown, action?: string, fallback: ErrorCode = "Internal"): SandboxError {
    if (thrown instanceof SandboxError) return thrown;
    const text = thrown instanceof Error ? thrown.message : String(thrown);
    const message = action === undefined ? text : `${action}: ${text}`;
    return new SandboxError(codeOf(thrown) ?? fallback, message, { cause: thrown });
  }
}

/** The code that a foreign error carries in its class or its errno, if it carries one. */
function codeOf(thrown: unknown): ErrorCode | undefined {
  if (thrown instanceof Deno.errors.NotFound) return "NotFound";
  if (thrown instanceof Deno.errors.AlreadyExists) return "AlreadyExists";
  if (thrown instanceof Deno.errors.PermissionDenied) return "PermissionDenied";
  if (thrown instanceof Deno.errors.NotCapable) return "PermissionDenied";
  if (thrown instanceof DOMException && thrown.name === "AbortError") return "Cancelled";
  if (thrown instanceof DOMException && thrown.name === "TimeoutError") return "DeadlineExceeded";
  if (thrown instanceof Error && /os error (28|122)\b|ENOSPC|EDQUOT/.test(thrown.message)) {
    return "ResourceExhausted";
  }
  return undefined;
}

/**
 * Calls the world below the lifecycle (driver, mounter, store); what goes wrong there comes out as a
 * SandboxError that names the action.
 *
 * @param action What is being done, such as `cannot stop sandbox "a"`.
 * @param effect The call.
 * @param signal The signal that the call was given: once it is aborted, that is why it failed.
 * @throws SandboxError as the effect threw it; else `Cancelled` or `DeadlineExceeded` on abort; else
 *   a code by the kind of error. A missing or existing file below is `Internal`: the caller would
 *   take `NotFound` for an answer about its sandbox.
 */
export async function attempt<T>(
  action: string,
  effect: () => T | Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  try {
    return await effect();
  } catch (thrown) {
    if (thrown instanceof SandboxError) throw thrown;
    if (signal?.aborted === true) throw abortError(signal, action);
    const error = SandboxError.from(thrown, action);
    if (error.code !== "NotFound" && error.code !== "AlreadyExists") throw error;
    throw new SandboxError("Internal", error.message, { cause: thrown });
  }
}

/**
 * Gives up where the caller has done so.
 *
 * @throws SandboxError see {@link abortError}.
 */
export function throwIfAborted(signal: AbortSignal | undefined, action: string): void {
  if (signal?.aborted === true) throw abortError(signal, action);
}

/**
 * The reason of an aborted signal as an error: `DeadlineExceeded` when a time-out fired it,
 * `Cancelled` otherwise.
 *
 * @param signal An aborted signal.
 * @param action What was cut short, for the message.
 */
export function abortError(signal: AbortSignal, action: string): SandboxError {
  const { reason } = signal;
  if (reason instanceof SandboxError) return reason;
  const timedOut = reason instanceof DOMException && reason.name === "TimeoutError";
  return timedOut
    ? new SandboxError("DeadlineExceeded", `${action}: deadline exceeded`)
    : new SandboxError("Cancelled", `${action}: cancelled by the caller`);
}
