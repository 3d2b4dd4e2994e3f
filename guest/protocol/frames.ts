/**
 * Frames: what travels on the wire. Each has a header of 24 bytes with a check over itself, at most
 * 32 KiB with all (128 KiB for bytes of a wide stream from the guest), and a trailer that tells
 * whether the payload was cut. All numbers are little endian.
 *
 * ```
 *  0  u8   0x51
 *  1  u8   0xA0 + version of the framing
 *  2  u8   type
 *  3  u8   flags
 *  4  u32  id: stream or request
 *  8  u32  length of the payload
 * 12  u32  a   } DATA: offset in the stream, low and high
 * 16  u32  b   } control: sequence number; the number that is expected from the other side
 * 20  u32  check over the words before; its last byte is never 0
 * 24  payload
 *     u32  trailer, made of the check; its last byte is never 0
 * ```
 *
 * There is no check over payloads: the channel loses bytes only when a connection is cut, and then
 * all bytes up to the next connection.
 *
 * **After a cut.** A receiver in the guest may sit in the middle of a frame whose rest will never
 * come. The next host says OPEN; where that is not answered in time, `FRAME_BYTES_MAX` zeros and OPEN
 * again. So the frame that was cut ends in zeros, where no trailer and no header can be, is dropped as
 * a whole, and the search for OPEN goes over nothing but zeros. No byte of a payload is ever taken for
 * a frame, whoever wrote it. The host begins each connection by looking for the OPEN_ACK that repeats
 * the random number of its OPEN, which no container can know; from there on a frame that is not
 * whole is a breach of protocol.
 *
 * @module
 */

import { FRAME_BYTES_MAX, WIDE_FRAME_BYTES_MAX } from "./limits.ts";

/** The version of the framing; another one is not understood at all. */
export const FRAMING_VERSION = 1;

/** Bytes of a header. */
export const HEADER_BYTES = 24;

/** Bytes of a trailer. */
export const TRAILER_BYTES = 4;

/** Bytes of a frame beside its payload. */
export const OVERHEAD_BYTES: number = HEADER_BYTES + TRAILER_BYTES;

/** The largest payload of a frame, but for {@link WIDE_DATA_BYTES_MAX}. */
export const DATA_BYTES_MAX: number = FRAME_BYTES_MAX - OVERHEAD_BYTES;

/** The largest payload of a frame from a guest. */
export const WIDE_DATA_BYTES_MAX: number = WIDE_FRAME_BYTES_MAX - OVERHEAD_BYTES;

/** First byte of a frame. */
export const MAGIC = 0x51;

const MAGIC_VERSION = 0xa0 + FRAMING_VERSION;
const MAGIC_WORD = MAGIC | MAGIC_VERSION << 8;

/** What a frame is. */
export const FRAME = {
  /** Host: a connection begins. Payload: {@link Opening}. */
  open: 1,
  /** Guest: the answer to `open`. Payload: {@link Opening}. */
  openAck: 2,
  /** Host: are you there? `id` comes back in the answer. */
  ping: 3,
  /** Guest: I am. */
  pong: 4,
  /** Control frames up to `b` have come. */
  acknowledge: 5,
  /** Control, host: `{op, args}`; `id` is the request's. */
  request: 16,
  /** Control, guest: the result, or with {@link FLAG.failed} an `AgentFailure`. */
  answer: 17,
  /** Control, guest: an `AgentEvent`. */
  event: 18,
  /** Control: stream `id` is over; with {@link FLAG.finished} as all was consumed. Payload: why. */
  close: 19,
  /** Bytes of stream `id` from offset `a`, `b` on; with {@link FLAG.end} the last ones. */
  data: 32,
  /** The receiver of stream `id` tells how far it is. Payload: {@link Window}. */
  window: 33,
  /** The sender of stream `id` wants a `window` with {@link FLAG.resume}. */
  ask: 34,
} as const;

/** Flags of frames; their meaning depends on the type. */
export const FLAG = {
  /** Control: more parts of this message follow. */
  more: 1,
  /** Answer: it is a failure. */
  failed: 2,
  /** Close: everything was consumed. */
  finished: 2,
  /** Data: the stream ends after this. */
  end: 2,
  /** Window: begin to send (again) at `received`. */
  resume: 2,
  /** Window, with `resume`: the receiver does not know where the stream is; begin at what is kept. */
  unknown: 4,
  /** Window and ask: the stream must be there already; else it is answered with `close`. */
  adopt: 8,
  /** Open answer: the session goes on. */
  resumed: 2,
  /** Open answer: the guest makes wide frames for streams with a wide window. */
  wide: 4,
} as const;

/** Whether a type belongs to the control messages, which are numbered and never lost. */
export function isControl(type: number): boolean {
  return type >= 16 && type < 32;
}

/** Header fields of a frame. */
export interface FrameHead {
  /** One of {@link FRAME}, or something newer. */
  type: number;
  /** See {@link FLAG}. */
  flags: number;
  /** Stream or request. */
  id: number;
  /** Length of the payload in bytes. */
  length: number;
  /** See the table above. */
  a: number;
  /** See the table above. */
  b: number;
  /** The header's check, from which the trailer is made. */
  check: number;
}

/** An empty head to decode into. */
export function emptyHead(): FrameHead {
  return { type: 0, flags: 0, id: 0, length: 0, a: 0, b: 0, check: 0 };
}

function checkOf(w0: number, w1: number, w2: number, w3: number, w4: number): number {
  let h = Math.imul(w0 ^ 0x9e3779b9, 0x85ebca6b);
  h = Math.imul(h ^ h >>> 15 ^ w1, 0xc2b2ae35);
  h = Math.imul(h ^ h >>> 13 ^ w2, 0x27d4eb2f);
  h = Math.imul(h ^ h >>> 16 ^ w3, 0x165667b1);
  h = Math.imul(h ^ h >>> 15 ^ w4, 0x85ebca6b);
  // The highest bit keeps the last byte from being 0.
  return (h ^ h >>> 13 | 0x8000_0000) >>> 0;
}

function trailerOf(check: number): number {
  return (check ^ 0x5bd1_e995 | 0x8000_0000) >>> 0;
}

/**
 * Writes header and trailer around a payload that is in place.
 *
 * @param bytes The whole frame: header, payload, trailer.
 * @param type See {@link FRAME}.
 * @param flags See {@link FLAG}.
 * @param id Stream or request.
 * @param a See the table above.
 * @param b See the table above.
 */
export function sealFrame(
  bytes: Uint8Array,
  type: number,
  flags: number,
  id: number,
  a: number,
  b: number,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const first = (MAGIC_WORD | type << 16 | flags << 24) >>> 0;
  const length = bytes.byteLength - OVERHEAD_BYTES;
  const check = checkOf(first, id, length, a, b);
  view.setUint32(0, first, true);
  view.setUint32(4, id, true);
  view.setUint32(8, length, true);
  view.setUint32(12, a, true);
  view.setUint32(16, b, true);
  view.setUint32(20, check, true);
  view.setUint32(HEADER_BYTES + length, trailerOf(check), true);
}

/**
 * A frame with a copy of a payload.
 *
 * @param type See {@link FRAME}.
 * @param flags See {@link FLAG}.
 * @param id Stream or request.
 * @param payload At most {@link DATA_BYTES_MAX} bytes.
 */
export function makeFrame(
  type: number,
  flags: number,
  id: number,
  payload: Uint8Array,
  a = 0,
  b = 0,
): Uint8Array {
  const bytes = new Uint8Array(OVERHEAD_BYTES + payload.length);
  bytes.set(payload, HEADER_BYTES);
  sealFrame(bytes, type, flags, id, a, b);
  return bytes;
}

/**
 * Reads a header.
 *
 * @param view At least {@link HEADER_BYTES} from `at` on.
 * @param at Where it begins.
 * @param head Filled in.
 * @param dataBytesMax The largest payload that may be.
 * @returns Whether it is one.
 */
export function readHead(
  view: DataView,
  at: number,
  head: FrameHead,
  dataBytesMax: number = DATA_BYTES_MAX,
): boolean {
  const first = view.getUint32(at, true);
  if ((first & 0xffff) !== MAGIC_WORD) return false;
  const id = view.getUint32(at + 4, true);
  const length = view.getUint32(at + 8, true);
  const a = view.getUint32(at + 12, true);
  const b = view.getUint32(at + 16, true);
  const check = view.getUint32(at + 20, true);
  if (length > dataBytesMax || check !== checkOf(first, id, length, a, b)) return false;
  head.type = first >>> 16 & 0xff;
  head.flags = first >>> 24;
  head.id = id;
  head.length = length;
  head.a = a;
  head.b = b;
  head.check = check;
  return true;
}

/** Whether the trailer at a place belongs to a header. */
export function isTrailer(view: DataView, at: number, head: FrameHead): boolean {
  return view.getUint32(at, true) === trailerOf(head.check);
}

/** What OPEN and its answer say. */
export interface Opening {
  /** A random number of this connection, as the host chose it: 8 bytes. */
  readonly nonce: Uint8Array;
  /** A random number of the host process: 8 bytes. */
  readonly session: Uint8Array;
  /** The version of the messages. */
  readonly protocol: number;
  /** The number of the next control frame that is expected from the other side. */
  readonly expected: number;
}

/** Bytes of an {@link Opening}. */
export const OPENING_BYTES = 24;

/** Writes an OPEN or its answer. */
export function openingFrame(type: number, flags: number, opening: Opening): Uint8Array {
  const payload = new Uint8Array(OPENING_BYTES);
  payload.set(opening.nonce, 0);
  payload.set(opening.session, 8);
  const view = new DataView(payload.buffer);
  view.setUint32(16, opening.protocol, true);
  view.setUint32(20, opening.expected, true);
  return makeFrame(type, flags, 0, payload);
}

/** Reads what {@link openingFrame} wrote; undefined where the length is wrong. */
export function readOpening(payload: Uint8Array): Opening | undefined {
  if (payload.length !== OPENING_BYTES) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  return {
    nonce: payload.slice(0, 8),
    session: payload.slice(8, 16),
    protocol: view.getUint32(16, true),
    expected: view.getUint32(20, true),
  };
}

/** Whether two random numbers are the same. */
export function sameNumber(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** What the receiver of a stream tells. */
export interface Window {
  /** Offset up to which bytes were consumed. */
  readonly consumed: number;
  /** Offset up to which bytes have come. */
  readonly received: number;
  /** How many bytes after `consumed` may be on the way. */
  readonly bytes: number;
}

/** Bytes of a {@link Window}. */
export const WINDOW_BYTES = 20;

/** Writes a WINDOW frame for a stream. */
export function windowFrame(id: number, flags: number, window: Window): Uint8Array {
  const bytes = new Uint8Array(OVERHEAD_BYTES + WINDOW_BYTES);
  const view = new DataView(bytes.buffer);
  putOffset(view, HEADER_BYTES, window.consumed);
  putOffset(view, HEADER_BYTES + 8, window.received);
  view.setUint32(HEADER_BYTES + 16, window.bytes, true);
  sealFrame(bytes, FRAME.window, flags, id, 0, 0);
  return bytes;
}

/** Reads what {@link windowFrame} wrote; undefined where it cannot be right. */
export function readWindow(payload: Uint8Array): Window | undefined {
  if (payload.length !== WINDOW_BYTES) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const consumed = offsetOf(view.getUint32(0, true), view.getUint32(4, true));
  const received = offsetOf(view.getUint32(8, true), view.getUint32(12, true));
  if (consumed === undefined || received === undefined || consumed > received) return undefined;
  return { consumed, received, bytes: view.getUint32(16, true) };
}

const WORD = 0x1_0000_0000;

/** The high word of an offset; the low one is `offset >>> 0`. */
export function highWord(offset: number): number {
  return Math.floor(offset / WORD);
}

/** An offset of two words; undefined where it is not a safe integer. */
export function offsetOf(low: number, high: number): number | undefined {
  const offset = high * WORD + low;
  return Number.isSafeInteger(offset) ? offset : undefined;
}

function putOffset(view: DataView, at: number, offset: number): void {
  view.setUint32(at, offset >>> 0, true);
  view.setUint32(at + 4, highWord(offset), true);
}
