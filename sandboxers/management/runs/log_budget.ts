/**
 * How much room all logs of a sandboxer take together: they lie in memory on most machines. The more
 * there are, the smaller each may be.
 *
 * @module
 */

import type { RunLog } from "./run_log.ts";

/** Most bytes of all logs together, or nearly so: output goes on while others are made smaller. */
export const LOGS_BYTES_MAX: number = 256 * 2 ** 20;
/** Most and least bytes of one file of a log, of which each has two. */
const FILE_BYTES_MAX = 8 * 2 ** 20;
const FILE_BYTES_MIN = 64 * 2 ** 10;

/** The logs that there are. */
export class LogBudget {
  readonly #logs = new Set<RunLog>();
  readonly #bytesMax: number;

  /**
   * Without logs.
   *
   * @param bytesMax Most bytes of all logs together.
   */
  constructor(bytesMax: number = LOGS_BYTES_MAX) {
    this.#bytesMax = bytesMax;
  }

  /** How many bytes a file of a log may have at present. */
  get fileBytesMax(): number {
    const share = Math.floor(this.#bytesMax / (2 * Math.max(1, this.#logs.size)));
    return Math.min(FILE_BYTES_MAX, Math.max(FILE_BYTES_MIN, share));
  }

  /** Counts a log, and makes room for it where others have taken too much. */
  add(log: RunLog): void {
    this.#logs.add(log);
    let bytes = [...this.#logs].reduce((sum, each) => sum + each.bytes, 0);
    const largest = [...this.#logs].sort((a, b) => b.shrinkableBytes - a.shrinkableBytes);
    for (const each of largest) {
      if (bytes <= this.#bytesMax) return;
      bytes -= each.shrinkableBytes;
      if (each.shrinkableBytes > 0) each.shrink();
    }
  }

  /** Counts it no more. */
  remove(log: RunLog): void {
    this.#logs.delete(log);
  }
}
