/**
 * Files of this host as a tar archive.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { TAR_END, tarHeader, tarPadding } from "./tar_writer.ts";

/** Content is read in pieces of this size, in bytes. */
const PIECE_BYTES = 65_536;

/**
 * Packs a file or a directory with all that is below it. Links are packed as links; sockets, devices
 * and FIFOs are left out, and told.
 *
 * @param source The file or directory.
 * @param name What it is called in the archive.
 * @param onLeftOut Hears of what is left out.
 * @throws {SandboxError} Where something cannot be read.
 */
export async function* pack(
  source: string,
  name: string,
  onLeftOut: (path: string) => void,
): AsyncGenerator<Uint8Array> {
  try {
    yield* packOne(source, name, onLeftOut);
  } catch (error) {
    throw SandboxError.from(error, `cannot read "${source}"`);
  }
  yield TAR_END;
}

async function* packOne(
  source: string,
  name: string,
  onLeftOut: (path: string) => void,
): AsyncGenerator<Uint8Array> {
  const { isFile, isDirectory, isSymlink, mode, mtime } = await Deno.lstat(source);
  const common = {
    target: "",
    sizeBytes: 0,
    mode: mode ?? 0o644,
    mtimeSeconds: (mtime?.getTime() ?? 0) / 1000,
  };
  if (isSymlink) {
    const target = await Deno.readLink(source);
    yield tarHeader({ ...common, kind: "symlink", path: name, target });
  } else if (isDirectory) {
    yield tarHeader({ ...common, kind: "directory", path: `${name}/` });
    const names = await Array.fromAsync(Deno.readDir(source), (entry) => entry.name);
    for (const each of names.sort()) {
      yield* packOne(`${source}/${each}`, `${name}/${each}`, onLeftOut);
    }
  } else if (isFile) {
    yield* packFile(source, { ...common, kind: "file", path: name });
  } else {
    onLeftOut(source);
  }
}

/** A file, as long as it was when it was opened: one that grows or shrinks keeps the archive sound. */
async function* packFile(
  source: string,
  header: Parameters<typeof tarHeader>[0],
): AsyncGenerator<Uint8Array> {
  using file = await Deno.open(source);
  const { size } = await file.stat();
  yield tarHeader({ ...header, sizeBytes: size });
  let rest = size;
  while (rest > 0) {
    const piece = new Uint8Array(Math.min(rest, PIECE_BYTES));
    const got = await file.read(piece);
    if (got === null) break;
    rest -= got;
    yield piece.subarray(0, got);
  }
  while (rest > 0) {
    const zeros = new Uint8Array(Math.min(rest, PIECE_BYTES));
    rest -= zeros.length;
    yield zeros;
  }
  yield tarPadding(size);
}
