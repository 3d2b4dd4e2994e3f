/**
 * Names of the kernel's errors (errno(3)) and the step from a negative answer of `sys` to an error
 * that the host understands.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type { AgentErrorCode } from "../protocol/messages.ts";

/** errno(3). */
export const EPERM = 1;
/** errno(3). */
export const ENOENT = 2;
/** errno(3). */
export const ESRCH = 3;
/** errno(3). */
export const EINTR = 4;
/** errno(3). */
export const EIO = 5;
/** errno(3). */
export const ENXIO = 6;
/** errno(3). */
export const E2BIG = 7;
/** errno(3). */
export const ENOEXEC = 8;
/** errno(3). */
export const EBADF = 9;
/** errno(3). */
export const ECHILD = 10;
/** errno(3). */
export const EAGAIN = 11;
/** errno(3). */
export const ENOMEM = 12;
/** errno(3). */
export const EACCES = 13;
/** errno(3). */
export const EFAULT = 14;
/** errno(3). */
export const ENOTBLK = 15;
/** errno(3). */
export const EBUSY = 16;
/** errno(3). */
export const EEXIST = 17;
/** errno(3). */
export const EXDEV = 18;
/** errno(3). */
export const ENODEV = 19;
/** errno(3). */
export const ENOTDIR = 20;
/** errno(3). */
export const EISDIR = 21;
/** errno(3). */
export const EINVAL = 22;
/** errno(3). */
export const ENFILE = 23;
/** errno(3). */
export const EMFILE = 24;
/** errno(3). */
export const ENOTTY = 25;
/** errno(3). */
export const ETXTBSY = 26;
/** errno(3). */
export const EFBIG = 27;
/** errno(3). */
export const ENOSPC = 28;
/** errno(3). */
export const ESPIPE = 29;
/** errno(3). */
export const EROFS = 30;
/** errno(3). */
export const EMLINK = 31;
/** errno(3). */
export const EPIPE = 32;
/** errno(3). */
export const EDOM = 33;
/** errno(3). */
export const ERANGE = 34;
/** errno(3). */
export const EDEADLK = 35;
/** errno(3). */
export const ENAMETOOLONG = 36;
/** errno(3). */
export const ENOLCK = 37;
/** errno(3). */
export const ENOSYS = 38;
/** errno(3). */
export const ENOTEMPTY = 39;
/** errno(3). */
export const ELOOP = 40;
/** errno(3). */
export const ENODATA = 61;
/** errno(3). */
export const EPROTO = 71;
/** errno(3). */
export const EBADMSG = 74;
/** errno(3). */
export const EOVERFLOW = 75;
/** errno(3). */
export const EUSERS = 87;
/** errno(3). */
export const ENOTSOCK = 88;
/** errno(3). */
export const EMSGSIZE = 90;
/** errno(3). */
export const EPROTOTYPE = 91;
/** errno(3). */
export const EPROTONOSUPPORT = 93;
/** errno(3). */
export const EOPNOTSUPP = 95;
/** errno(3). */
export const EAFNOSUPPORT = 97;
/** errno(3). */
export const EADDRINUSE = 98;
/** errno(3). */
export const EADDRNOTAVAIL = 99;
/** errno(3). */
export const ENETDOWN = 100;
/** errno(3). */
export const ENETUNREACH = 101;
/** errno(3). */
export const ECONNABORTED = 103;
/** errno(3). */
export const ECONNRESET = 104;
/** errno(3). */
export const ENOBUFS = 105;
/** errno(3). */
export const EISCONN = 106;
/** errno(3). */
export const ENOTCONN = 107;
/** errno(3). */
export const ETIMEDOUT = 110;
/** errno(3). */
export const ECONNREFUSED = 111;
/** errno(3). */
export const EHOSTUNREACH = 113;
/** errno(3). */
export const EALREADY = 114;
/** errno(3). */
export const EINPROGRESS = 115;
/** errno(3). */
export const ESTALE = 116;
/** errno(3). */
export const EDQUOT = 122;
/** errno(3). */
export const ECANCELED = 125;

const NAMES: Readonly<Record<number, string>> = {
  1: "EPERM",
  2: "ENOENT",
  3: "ESRCH",
  4: "EINTR",
  5: "EIO",
  6: "ENXIO",
  7: "E2BIG",
  8: "ENOEXEC",
  9: "EBADF",
  10: "ECHILD",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  14: "EFAULT",
  15: "ENOTBLK",
  16: "EBUSY",
  17: "EEXIST",
  18: "EXDEV",
  19: "ENODEV",
  20: "ENOTDIR",
  21: "EISDIR",
  22: "EINVAL",
  23: "ENFILE",
  24: "EMFILE",
  25: "ENOTTY",
  26: "ETXTBSY",
  27: "EFBIG",
  28: "ENOSPC",
  29: "ESPIPE",
  30: "EROFS",
  31: "EMLINK",
  32: "EPIPE",
  33: "EDOM",
  34: "ERANGE",
  35: "EDEADLK",
  36: "ENAMETOOLONG",
  37: "ENOLCK",
  38: "ENOSYS",
  39: "ENOTEMPTY",
  40: "ELOOP",
  61: "ENODATA",
  71: "EPROTO",
  74: "EBADMSG",
  75: "EOVERFLOW",
  87: "EUSERS",
  88: "ENOTSOCK",
  90: "EMSGSIZE",
  91: "EPROTOTYPE",
  93: "EPROTONOSUPPORT",
  95: "EOPNOTSUPP",
  97: "EAFNOSUPPORT",
  98: "EADDRINUSE",
  99: "EADDRNOTAVAIL",
  100: "ENETDOWN",
  101: "ENETUNREACH",
  103: "ECONNABORTED",
  104: "ECONNRESET",
  105: "ENOBUFS",
  106: "EISCONN",
  107: "ENOTCONN",
  110: "ETIMEDOUT",
  111: "ECONNREFUSED",
  113: "EHOSTUNREACH",
  114: "EALREADY",
  115: "EINPROGRESS",
  116: "ESTALE",
  122: "EDQUOT",
  125: "ECANCELED",
};

const CODES: Readonly<Record<number, AgentErrorCode>> = {
  [ENOENT]: "NotFound",
  [ESRCH]: "NotFound",
  [EEXIST]: "AlreadyExists",
  [EINVAL]: "InvalidArgument",
  [ENAMETOOLONG]: "InvalidArgument",
  [ENOMEM]: "ResourceExhausted",
  [ENOSPC]: "ResourceExhausted",
  [EDQUOT]: "ResourceExhausted",
  [EMFILE]: "ResourceExhausted",
  [ENFILE]: "ResourceExhausted",
  [EAGAIN]: "ResourceExhausted",
  [ENOSYS]: "Unimplemented",
  [EBUSY]: "FailedPrecondition",
};

/**
 * The name of an error.
 *
 * @param errno Its number, positive or as `sys` answers it, negative.
 * @returns Such as `ENOENT`, or `errno 1234` for one that has no name here.
 */
export function errnoName(errno: number): string {
  const number = Math.abs(errno);
  return NAMES[number] ?? `errno ${number}`;
}

/**
 * An error for the host out of a negative answer of `sys`.
 *
 * @param action The failed action, such as `cannot mount "/proc"`.
 * @param errno The answer, negative or positive.
 * @param code What kind of error it is; by default it follows the errno, `Internal` for most.
 */
export function systemError(action: string, errno: number, code?: AgentErrorCode): AgentError {
  return new AgentError(
    code ?? CODES[Math.abs(errno)] ?? "Internal",
    `${action}: ${errnoName(errno)}`,
  );
}

/**
 * Passes the answer of a `sys` call on, unless it is negative.
 *
 * @param action The action, for the message.
 * @param answer What the call answered.
 * @returns The answer, never negative.
 * @throws AgentError See {@link systemError}.
 */
export function must(action: string, answer: number): number {
  if (answer < 0) throw systemError(action, answer);
  return answer;
}

/**
 * Passes the result of a `sys` call on that answers something else than a number.
 *
 * @param action The action, for the message.
 * @param answer What the call answered.
 * @returns The result.
 * @throws AgentError See {@link systemError}, where the answer is a number.
 */
export function mustGet<T extends string | object>(action: string, answer: T | number): T {
  if (typeof answer === "number") throw systemError(action, answer);
  return answer;
}
