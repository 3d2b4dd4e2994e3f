/**
 * Errors on the wire: SandboxError to google.rpc.Status and back.
 *
 * @module
 */

import { type ErrorCode, SandboxError, STATUS_NUMBER } from "../../sandboxers/lifecycle/errors.ts";

/** Most characters of an error message that are sent; a longer one is cut. */
const MAX_MESSAGE_CHARS = 16_384;

/** A google.rpc.Status without details. */
export interface WireStatus {
  /** A number of google.rpc.Code. */
  readonly code: number;
  /** For people. */
  readonly message: string;
}

/**
 * The status that answers a call that threw.
 *
 * Foreign errors become `Internal` whatever they are: a missing file inside a handler must not look
 * to containerd like a missing task. Aborts keep their meaning.
 *
 * @param thrown What was caught.
 */
export function statusOf(thrown: unknown): WireStatus {
  const error = asSandboxError(thrown);
  const { message } = error;
  const text = message.length > MAX_MESSAGE_CHARS
    ? `${message.slice(0, MAX_MESSAGE_CHARS)}...`
    : message;
  return { code: STATUS_NUMBER[error.code], message: text };
}

function asSandboxError(thrown: unknown): SandboxError {
  if (thrown instanceof SandboxError) return thrown;
  if (thrown instanceof DOMException) return SandboxError.from(thrown);
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return new SandboxError("Internal", text, { cause: thrown });
}

const CODES: ReadonlyMap<number, ErrorCode> = new Map(
  (Object.keys(STATUS_NUMBER) as ErrorCode[]).map((code) => [STATUS_NUMBER[code], code]),
);

/**
 * The error that an answer carries.
 *
 * @param status A status whose code is not 0.
 * @returns Code `Unknown` where the number is not one of google.rpc.Code.
 */
export function errorOf(status: WireStatus): SandboxError {
  return new SandboxError(CODES.get(status.code) ?? "Unknown", status.message);
}
