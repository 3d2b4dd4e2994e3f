/**
 * Waits for the first byte in a pipe without the event loop: what is measured is when the byte is
 * there for any reader, not when this process gets round to it.
 *
 * @module
 */

/** `POLLIN` of poll(2). */
const POLLIN = 1;

/** Waits for pipes. Disposing of it closes the C library. */
export class PipePoll implements Disposable {
  readonly #c = Deno.dlopen("libc.so.6", {
    poll: { parameters: ["buffer", "u64", "i32"], result: "i32" },
    read: { parameters: ["i32", "buffer", "u64"], result: "i64" },
  });

  /**
   * Blocks this thread until a pipe can be read.
   *
   * @param fd Its read end.
   * @param timeoutMs How long at most, in milliseconds.
   * @returns Whether there is a byte; false after the time-out or where the pipe has ended.
   */
  waitForByte(fd: number, timeoutMs: number): boolean {
    const pollfd = new DataView(new ArrayBuffer(8));
    pollfd.setInt32(0, fd, true);
    pollfd.setInt16(4, POLLIN, true);
    // SAFETY: one struct pollfd (poll(2): int fd, short events, short revents), which lives until the
    // call returns; C writes its revents only.
    this.#c.symbols.poll(new Uint8Array(pollfd.buffer), 1n, timeoutMs);
    return (pollfd.getInt16(6, true) & POLLIN) !== 0;
  }

  /**
   * Reads what is in a pipe. Without anything in it, and with a writer, this waits.
   *
   * @param fd Its read end.
   * @param bytes Where to.
   * @returns How many bytes; 0 at its end.
   */
  read(fd: number, bytes: Uint8Array<ArrayBuffer>): number {
    // SAFETY: C writes at most as many bytes as there is room for, before the call returns.
    const count = Number(this.#c.symbols.read(fd, bytes, BigInt(bytes.length)));
    if (count < 0) throw new Error(`cannot read from descriptor ${fd}`);
    return count;
  }

  /** Closes the C library. */
  [Symbol.dispose](): void {
    this.#c.close();
  }
}
