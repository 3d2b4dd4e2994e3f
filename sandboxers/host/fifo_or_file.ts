/**
 * Opens what a path leads to: a FIFO (containerd's) or a plain file.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { ByteSink, ByteSource } from "./byte_ends.ts";
import { FifoSink, FifoSource, openError } from "./fifo.ts";
import type { FifoKeeper } from "./fifo_holder.ts";
import { FileSink, FileSource } from "./file_ends.ts";

/**
 * Opens a path to read from; never waits for the other side of a FIFO.
 *
 * @param path An absolute path.
 * @param what What it is, for messages, such as `stdin of container "a"`.
 * @param keeper Holds a FIFO beyond this process.
 * @throws {SandboxError} `NotFound`, `PermissionDenied`, `InvalidArgument` for a directory.
 */
export function openSource(path: string, what: string, keeper?: FifoKeeper): ByteSource {
  if (isFifo(path, what)) return new FifoSource(path, what, keeper);
  return new FileSource(openFile(path, what, { read: true }));
}

/**
 * Opens a path to write to; never waits for the other side of a FIFO.
 *
 * @param path An absolute path.
 * @param what What it is, for messages, such as `stdout of container "a"`.
 * @param keeper Holds a FIFO beyond this process.
 * @param isPatient Whether the reader of a FIFO may take as long as it likes.
 * @throws {SandboxError} `NotFound`, `PermissionDenied`, `InvalidArgument` for a directory.
 */
export function openSink(
  path: string,
  what: string,
  keeper?: FifoKeeper,
  isPatient = false,
): ByteSink {
  if (isFifo(path, what)) return new FifoSink(path, what, keeper, isPatient);
  return new FileSink(openFile(path, what, { append: true }));
}

function isFifo(path: string, what: string): boolean {
  const status = attemptOpen(path, what, () => Deno.statSync(path));
  if (status.isDirectory) {
    throw new SandboxError("InvalidArgument", `cannot open ${what} "${path}": it is a directory`);
  }
  return status.isFifo === true;
}

function openFile(path: string, what: string, options: Deno.OpenOptions): Deno.FsFile {
  return attemptOpen(path, what, () => Deno.openSync(path, options));
}

function attemptOpen<T>(path: string, what: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    throw openError(error, path, what);
  }
}
