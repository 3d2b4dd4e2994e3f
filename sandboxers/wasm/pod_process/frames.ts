/**
 * Frames between sandboxer and pod process: four bytes of length, least significant first, and that
 * many bytes of JSON in UTF-8. Everything that is not such a frame is an error of the connection.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";

/** Most bytes of one frame's JSON: containerd's largest message. */
export const FRAME_BYTES_MAX = 16_777_216;

const HEADER_BYTES = 4;

/**
 * Encodes one frame.
 *
 * @param value Anything that JSON can hold.
 * @throws {SandboxError} `ResourceExhausted` when it is too large.
 */
export function encodeFrame(value: unknown): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(JSON.stringify(value));
  if (json.length > FRAME_BYTES_MAX) {
    throw new SandboxError(
      "ResourceExhausted",
      `cannot send a message of ${json.length} bytes: most are ${FRAME_BYTES_MAX}`,
    );
  }
  const frame = new Uint8Array(HEADER_BYTES + json.length);
  new DataView(frame.buffer).setUint32(0, json.length, true);
  frame.set(json, HEADER_BYTES);
  return frame;
}

/** Puts frames together from what arrives. */
export class FrameDecoder {
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });

  /**
   * Takes the next bytes.
   *
   * @param chunk As they arrived.
   * @returns The values of the frames that are complete now.
   * @throws {SandboxError} `InvalidArgument` for what is no frame; then nothing more can be read.
   */
  push(chunk: Uint8Array): unknown[] {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    const values: unknown[] = [];
    for (;;) {
      const length = this.#nextLength();
      if (length === undefined || this.#bytes < HEADER_BYTES + length) return values;
      values.push(this.#parse(this.#take(HEADER_BYTES + length).subarray(HEADER_BYTES)));
    }
  }

  /** The length of the next frame, once its header is there. */
  #nextLength(): number | undefined {
    if (this.#bytes < HEADER_BYTES) return undefined;
    const [first] = this.#chunks;
    const head = first !== undefined && first.length >= HEADER_BYTES ? first : this.#join();
    const length = new DataView(head.buffer, head.byteOffset, head.byteLength).getUint32(0, true);
    if (length > 0 && length <= FRAME_BYTES_MAX) return length;
    throw new SandboxError("InvalidArgument", `cannot read a frame: its length is ${length}`);
  }

  /** All that is there, as one chunk. */
  #join(): Uint8Array {
    const joined = new Uint8Array(this.#bytes);
    let at = 0;
    for (const chunk of this.#chunks) {
      joined.set(chunk, at);
      at += chunk.length;
    }
    this.#chunks = [joined];
    return joined;
  }

  #take(length: number): Uint8Array {
    const [first] = this.#chunks;
    const all = this.#chunks.length === 1 && first !== undefined ? first : this.#join();
    this.#bytes -= length;
    this.#chunks = this.#bytes === 0 ? [] : [all.subarray(length)];
    return all.subarray(0, length);
  }

  #parse(json: Uint8Array): unknown {
    try {
      return JSON.parse(this.#decoder.decode(json));
    } catch (cause) {
      throw new SandboxError("InvalidArgument", "cannot read a frame: it is not JSON", { cause });
    }
  }
}
