/**
 * Streams of layers and archives without their compression, told apart by how they begin.
 *
 * @module
 */

import { pipeline } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";

/** A stream of bytes. */
export type ByteStream = ReadableStream<Uint8Array<ArrayBuffer>>;

/** How compressed streams begin. Sources: RFC 1952, 2.3.1; RFC 8878, 3.1.1. */
const GZIP = [0x1f, 0x8b];
const ZSTD = [0x28, 0xb5, 0x2f, 0xfd];
/** How many bytes tell. */
export const COMPRESSION_MAGIC_BYTES = 4;

/** Ways of compression. */
export type Compression = "gzip" | "zstd";

/**
 * Tells how something is compressed.
 *
 * @param head How it begins: {@link COMPRESSION_MAGIC_BYTES} bytes, or fewer.
 * @returns Undefined where it is not.
 */
export function compressionOf(head: Uint8Array): Compression | undefined {
  const begins = (magic: readonly number[]) => magic.every((byte, at) => head[at] === byte);
  return begins(GZIP) ? "gzip" : begins(ZSTD) ? "zstd" : undefined;
}

/**
 * Takes the compression off a stream; one without is given as it is.
 *
 * @param stream Taken over.
 */
export async function decompressed(stream: ByteStream): Promise<ByteStream> {
  const { head, whole } = await peek(stream);
  const compression = compressionOf(head);
  if (compression === undefined) return whole;
  const decompressor = compression === "gzip" ? createGunzip() : createZstdDecompress();
  // An error of either side ends the iteration below.
  pipeline(whole, decompressor, () => undefined);
  async function* pieces() {
    for await (const piece of decompressor) yield new Uint8Array(piece);
  }
  return ReadableStream.from(pieces());
}

/** Looks at how a stream begins, and gives it back from its start. */
async function peek(stream: ByteStream) {
  const reader = stream.getReader();
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  while (length < COMPRESSION_MAGIC_BYTES) {
    const { value, done } = await reader.read();
    if (done) break;
    chunks.push(value);
    length += value.length;
  }
  const head = new Uint8Array(
    await new Blob(chunks).slice(0, COMPRESSION_MAGIC_BYTES).arrayBuffer(),
  );
  const whole: ByteStream = new ReadableStream({
    async pull(controller) {
      const first = chunks.shift();
      const { value, done } = first === undefined
        ? await reader.read()
        : { value: first, done: false };
      if (done || value === undefined) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return { head, whole };
}
