/**
 * The pipe that guest threads report on: one for a process, read by the event loop itself, so that
 * waiting for thousands of guests takes no thread. Records are those of guest.h.
 *
 * @module
 */

import { Socket, type SocketConstructorOpts } from "node:net";
import type { System } from "./system.ts";

const RECORD_BYTES = 32;

const KINDS = [undefined, "running", "returned", "refused", "exceeded"] as const;

/** One `struct quasaur_record`. */
export interface CompletionRecord {
  /** Which thread. */
  readonly id: bigint;
  /**
   * `running`: the function is being called; `exceeded`: it is beyond a bound and waits; the other
   * two are a thread's last record.
   */
  readonly kind: "running" | "returned" | "refused" | "exceeded";
  /**
   * `running`: the thread id; `returned`: the function's result; `refused`: the error number;
   * `exceeded`: which bound.
   */
  readonly value: bigint;
  /** CPU time of the whole run in nanoseconds, in the last record. */
  readonly cpuNs: number;
  /** `refused`: which setting. `returned`: 1 when the last fault was at the end of the stack. */
  readonly step: number;
}

/** Receives the records of guest threads. */
export class CompletionPipe {
  /** The end that threads write to. */
  readonly writeFd: number;
  readonly #system: System;
  readonly #socket: Socket;
  readonly #onRecord: (record: CompletionRecord) => void;
  #rest: Uint8Array = new Uint8Array(0);

  /**
   * Makes the pipe and begins to read.
   *
   * @param system Makes and closes the pipe.
   * @param onRecord Called for each record, in the order they were written. It must not throw.
   */
  constructor(system: System, onRecord: (record: CompletionRecord) => void) {
    const [readFd, writeFd] = system.pipe();
    this.writeFd = writeFd;
    this.#system = system;
    this.#onRecord = onRecord;
    // A socket made from a descriptor is polled by the event loop, whatever the descriptor is.
    const options: SocketConstructorOpts = { fd: readFd, readable: true, writable: false };
    this.#socket = new Socket(options);
    this.#socket.on("data", (chunk: Uint8Array) => this.#onData(chunk));
    this.#socket.unref();
  }

  /** Keeps the process alive for records to come. */
  ref(): void {
    this.#socket.ref();
  }

  /** Lets the process end while no thread runs. */
  unref(): void {
    this.#socket.unref();
  }

  /** Closes both ends. */
  async close(): Promise<void> {
    if (this.#socket.destroyed) return;
    const closed = new Promise((resolve) => this.#socket.once("close", resolve));
    this.#socket.ref();
    this.#socket.destroy();
    await closed;
    this.#system.close(this.writeFd);
  }

  #onData(chunk: Uint8Array): void {
    let bytes = chunk;
    if (this.#rest.length > 0) {
      bytes = new Uint8Array(this.#rest.length + chunk.length);
      bytes.set(this.#rest);
      bytes.set(chunk, this.#rest.length);
    }
    let at = 0;
    for (; at + RECORD_BYTES <= bytes.length; at += RECORD_BYTES) {
      const record = decodeRecord(bytes.subarray(at, at + RECORD_BYTES));
      if (record !== undefined) this.#onRecord(record);
    }
    this.#rest = bytes.slice(at);
  }
}

/** Decodes one `struct quasaur_record`; undefined for a kind that does not exist. */
export function decodeRecord(bytes: Uint8Array): CompletionRecord | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kind = KINDS[view.getUint32(24, true)];
  if (kind === undefined) return undefined;
  return {
    id: view.getBigUint64(0, true),
    value: view.getBigUint64(8, true),
    cpuNs: Number(view.getBigUint64(16, true)),
    kind,
    step: view.getUint32(28, true),
  };
}
