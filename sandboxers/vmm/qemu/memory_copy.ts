/**
 * Copies of a guest's memory. Most of a guest's memory was never touched; a copy leaves out what is
 * zero, so that it takes no more room than the original.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { abortError, SandboxError } from "../../lifecycle/errors.ts";

/** How much is read at once. */
const CHUNK_BYTES = 1 << 20;
/** The grain in which zeros are left out. */
const GRAIN_BYTES = 64 << 10;

const ZEROS = new Uint8Array(GRAIN_BYTES);

/**
 * Copies a file sparsely.
 *
 * @param from The file, open for reading; it is read from its start.
 * @param to Where the copy goes; an existing file is replaced. It is removed on failure.
 * @param mode The copy's mode.
 * @param signal Gives up.
 * @throws {SandboxError} `ResourceExhausted` where the disk is full; `Cancelled`.
 */
export async function copySparsely(
  from: Deno.FsFile,
  to: string,
  mode: number,
  signal?: AbortSignal,
): Promise<void> {
  const action = `cannot copy a guest's memory to "${to}"`;
  const { size } = await from.stat();
  await Deno.remove(to).catch(() => undefined);
  try {
    using copy = await Deno.open(to, { write: true, createNew: true, mode });
    await copy.truncate(size);
    await from.seek(0, Deno.SeekMode.Start);
    const buffer = new Uint8Array(CHUNK_BYTES);
    for (let offset = 0; offset < size;) {
      if (signal?.aborted === true) throw abortError(signal, action);
      const length = await readFull(from, buffer);
      if (length === 0) break;
      await writeUsed(copy, buffer.subarray(0, length), offset);
      offset += length;
    }
  } catch (thrown) {
    await Deno.remove(to).catch(() => undefined);
    throw SandboxError.from(thrown, action);
  }
}

async function readFull(file: Deno.FsFile, buffer: Uint8Array): Promise<number> {
  let length = 0;
  while (length < buffer.length) {
    const read = await file.read(buffer.subarray(length));
    if (read === null || read === 0) break;
    length += read;
  }
  return length;
}

/** Writes the runs of a chunk that are not zero. */
async function writeUsed(file: Deno.FsFile, chunk: Uint8Array, offset: number): Promise<void> {
  for (let start = 0; start < chunk.length;) {
    if (isZero(chunk, start)) {
      start += GRAIN_BYTES;
      continue;
    }
    let end = start + GRAIN_BYTES;
    while (end < chunk.length && !isZero(chunk, end)) end += GRAIN_BYTES;
    await file.seek(offset + start, Deno.SeekMode.Start);
    let rest = chunk.subarray(start, end);
    while (rest.length > 0) rest = rest.subarray(await file.write(rest));
    start = end;
  }
}

function isZero(chunk: Uint8Array, start: number): boolean {
  const grain = chunk.subarray(start, start + GRAIN_BYTES);
  return Buffer.compare(grain, ZEROS.subarray(0, grain.length)) === 0;
}
