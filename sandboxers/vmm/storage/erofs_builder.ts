/**
 * Builds erofs images by mkfs.erofs: a file tree with its owners, modes, times, extended attributes
 * and special files in one read-only file. Equal trees give equal images.
 *
 * @module
 */

import { abortError, SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";

/** Whether the content of images is compressed. */
export type ImageCompression = "none" | "lz4";

/** The program, where Debian's erofs-utils has it. */
export const MKFS_EROFS = "/usr/bin/mkfs.erofs";

/** Another one whenever images come out different from equal trees: it is in the cache's keys. */
export const IMAGE_VERSION = 1;

/** How often the size of an image is looked at while it grows, in milliseconds. */
const LOOK_MS = 250;
/** How much of what the program says is kept, in characters. */
const TEXT_LENGTH_MAX = 500;

/** What an image is built from, and how far it may go. */
export interface BuildOptions {
  /** The directory whose content becomes the image. */
  readonly source: string;
  /** The file to make; it is not there. */
  readonly target: string;
  /** Whether file content is compressed. */
  readonly compression: ImageCompression;
  /** Most bytes of the image. */
  readonly bytesMax: number;
  /** How long it may take, in milliseconds. */
  readonly timeoutMs: number;
  /** The program (default: {@link MKFS_EROFS}). */
  readonly program?: string;
}

/**
 * Builds an image.
 *
 * @param options What from.
 * @param signal Aborted when nobody wants it any more.
 * @throws {SandboxError} `ResourceExhausted` where the disk is full; `FailedPrecondition` where the
 *   image gets too large, or the program is missing or fails; `Cancelled`, `DeadlineExceeded`.
 *   Nothing is left of the file then.
 */
export async function buildErofs(options: BuildOptions, signal: AbortSignal): Promise<void> {
  const { source, target, timeoutMs, program = MKFS_EROFS } = options;
  const action = `cannot build an image of "${source}"`;
  throwIfAborted(signal, action);
  const limit = new AbortController();
  const timer = setTimeout(() => {
    limit.abort(new SandboxError("DeadlineExceeded", `${action}: no end after ${timeoutMs} ms`));
  }, timeoutMs);
  const ended = AbortSignal.any([signal, limit.signal]);
  const watch = setInterval(() => void refuseGrowth(options, action, limit), LOOK_MS);
  try {
    const child = spawn(program, argumentsOf(options), action, ended);
    const [{ code }, text] = await Promise.all([child.status, lastText(child.stderr)]);
    if (ended.aborted) throw abortError(ended, action);
    if (code !== 0) throw failure(action, target, code, text);
  } catch (error) {
    await Deno.remove(target).catch(() => {});
    throw SandboxError.from(error, action);
  } finally {
    clearTimeout(timer);
    clearInterval(watch);
  }
}

/**
 * The time of the build is set, and so is the volume's id: all else comes from the tree. Strict times
 * of files are kept (`--preserve-mtime` is the default), and inodes are numbered by path.
 */
function argumentsOf({ source, target, compression }: BuildOptions): string[] {
  return [
    "--quiet",
    "-d1",
    "-T0",
    "--mkfs-time",
    "-Uclear",
    ...(compression === "none" ? [] : [`-z${compression}`]),
    target,
    source,
  ];
}

function spawn(
  program: string,
  args: string[],
  action: string,
  signal: AbortSignal,
): Deno.ChildProcess {
  try {
    return new Deno.Command(program, {
      args,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      clearEnv: true,
      signal,
    }).spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new SandboxError(
      "FailedPrecondition",
      `${action}: no "${program}": install the Debian package erofs-utils`,
      { cause: error },
    );
  }
}

/** Files with holes take no room in the tree, but all of it in an image. */
async function refuseGrowth(
  { target, bytesMax }: BuildOptions,
  action: string,
  limit: AbortController,
): Promise<void> {
  const status = await Deno.stat(target).catch(() => undefined);
  if (status === undefined || status.size <= bytesMax) return;
  limit.abort(
    new SandboxError(
      "FailedPrecondition",
      `${action}: it takes more than ${bytesMax} bytes, the most that a disk of a machine holds`,
    ),
  );
}

function failure(action: string, target: string, code: number, text: string): SandboxError {
  if (/No space left|\[Error 28\]|ENOSPC|Disk quota|\[Error 122\]/i.test(text)) {
    return new SandboxError("ResourceExhausted", `${action}: no space left for "${target}"`);
  }
  const said = [...new Set(text.split("\n").map((line) => line.trim()))].filter(Boolean).join("; ");
  return new SandboxError(
    "FailedPrecondition",
    `${action}: mkfs.erofs ended with ${code}${said === "" ? "" : `: ${said}`}`,
  );
}

/** The end of a text, however long it is. */
async function lastText(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<string> {
  let text = "";
  for await (const piece of stream.pipeThrough(new TextDecoderStream())) {
    text = (text + piece).slice(-TEXT_LENGTH_MAX);
  }
  return text;
}
