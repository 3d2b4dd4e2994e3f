/**
 * The format of a container's log, which is that of CRI: a line for each piece of output, with when it
 * came, from which stream, and whether the line of the container ends with it (`F`) or goes on in the
 * next piece (`P`).
 *
 * Source: Kubernetes, "CRI: log management" (design proposal), and containerd
 * internal/cri/io/logger.go.
 *
 * @module
 */

/** A stream of output. */
export type OutputName = "stdout" | "stderr";

/** A piece of output as it is kept. */
export interface LogPiece {
  /** When it came, as in RFC 3339, UTC with milliseconds; texts of that form compare as times do. */
  readonly time: string;
  /** From which stream. */
  readonly stream: OutputName;
  /** Whether the line goes on in the next piece; else a line feed follows. */
  readonly partial: boolean;
  /** The output, without the line feed. */
  readonly content: Uint8Array;
}

/** Most bytes of output in a piece; longer lines have several. */
export const PIECE_BYTES_MAX: number = 16 * 1024;

/** The length of a time. */
export const TIME_LENGTH: number = "2026-01-01T00:00:00.000Z".length;
/** Where the output begins: after the time, the stream and the tag, each with a space. */
export const PREFIX_LENGTH: number = TIME_LENGTH + " stdout F ".length;
/** Where the tag is. */
const TAG_AT = PREFIX_LENGTH - 2;

const LINE_FEED = 0x0a;
const SPACE = 0x20;
const FULL = 0x46;
const PARTIAL = 0x50;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * Output as lines of the log. What comes after the last line feed is a piece of its own, at once: so
 * nothing is kept back that a crash could lose, and a prompt is seen as soon as it is written.
 *
 * @param stream From which stream.
 * @param bytes The output.
 * @param atMs When it came, in milliseconds since the epoch.
 */
export function formatOutput(
  stream: OutputName,
  bytes: Uint8Array,
  atMs: number,
): Uint8Array<ArrayBuffer> {
  const prefix = encoder.encode(`${new Date(atMs).toISOString()} ${stream} F `);
  const lines = new Uint8Array(bytes.length + pieces(bytes) * (prefix.length + 1));
  let filled = 0;
  forEachPiece(bytes, (begin, end, isFull) => {
    lines.set(prefix, filled);
    if (!isFull) lines[filled + TAG_AT] = PARTIAL;
    filled += prefix.length;
    lines.set(bytes.subarray(begin, end), filled);
    filled += end - begin;
    lines[filled++] = LINE_FEED;
  });
  return lines.subarray(0, filled);
}

function pieces(bytes: Uint8Array): number {
  let count = 0;
  forEachPiece(bytes, () => count++);
  return count;
}

function forEachPiece(
  bytes: Uint8Array,
  visit: (begin: number, end: number, isFull: boolean) => void,
): void {
  for (let begin = 0; begin < bytes.length;) {
    const feed = bytes.indexOf(LINE_FEED, begin);
    const end = feed < 0 ? bytes.length : feed;
    if (end - begin > PIECE_BYTES_MAX) {
      visit(begin, begin + PIECE_BYTES_MAX, false);
      begin += PIECE_BYTES_MAX;
      continue;
    }
    visit(begin, end, feed >= 0);
    begin = end + 1;
  }
}

/**
 * The end of the last whole line in some bytes.
 *
 * @returns 0 where none is whole.
 */
export function wholeLines(bytes: Uint8Array): number {
  return bytes.lastIndexOf(LINE_FEED) + 1;
}

/**
 * Goes through whole lines of a log. One that is damaged is left out.
 *
 * @param bytes Whole lines.
 * @param visit Called for each piece, with where the next one begins. Its content is part of `bytes`.
 *   Once it answers `false` no more is read.
 */
export function forEachLine(
  bytes: Uint8Array,
  visit: (piece: LogPiece, next: number) => boolean | void,
): void {
  for (let begin = 0; begin < bytes.length;) {
    const feed = bytes.indexOf(LINE_FEED, begin);
    if (feed < 0) return;
    const piece = parseLine(bytes.subarray(begin, feed));
    begin = feed + 1;
    if (piece !== undefined && visit(piece, begin) === false) return;
  }
}

function parseLine(line: Uint8Array): LogPiece | undefined {
  const tag = line[TAG_AT];
  if ((tag !== FULL && tag !== PARTIAL) || line[PREFIX_LENGTH - 1] !== SPACE) return undefined;
  const head = decoder.decode(line.subarray(0, TAG_AT));
  const stream = head.slice(TIME_LENGTH + 1, -1);
  if (stream !== "stdout" && stream !== "stderr") return undefined;
  return {
    time: head.slice(0, TIME_LENGTH),
    stream,
    partial: tag === PARTIAL,
    content: line.subarray(PREFIX_LENGTH),
  };
}

/**
 * Output as it was written, of pieces that follow each other.
 *
 * @param pieces Of one stream.
 */
export function outputOf(pieces: readonly LogPiece[]): Uint8Array<ArrayBuffer> {
  const length = pieces.reduce(
    (sum, { content, partial }) => sum + content.length + (partial ? 0 : 1),
    0,
  );
  const output = new Uint8Array(length);
  let filled = 0;
  for (const { content, partial } of pieces) {
    output.set(content, filled);
    filled += content.length;
    if (!partial) output[filled++] = LINE_FEED;
  }
  return output;
}
