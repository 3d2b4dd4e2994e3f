/**
 * Where bytes come from and go to: what a pump needs of a FIFO, a file, a stream or a standard
 * stream of this process.
 *
 * @module
 */

/** Where bytes come from. Disposing of it ends a read under way, as if at the end. */
export interface ByteSource extends Disposable {
  /**
   * Reads.
   *
   * @param into Where to; at least one byte.
   * @returns How many bytes were read, at once or later; null at the end.
   */
  read(into: Uint8Array): number | null | Promise<number | null>;
  /** The source ends as soon as nobody else writes to it. */
  letEnd(): void;
}

/** Where bytes go. Disposing of it ends a write under way with an error. */
export interface ByteSink extends Disposable {
  /**
   * Writes.
   *
   * @param bytes At least one. They are good only until the call returns, not until the answer
   *   settles.
   * @returns How many were written, at least one, at once or later.
   * @throws {SandboxError} Where nothing can be written any more.
   */
  write(bytes: Uint8Array): number | Promise<number>;
  /** Whether somebody is there, or was, who reads what is written. */
  readonly hadReader: boolean;
  /**
   * Whether its reader may take as long as it likes, also after the end of who writes: one in this
   * program, who says when it gives up. Missing for no.
   */
  readonly isPatient?: boolean;
  /** No more bytes follow; resolves when the other side can know. */
  close(): Promise<void>;
}
