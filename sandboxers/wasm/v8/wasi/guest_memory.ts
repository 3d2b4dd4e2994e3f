/**
 * The linear memory of a guest, read and written by WASI functions. Every access is checked against
 * its present size; one that does not fit is the guest's fault (EFAULT).
 *
 * @module
 */

import { WASI_ERRNO, WasiError } from "./abi.ts";
import type { Bytes } from "./calls.ts";

/** Most buffers that one call may name: IOV_MAX of Linux. */
const VECTORS_MAX = 1_024;
/** Longest path, as in Linux. */
const PATH_BYTES_MAX = 4_096;

/** The memory that a module exports as `memory`. */
export class GuestMemory {
  #memory: WebAssembly.Memory | undefined;

  /** Gives it the memory, once the instance is there. */
  attach(memory: WebAssembly.Memory): void {
    this.#memory = memory;
  }

  /** Size in bytes; 0 where there is none. */
  get sizeBytes(): number {
    return this.#memory?.buffer.byteLength ?? 0;
  }

  /** A part of it, not a copy; valid until the guest runs again. */
  bytes(address: number, length: number): Bytes {
    const start = address >>> 0;
    const size = length >>> 0;
    const buffer = this.#memory?.buffer;
    if (!(buffer instanceof ArrayBuffer) || start + size > buffer.byteLength) {
      throw new WasiError(WASI_ERRNO.FAULT);
    }
    return new Uint8Array(buffer, start, size);
  }

  /** A view of a part of it, valid until the guest runs again. */
  view(address: number, length: number): DataView<ArrayBuffer> {
    const { buffer, byteOffset } = this.bytes(address, length);
    return new DataView(buffer, byteOffset, length >>> 0);
  }

  /** Writes a 32-bit number. */
  setU32(address: number, value: number): void {
    this.view(address, 4).setUint32(0, value, true);
  }

  /** Writes a 64-bit number. */
  setU64(address: number, value: bigint): void {
    this.view(address, 8).setBigUint64(0, BigInt.asUintN(64, value), true);
  }

  /** The buffers of a list of vectors (`iovec`), without the empty ones. */
  vectors(address: number, count: number): Bytes[] {
    if (count >>> 0 > VECTORS_MAX) throw new WasiError(WASI_ERRNO.INVAL);
    const view = this.view(address, count * 8);
    const buffers: Bytes[] = [];
    for (let i = 0; i < count; i++) {
      const part = this.bytes(view.getUint32(i * 8, true), view.getUint32(i * 8 + 4, true));
      if (part.length > 0) buffers.push(part);
    }
    return buffers;
  }

  /** A path as a C string: a copy with a NUL at its end. */
  path(address: number, length: number): Bytes {
    const text = this.bytes(address, length);
    if (text.length === 0) throw new WasiError(WASI_ERRNO.NOENT);
    if (text.length >= PATH_BYTES_MAX) throw new WasiError(WASI_ERRNO.NAMETOOLONG);
    if (text.includes(0)) throw new WasiError(WASI_ERRNO.INVAL);
    const copy = new Uint8Array(text.length + 1);
    copy.set(text);
    return copy;
  }
}
