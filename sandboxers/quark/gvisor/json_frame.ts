/**
 * Finds the end of a JSON object in a stream of bytes: what the control socket of a sandbox says has
 * no length and no separator. It only counts brackets outside of strings; what is between them is
 * JSON.parse's to judge.
 *
 * @module
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPENING: ReadonlySet<number> = new Set([0x7b, 0x5b]);
const CLOSING: ReadonlySet<number> = new Set([0x7d, 0x5d]);
const OBJECT = 0x7b;

/** Where a scan stands. */
export type FrameState =
  /** More bytes are needed. */
  | "partial"
  /** The object has ended. */
  | "complete"
  /** It does not begin as an object, or goes on after its end. */
  | "garbage";

/** Looks at the bytes of one object as they come. */
export class JsonFrame {
  #depth = 0;
  #inString = false;
  #escaped = false;
  #state: FrameState = "partial";

  /** Where it stands. */
  get state(): FrameState {
    return this.#state;
  }

  /**
   * Looks at the next bytes.
   *
   * @param bytes As they came.
   * @returns Where it stands after them; `garbage` is for good.
   */
  push(bytes: Uint8Array): FrameState {
    for (const byte of bytes) {
      if (this.#state !== "partial") this.#state = "garbage";
      else if (this.#inString) this.#pushInString(byte);
      else this.#pushOutside(byte);
      if (this.#state === "garbage") break;
    }
    return this.#state;
  }

  #pushInString(byte: number): void {
    if (this.#escaped) this.#escaped = false;
    else if (byte === BACKSLASH) this.#escaped = true;
    else if (byte === QUOTE) this.#inString = false;
  }

  #pushOutside(byte: number): void {
    if (this.#depth === 0 && byte !== OBJECT) this.#state = "garbage";
    else if (byte === QUOTE) this.#inString = true;
    else if (OPENING.has(byte)) this.#depth++;
    else if (CLOSING.has(byte) && --this.#depth === 0) this.#state = "complete";
  }
}
