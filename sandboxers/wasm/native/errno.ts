/**
 * Error numbers of system calls, as errors.
 *
 * @module
 */

import { constants } from "node:os";
import { type ErrorCode, SandboxError } from "../../lifecycle/errors.ts";

/** errno(3) numbers that code here decides on (the same on x86-64 and aarch64). */
export const ERRNO = {
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  ENXIO: 6,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EINVAL: 22,
  EXDEV: 18,
  ENOTDIR: 20,
  EISDIR: 21,
  ELOOP: 40,
} as const;

const CODES: Readonly<Record<string, ErrorCode>> = {
  ENOENT: "NotFound",
  EACCES: "PermissionDenied",
  EPERM: "PermissionDenied",
  ENOMEM: "ResourceExhausted",
  EAGAIN: "ResourceExhausted",
  EMFILE: "ResourceExhausted",
  ENFILE: "ResourceExhausted",
  ENOSPC: "ResourceExhausted",
  EDQUOT: "ResourceExhausted",
  ENOTDIR: "InvalidArgument",
  EISDIR: "InvalidArgument",
  ELOOP: "InvalidArgument",
  EXDEV: "InvalidArgument",
  ENAMETOOLONG: "InvalidArgument",
};

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, number]) => [number, name]),
);

/**
 * The symbolic name of an error number.
 *
 * @param errno A positive number, such as 2.
 * @returns The name, such as `ENOENT`.
 */
export function errnoName(errno: number): string {
  // Node's table is ordered so that an alias may win: name the one that everybody knows.
  return errno === ERRNO.EAGAIN ? "EAGAIN" : NAMES.get(errno) ?? `errno ${errno}`;
}

/**
 * A failed system call as an error with the fitting code.
 *
 * @param action What failed, such as `cannot open "/x"`.
 * @param errno The positive error number.
 * @param fallback The code where the number does not tell (default `Internal`).
 */
export function systemError(
  action: string,
  errno: number,
  fallback: ErrorCode = "Internal",
): SandboxError {
  const name = errnoName(errno);
  return new SandboxError(CODES[name] ?? fallback, `${action}: ${name}`, { context: { errno } });
}
