/**
 * Collects a stream's bytes, up to a bound.
 *
 * @module
 */

import { concat } from "../bytes.ts";
import { SandboxError } from "../lifecycle/errors.ts";

/**
 * Reads a stream to its end.
 *
 * @param bytesMax Most bytes to keep.
 * @param what What is read, for messages.
 * @throws {SandboxError} `ResourceExhausted` beyond the bound; the stream is cancelled then.
 */
export async function collect(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  bytesMax: number,
  what: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for await (const chunk of stream) {
    length += chunk.length;
    if (length > bytesMax) {
      throw new SandboxError(
        "ResourceExhausted",
        `cannot collect ${what}: more than ${bytesMax} bytes`,
      );
    }
    chunks.push(chunk);
  }
  return concat(chunks);
}
