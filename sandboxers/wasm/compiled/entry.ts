/**
 * A file of the cache: a shared library with a record behind it. The loader of shared libraries
 * looks at what the headers at the file's start name and never at what follows, so one file holds
 * both and neither can be there without the other.
 *
 *     library | record as JSON | length of the record, 4 bytes | magic, 8 bytes
 *
 * @module
 */

import { createHash, type Hash } from "node:crypto";

/** What a file says of itself. */
export interface EntryRecord {
  /** SHA-256 of the module that was compiled, in hexadecimal. */
  readonly module: string;
  /** All else that the library depends on, as text; see {@link CacheKey}. */
  readonly key: string;
  /** SHA-256 of the library, in hexadecimal. */
  readonly library: string;
  /** Size of the library in bytes. */
  readonly libraryBytes: number;
  /** When it was made, in milliseconds since the epoch. */
  readonly createdAtMs: number;
}

/** Reads at an offset of a file. */
export interface EntryReader {
  /** Size of the file in bytes. */
  readonly sizeBytes: number;
  /** Reads; less than `length` bytes come back at the end only. */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
}

const MAGIC = new TextEncoder().encode("QSRWASM\x01");
const TRAILER_BYTES = 4 + MAGIC.length;
/** Longest record, in bytes. */
const RECORD_BYTES_MAX = 65_536;
/** How much is read and hashed at a time: short enough not to hold other work up. */
const CHUNK_BYTES = 262_144;

/** A running SHA-256 over what is written. */
export function newHash(): Hash {
  return createHash("sha256");
}

/**
 * What goes behind the library.
 *
 * @param record With the library's hash and size.
 */
export function encodeTrailer(record: EntryRecord): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(JSON.stringify(record));
  const bytes = new Uint8Array(text.length + TRAILER_BYTES);
  bytes.set(text);
  new DataView(bytes.buffer).setUint32(text.length, text.length, true);
  bytes.set(MAGIC, text.length + 4);
  return bytes;
}

/**
 * Reads the record and compares the whole file with it.
 *
 * @param file The file.
 * @returns The record; undefined where the file is cut short, changed or something else.
 */
export async function verifyEntry(file: EntryReader): Promise<EntryRecord | undefined> {
  const record = await readRecord(file);
  if (record === undefined) return undefined;
  const hash = newHash();
  for (let offset = 0; offset < record.libraryBytes;) {
    const chunk = await file.read(offset, Math.min(CHUNK_BYTES, record.libraryBytes - offset));
    if (chunk.length === 0) return undefined;
    hash.update(chunk);
    offset += chunk.length;
  }
  return hash.digest("hex") === record.library ? record : undefined;
}

async function readRecord(file: EntryReader): Promise<EntryRecord | undefined> {
  const { sizeBytes } = file;
  if (sizeBytes < TRAILER_BYTES) return undefined;
  const trailer = await file.read(sizeBytes - TRAILER_BYTES, TRAILER_BYTES);
  if (trailer.length !== TRAILER_BYTES) return undefined;
  if (MAGIC.some((byte, at) => trailer[4 + at] !== byte)) return undefined;
  const length = new DataView(trailer.buffer, trailer.byteOffset).getUint32(0, true);
  const libraryBytes = sizeBytes - TRAILER_BYTES - length;
  if (length > RECORD_BYTES_MAX || libraryBytes <= 0) return undefined;
  const record = parseRecord(await file.read(libraryBytes, length));
  return record?.libraryBytes === libraryBytes ? record : undefined;
}

function parseRecord(bytes: Uint8Array): EntryRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
  return isRecord(value) ? value : undefined;
}

function isRecord(value: unknown): value is EntryRecord {
  if (typeof value !== "object" || value === null) return false;
  const fields: Readonly<Record<string, unknown>> = { ...value };
  return ["module", "key", "library"].every((name) => typeof fields[name] === "string") &&
    ["libraryBytes", "createdAtMs"].every((name) => Number.isSafeInteger(fields[name]));
}
