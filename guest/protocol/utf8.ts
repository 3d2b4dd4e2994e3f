/**
 * UTF-8 for both ends. QuickJS has no TextEncoder and no TextDecoder; where there are any they are
 * taken. An engine's owner may put in something faster of its own.
 *
 * @module
 */

/** Turns text into UTF-8 and back. */
export interface Utf8 {
  /** Lone surrogates become U+FFFD. */
  encode(text: string): Uint8Array;
  /**
   * Turns UTF-8 into text.
   *
   * @throws {Error} On bytes that are not UTF-8.
   */
  decode(bytes: Uint8Array): string;
}

/** Arguments of one call of `String.fromCharCode`. */
const CALL_ARGUMENTS = 8192;

/** UTF-8 with nothing but the language. */
export const plainUtf8: Utf8 = { encode: encodePlain, decode: decodePlain };

let codec: Utf8 = platformUtf8() ?? plainUtf8;

/** Takes another implementation, such as one in C. */
export function useUtf8(other: Utf8): void {
  codec = other;
}

/** Text as UTF-8. Lone surrogates become U+FFFD. */
export function encodeUtf8(text: string): Uint8Array {
  return codec.encode(text);
}

/**
 * UTF-8 as text.
 *
 * @throws {Error} On bytes that are not UTF-8.
 */
export function decodeUtf8(bytes: Uint8Array): string {
  return codec.decode(bytes);
}

function platformUtf8(): Utf8 | undefined {
  if (typeof TextEncoder === "undefined" || typeof TextDecoder === "undefined") return undefined;
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  return { encode: (text) => encoder.encode(text), decode: (bytes) => decoder.decode(bytes) };
}

function encodePlain(text: string): Uint8Array {
  const { length } = text;
  const ascii = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 0x80) return encodeFrom(text, i, ascii.subarray(0, i));
    ascii[i] = code;
  }
  return ascii;
}

/** Goes on with text that is not ASCII from `start` on. */
function encodeFrom(text: string, start: number, head: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(start + (text.length - start) * 3);
  bytes.set(head);
  let at = start;
  for (let i = start; i < text.length; i++) {
    let code = text.codePointAt(i) ?? 0;
    if (code >= 0x10000) i++;
    else if (code >= 0xd800 && code < 0xe000) code = 0xfffd;
    if (code < 0x80) {
      bytes[at++] = code;
      continue;
    }
    if (code < 0x800) {
      bytes[at++] = 0xc0 | code >> 6;
    } else {
      if (code < 0x10000) {
        bytes[at++] = 0xe0 | code >> 12;
      } else {
        bytes[at++] = 0xf0 | code >> 18;
        bytes[at++] = 0x80 | code >> 12 & 0x3f;
      }
      bytes[at++] = 0x80 | code >> 6 & 0x3f;
    }
    bytes[at++] = 0x80 | code & 0x3f;
  }
  return bytes.slice(0, at);
}

function decodePlain(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += CALL_ARGUMENTS) {
    // The engine's own loop, one byte to one character; right for ASCII.
    text += String.fromCharCode.apply(
      null,
      bytes.subarray(at, at + CALL_ARGUMENTS) as unknown as number[],
    );
  }
  return /[\x80-\xff]/.test(text) ? decodeBytes(bytes) : text;
}

function decodeBytes(bytes: Uint8Array): string {
  let text = "";
  let codes: number[] = [];
  for (let at = 0; at < bytes.length;) {
    const first = bytes[at] ?? 0;
    const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    codes.push(length === 1 ? first : decodeOne(bytes, at, length));
    at += length;
    if (codes.length === CALL_ARGUMENTS) {
      text += String.fromCodePoint(...codes);
      codes = [];
    }
  }
  return text + String.fromCodePoint(...codes);
}

/** The smallest code point of each length: a longer form of a smaller one is not UTF-8. */
const SMALLEST = [0, 0, 0x80, 0x800, 0x10000];

function decodeOne(bytes: Uint8Array, at: number, length: number): number {
  const first = bytes[at] ?? 0;
  if (first < 0xc2 || first > 0xf4) throw new Error(`byte ${first} begins no character of UTF-8`);
  let code = first & 0xff >> length + 1;
  for (let i = 1; i < length; i++) {
    const byte = bytes[at + i] ?? 0;
    if ((byte & 0xc0) !== 0x80) throw new Error(`byte ${byte} goes on no character of UTF-8`);
    code = code << 6 | byte & 0x3f;
  }
  if (code < (SMALLEST[length] ?? 0) || code > 0x10ffff || code >= 0xd800 && code < 0xe000) {
    throw new Error(`${code} is not a character of UTF-8`);
  }
  return code;
}
