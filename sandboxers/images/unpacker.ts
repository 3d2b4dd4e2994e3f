/**
 * Makes files by the host launcher's `unpack`, which sees to it that nothing is made outside of a
 * directory, and can do what programs with Deno's permissions cannot: owners, devices, attributes.
 *
 * @module
 */

import { concat } from "../bytes.ts";
import { launcherError } from "../host/launcher_errors.ts";
import { DEFAULT_HOST_LAUNCHER_PATH } from "../host/launcher_file.ts";
import { spawnPiped } from "../host/resident.ts";
import { abortError, SandboxError } from "../lifecycle/errors.ts";
import { NO_ATTRIBUTES, type TarAttributes } from "./tar.ts";

/** The kinds of records; see native/unpack.c. */
const KINDS = {
  "file": "f",
  "directory": "d",
  "symlink": "l",
  "hardlink": "h",
  "character-device": "c",
  "block-device": "b",
  "fifo": "p",
  "whiteout": "W",
  "opaque": "O",
  "layer": "L",
  "end": "E",
} as const;

/** What a record is about. */
export type RecordKind = keyof typeof KINDS;

/** A record without its content. */
export interface FileRecord {
  /** What it is about. */
  readonly kind: RecordKind;
  /** Where: relative, plain; empty for the directory itself. */
  readonly path?: string;
  /** What a link leads to; for a hard link like the path. */
  readonly target?: string;
  /** How many bytes of content follow. */
  readonly sizeBytes?: number;
  /** Owner, mode, time and the like. */
  readonly attributes?: TarAttributes;
}

/** The size of a record's fixed part. */
const FIXED_BYTES = 56;
/** How much is gathered before it is written. */
const BATCH_BYTES = 262_144;

const encoder = new TextEncoder();

/** A launcher that makes files. Disposing of it ends it; what it has made stays. */
export class Unpacker implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #output: Promise<Deno.CommandOutput>;
  readonly #action: string;
  readonly #signal: AbortSignal;
  readonly #onAbort = () => this.#kill();
  #batch: Uint8Array<ArrayBuffer>[] = [];
  #batchBytes = 0;

  /**
   * Starts it.
   *
   * @param directory An empty directory, by absolute path.
   * @param signal Aborting it ends the work.
   * @param launcherPath The launcher (default: the one that was built).
   * @throws {SandboxError} `FailedPrecondition` where the launcher was not built.
   */
  constructor(
    directory: string,
    signal: AbortSignal,
    launcherPath: string = DEFAULT_HOST_LAUNCHER_PATH,
  ) {
    this.#action = `cannot unpack into "${directory}"`;
    this.#signal = signal;
    if (signal.aborted) throw abortError(signal, this.#action);
    this.#child = spawnPiped(launcherPath, ["unpack", directory], this.#action);
    this.#writer = this.#child.stdin.getWriter();
    this.#output = this.#child.output();
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  /**
   * Writes a record.
   *
   * @throws {SandboxError} What went wrong with an earlier one.
   */
  async record(record: FileRecord): Promise<void> {
    await this.#write(encode(record));
  }

  /**
   * Writes content of the file whose record came last.
   *
   * @throws {SandboxError} What went wrong with an earlier record.
   */
  async content(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#write(bytes);
  }

  /**
   * Waits until all is made.
   *
   * @throws {SandboxError} What went wrong.
   */
  async finish(): Promise<void> {
    await this.record({ kind: "end" });
    await this.#flush();
    await this.#writer.close().catch(() => undefined);
    const { code, stdout, stderr } = await this.#output;
    if (this.#signal.aborted) throw abortError(this.#signal, this.#action);
    const decoder = new TextDecoder();
    if (code === 0 && decoder.decode(stdout) === "ok\n") return;
    throw launcherError(this.#action, { code, stderr: decoder.decode(stderr) });
  }

  async #write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#batch.push(bytes);
    this.#batchBytes += bytes.length;
    if (this.#batchBytes >= BATCH_BYTES) await this.#flush();
  }

  async #flush(): Promise<void> {
    const whole = concat(this.#batch);
    this.#batch = [];
    this.#batchBytes = 0;
    try {
      await this.#writer.write(whole);
    } catch (error) {
      // It has ended: it says why.
      if (this.#signal.aborted) throw abortError(this.#signal, this.#action);
      const { code, stderr } = await this.#output;
      if (code === 0) throw SandboxError.from(error, this.#action);
      throw launcherError(this.#action, { code, stderr: new TextDecoder().decode(stderr) });
    }
  }

  #kill(): void {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#kill();
    await this.#writer.abort().catch(() => undefined);
    await this.#output.catch(() => undefined);
  }
}

/** A record as the launcher reads it. */
function encode(record: FileRecord): Uint8Array<ArrayBuffer> {
  const { kind, path = "", target = "", sizeBytes = 0, attributes = NO_ATTRIBUTES } = record;
  const pathBytes = encoder.encode(path);
  const targetBytes = encoder.encode(target);
  const xattrBytes = encodeXattrs(attributes.xattrs);
  const bytes = new Uint8Array(
    FIXED_BYTES + pathBytes.length + targetBytes.length + xattrBytes.length,
  );
  const view = new DataView(bytes.buffer);
  const { mode, uid, gid, mtimeSeconds, major, minor } = attributes;
  const seconds = Math.floor(mtimeSeconds);
  view.setUint32(0, KINDS[kind].charCodeAt(0), true);
  view.setUint32(4, mode, true);
  view.setUint32(8, uid, true);
  view.setUint32(12, gid, true);
  view.setBigInt64(16, BigInt(seconds), true);
  view.setUint32(24, Math.floor((mtimeSeconds - seconds) * 1e9), true);
  view.setUint32(28, major, true);
  view.setUint32(32, minor, true);
  view.setUint32(36, pathBytes.length, true);
  view.setUint32(40, targetBytes.length, true);
  view.setUint32(44, xattrBytes.length, true);
  view.setBigUint64(48, BigInt(sizeBytes), true);
  bytes.set(pathBytes, FIXED_BYTES);
  bytes.set(targetBytes, FIXED_BYTES + pathBytes.length);
  bytes.set(xattrBytes, FIXED_BYTES + pathBytes.length + targetBytes.length);
  return bytes;
}

function encodeXattrs(
  xattrs: ReadonlyMap<string, Uint8Array<ArrayBuffer>>,
): Uint8Array<ArrayBuffer> {
  return concat([...xattrs].map(([text, value]) => {
    const name = encoder.encode(text);
    const part = new Uint8Array(8 + name.length + value.length);
    const view = new DataView(part.buffer);
    view.setUint32(0, name.length, true);
    view.setUint32(4, value.length, true);
    part.set(name, 8);
    part.set(value, 8 + name.length);
    return part;
  }));
}
