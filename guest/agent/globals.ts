/**
 * What shared code expects of every JavaScript engine and QuickJS lacks: text encoders, timers,
 * `queueMicrotask` and the symbols of `using`. To be imported first. Under Deno it does nothing.
 *
 * @module
 */

import { after, type Timer } from "./loop.ts";
import * as sys from "./sys.js";

/** `TextEncoder`, UTF-8 only as everywhere. */
class Utf8Encoder {
  readonly encoding = "utf-8";

  encode(text = ""): Uint8Array {
    // Half a surrogate pair, as cutting a text may leave it, is no character of UTF-8.
    if (!text.isWellFormed()) text = text.toWellFormed();
    // A UTF-16 unit never takes more than three bytes.
    const buffer = new ArrayBuffer(text.length * 3);
    return new Uint8Array(buffer.slice(0, sys.encodeUtf8(text, buffer, 0)));
  }
}

/** `TextDecoder`, UTF-8 only; bad bytes are replaced. */
class Utf8Decoder {
  readonly encoding = "utf-8";
  readonly fatal = false;

  decode(bytes?: Uint8Array | ArrayBuffer): string {
    if (bytes === undefined) return "";
    if (bytes instanceof ArrayBuffer) return sys.decodeUtf8(bytes, 0, bytes.byteLength);
    return sys.decodeUtf8(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}

const timers = new Map<number, Timer>();
let lastTimer = 0;

function setTimer(action: () => void, delayMs = 0): number {
  const id = ++lastTimer;
  timers.set(
    id,
    after(delayMs, () => {
      timers.delete(id);
      action();
    }),
  );
  return id;
}

function clearTimer(id: number): void {
  timers.get(id)?.cancel();
  timers.delete(id);
}

function define(target: object, name: string, value: unknown): void {
  if (name in target) return;
  Object.defineProperty(target, name, { value, writable: true, configurable: true });
}

define(Symbol, "dispose", Symbol.for("Symbol.dispose"));
define(Symbol, "asyncDispose", Symbol.for("Symbol.asyncDispose"));
define(globalThis, "TextEncoder", Utf8Encoder);
define(globalThis, "TextDecoder", Utf8Decoder);
define(globalThis, "setTimeout", setTimer);
define(globalThis, "clearTimeout", clearTimer);
define(globalThis, "queueMicrotask", (job: () => void) => {
  Promise.resolve().then(job);
});
