/**
 * Keys that leave a process alone instead of going to it, such as Ctrl-P Ctrl-Q.
 *
 * @module
 */

import { UsageError } from "../usage_error.ts";

/** The keys unless others are asked for, as other container tools have them. */
export const DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q";

/** Of `ctrl-X`: the bits of X that are left. */
const CONTROL_BITS = 0x1f;

/** Looks for the keys in what is typed. */
export class DetachKeys {
  readonly #keys: readonly number[];
  /** How many of them were typed last. */
  #typed = 0;

  /**
   * Waits for these keys.
   *
   * @param keys Their bytes, at least one.
   */
  constructor(keys: readonly number[]) {
    this.#keys = keys;
  }

  /**
   * Takes what was typed.
   *
   * @param typed Bytes.
   * @returns What of it goes to the process, and whether the keys have come. Keys that may be the
   *   first of them are held back until it is known.
   */
  pass(typed: Uint8Array): { readonly bytes: Uint8Array; readonly detach: boolean } {
    const passed: number[] = [];
    for (const byte of typed) {
      if (byte !== this.#keys[this.#typed]) {
        passed.push(...this.#keys.slice(0, this.#typed));
        this.#typed = 0;
      }
      if (byte === this.#keys[this.#typed]) this.#typed++;
      else passed.push(byte);
      if (this.#typed === this.#keys.length) {
        return { bytes: Uint8Array.from(passed), detach: true };
      }
    }
    return { bytes: Uint8Array.from(passed), detach: false };
  }
}

/**
 * Reads keys.
 *
 * @param text Such as `ctrl-p,ctrl-q` or `ctrl-a,d`; empty for none.
 * @returns Undefined for none.
 * @throws {UsageError}
 */
export function parseDetachKeys(text: string): DetachKeys | undefined {
  if (text === "") return undefined;
  const keys = text.split(",").map((key) => {
    const control = /^ctrl-([a-z@[\\\]^_])$/i.exec(key)?.[1];
    if (control !== undefined) return control.toUpperCase().charCodeAt(0) & CONTROL_BITS;
    if (/^[\x21-\x7e]$/.test(key)) return key.charCodeAt(0);
    throw new UsageError(
      `Invalid --detach-keys ${JSON.stringify(text)}: expected keys with commas between them, ` +
        `each ctrl-X or one character, such as ${DEFAULT_DETACH_KEYS}`,
    );
  });
  return new DetachKeys(keys);
}
