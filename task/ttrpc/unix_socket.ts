/**
 * The file of a unix socket: claimed before listening, locked down after, removed at the end.
 *
 * @module
 */

import { lstat, mkdir, unlink } from "node:fs/promises";
import * as net from "node:net";
import { dirname } from "node:path";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/** Longest path of a unix socket in bytes (sockaddr_un.sun_path has 108 with its final NUL). */
const MAX_PATH_BYTES = 107;
/** How long a server behind an existing socket may take to accept, in milliseconds. */
const PROBE_MS = 1_000;
/** The mode of a socket that only its owner can connect to. */
const PRIVATE_MODE = 0o600;

/**
 * Makes a path free to listen at: makes its directory (mode 0700) where it is missing, and removes
 * the socket file of a server that died.
 *
 * @param path Absolute path of the socket.
 * @throws SandboxError `AlreadyExists` when somebody answers there, `FailedPrecondition` when
 *   something other than a socket is there, `InvalidArgument` for a path that cannot be a socket's.
 */
export async function claimSocketPath(path: string): Promise<void> {
  const bytes = new TextEncoder().encode(path).length;
  if (!path.startsWith("/") || path.includes("\0") || bytes > MAX_PATH_BYTES) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot listen at ${JSON.stringify(path)}: expected an absolute path of at most ` +
        `${MAX_PATH_BYTES} bytes, found ${bytes}`,
    );
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const file = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw SandboxError.from(error, `cannot listen at "${path}"`);
  });
  if (file === undefined) return;
  if (!file.isSocket()) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot listen at "${path}": a file that is no socket is there; remove it or choose another ` +
        "path",
    );
  }
  if (await isAnswered(path)) {
    throw new SandboxError(
      "AlreadyExists",
      `cannot listen at "${path}": another process serves it; stop that process or choose ` +
        "another path",
    );
  }
  await unlink(path).catch((error: unknown) => {
    if (errnoOf(error) !== "ENOENT") throw SandboxError.from(error, `cannot listen at "${path}"`);
  });
}

/** Whether a server accepts connections. Only a refusal by the kernel counts as nobody. */
function isAnswered(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = net.connect({ path });
  const timer = setTimeout(() => resolve(true), PROBE_MS);
  socket.on("connect", () => resolve(true));
  socket.on("error", (error: Error) => {
    const errno = errnoOf(error);
    resolve(errno !== "ECONNREFUSED" && errno !== "ENOENT");
  });
  return promise.finally(() => {
    clearTimeout(timer);
    socket.destroy();
  });
}

/**
 * Makes a socket its owner's only. Nobody else can connect before that either, where others may not
 * write to what this process makes (umask(2)).
 *
 * @param path Absolute path of the socket.
 * @throws SandboxError `PermissionDenied` where it is not so afterwards, as on file systems that have
 *   no modes.
 */
export async function makePrivate(path: string): Promise<void> {
  await Deno.chmod(path, PRIVATE_MODE);
  const mode = ((await Deno.lstat(path)).mode ?? 0) & 0o777;
  if (mode === PRIVATE_MODE) return;
  throw new SandboxError(
    "PermissionDenied",
    `cannot keep the socket "${path}" from others: its mode is ${mode.toString(8)} after it was ` +
      `set to ${PRIVATE_MODE.toString(8)}; use a directory of another file system`,
  );
}

/** The errno name of an error of node's, such as `ENOENT`. */
function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
