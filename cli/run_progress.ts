/**
 * One line on standard error that says what takes long, as long as it does; on a terminal only.
 *
 * @module
 */

import type { ImageProgress } from "../mod.ts";
import { printError } from "./terminal.ts";

/** How long something may take before it is said that it takes long, in milliseconds. */
const PATIENCE_MS = 1_000;
/** How often a line is written anew, in milliseconds. */
const REDRAW_MS = 100;
const CLEAR = "\r\x1b[K";

/** What it works with; tests have their own. */
export interface ProgressPorts {
  /** Whether standard error is a terminal. */
  readonly isTerminal: boolean;
  /** Writes to it. */
  print(text: string): void;
}

/** A line. Disposing of it takes it back. */
export class Progress implements Disposable {
  readonly #ports: ProgressPorts;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isShown = false;
  #drawnAt = -Infinity;
  #isOver = false;

  /**
   * Waits a moment before it says anything.
   *
   * @param text What is going on, unless something else is said.
   * @param ports What it works with.
   */
  constructor(
    text: string,
    ports: ProgressPorts = { isTerminal: Deno.stderr.isTerminal(), print: printError },
  ) {
    this.#ports = ports;
    if (ports.isTerminal) this.#timer = setTimeout(() => this.#show(text), PATIENCE_MS);
  }

  /** Tells how far an image is. */
  image({ image, doneBytes, allBytes }: ImageProgress): void {
    if (!this.#ports.isTerminal || this.#isOver) return;
    const isDone = doneBytes >= allBytes;
    const now = performance.now();
    if (!isDone && now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    clearTimeout(this.#timer);
    const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)}`;
    const percent = allBytes === 0 ? 100 : Math.floor(100 * doneBytes / allBytes);
    this.#show(
      `unpacking ${image}: ${percent} % of ${mebibytes(allBytes)} MiB${isDone ? ", writing" : ""}`,
    );
  }

  #show(text: string): void {
    this.#ports.print(`${this.#isShown ? CLEAR : ""}${text}`);
    this.#isShown = true;
  }

  /** Something else happens now. May be called more than once. */
  over(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    if (this.#isShown) this.#ports.print(CLEAR);
    this.#isShown = false;
  }

  /** Takes it back. */
  [Symbol.dispose](): void {
    this.over();
  }
}
