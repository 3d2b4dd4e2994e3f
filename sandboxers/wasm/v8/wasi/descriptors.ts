/**
 * The descriptors of a guest: its numbers, and what of this process is behind them.
 *
 * @module
 */

import {
  FILETYPE,
  filetypeOfMode,
  RIGHTS_ALL,
  RIGHTS_CHANGING,
  RIGHTS_OF_DIRECTORIES,
  RIGHTS_OF_FILES,
  WASI_ERRNO,
  WasiError,
} from "./abi.ts";
import type { Calls } from "./calls.ts";

/** A directory that a guest is given, with its descriptor in this process. */
export interface OpenedPreopen {
  /** Path as the guest knows it. */
  readonly guestPath: string;
  /** A descriptor that only names the directory; the engine's. */
  readonly fd: number;
  /** Whether nothing below it can be changed. */
  readonly readonly: boolean;
}

/** What is behind one number. */
export interface Descriptor {
  /** The descriptor of this process. */
  readonly host: number;
  /** The kind of file, as WASI numbers it. */
  readonly filetype: number;
  /** What may be done with it. */
  rights: bigint;
  /** What may be done with what is opened through it. */
  inheriting: bigint;
  /** Whether nothing below it can be changed. */
  readonly readonly: boolean;
  /** The guest's path, for directories that it was given. */
  readonly preopen?: string;
  /** Whether the guest has opened it, so that it is closed with it. */
  readonly owned?: boolean;
  /**
   * The non-blocking flag of a standard stream. It is kept here: what is behind such a stream is
   * shared with others, which must not find it changed.
   */
  nonblocking?: boolean;
}

/** The table of a guest. */
export class Descriptors {
  readonly #calls: Calls;
  readonly #ownedMax: number;
  readonly #table = new Map<number, Descriptor>();

  /**
   * Fills the table with the standard streams and, from 3 on, the directories.
   *
   * @param calls Makes system calls.
   * @param stdio Descriptors of this process for 0, 1 and 2.
   * @param preopens The directories.
   * @param ownedMax Most descriptors that the guest may have opened itself at a time.
   */
  constructor(
    calls: Calls,
    stdio: readonly number[],
    preopens: readonly OpenedPreopen[],
    ownedMax: number,
  ) {
    this.#calls = calls;
    this.#ownedMax = ownedMax;
    stdio.forEach((host, fd) => {
      const filetype = filetypeOfMode(calls.stat(host).mode);
      const rights = RIGHTS_ALL & ~RIGHTS_OF_DIRECTORIES;
      this.#table.set(fd, { host, filetype, rights, inheriting: 0n, readonly: false });
    });
    preopens.forEach(({ fd, guestPath, readonly }, i) => {
      const inheriting = readonly ? RIGHTS_ALL & ~RIGHTS_CHANGING : RIGHTS_ALL;
      this.#table.set(stdio.length + i, {
        host: fd,
        filetype: FILETYPE.DIRECTORY,
        rights: inheriting & ~RIGHTS_OF_FILES,
        inheriting,
        readonly,
        preopen: guestPath,
      });
    });
  }

  /**
   * What is behind a number.
   *
   * @param rights What is to be done with it.
   * @throws {WasiError} BADF, or NOTCAPABLE where that may not be done.
   */
  get(fd: number, rights = 0n): Descriptor {
    const descriptor = this.#table.get(fd >>> 0);
    if (descriptor === undefined) throw new WasiError(WASI_ERRNO.BADF);
    if ((descriptor.rights & rights) !== rights) throw new WasiError(WASI_ERRNO.NOTCAPABLE);
    return descriptor;
  }

  /** A directory to resolve a path in. */
  directory(fd: number, rights: bigint): Descriptor {
    const descriptor = this.get(fd);
    if (descriptor.filetype !== FILETYPE.DIRECTORY) throw new WasiError(WASI_ERRNO.NOTDIR);
    return this.get(fd, rights);
  }

  /** A directory in which something is to be changed. */
  changeable(fd: number, rights: bigint): Descriptor {
    const { filetype, readonly } = this.get(fd);
    if (filetype !== FILETYPE.DIRECTORY) throw new WasiError(WASI_ERRNO.NOTDIR);
    if (readonly) throw new WasiError(WASI_ERRNO.ROFS);
    return this.get(fd, rights);
  }

  /** Refuses to open one more than it may have. */
  assertRoom(): void {
    if (this.#owned().length >= this.#ownedMax) throw new WasiError(WASI_ERRNO.MFILE);
  }

  /**
   * Takes over a descriptor that was opened for the guest.
   *
   * @returns The lowest free number.
   */
  add(descriptor: Omit<Descriptor, "owned">): number {
    let fd = 0;
    while (this.#table.has(fd)) fd++;
    this.#table.set(fd, { ...descriptor, owned: true });
    return fd;
  }

  /** Closes a number. */
  close(fd: number): void {
    const { host, owned } = this.get(fd);
    this.#table.delete(fd >>> 0);
    if (owned === true) this.#calls.close(host);
  }

  /** Gives what is behind `from` the number `to`, and closes what was behind that. */
  renumber(from: number, to: number): void {
    const descriptor = this.get(from);
    this.get(to);
    if (from === to) return;
    this.close(to);
    this.#table.delete(from >>> 0);
    this.#table.set(to >>> 0, descriptor);
  }

  /** Closes everything that the guest has opened. */
  closeAll(): void {
    for (const { host } of this.#owned()) this.#calls.close(host);
    this.#table.clear();
  }

  #owned(): Descriptor[] {
    return [...this.#table.values()].filter(({ owned }) => owned === true);
  }
}
