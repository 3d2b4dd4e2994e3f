/**
 * The terminal of this command, lent to a command in a sandbox: keys go there as they are pressed, and
 * it hears when the window changes.
 *
 * @module
 */

import type { TerminalSize } from "../mod.ts";

/** A terminal that standard input and output are. */
export interface OwnTerminal {
  /** Its size now. */
  size(): TerminalSize;
  /** Switches between lines that the terminal edits (false) and keys as they are pressed (true). */
  setRaw(raw: boolean): void;
  /** Hears of a new size, until the answer is called. */
  onResize(listener: () => void): () => void;
}

/** The terminal of this process; undefined where standard input or output is none. */
export function ownTerminal(): OwnTerminal | undefined {
  if (!Deno.stdin.isTerminal() || !Deno.stdout.isTerminal()) return undefined;
  return {
    size: () => Deno.consoleSize(),
    setRaw: (raw) => Deno.stdin.setRaw(raw),
    onResize: (listener) => {
      Deno.addSignalListener("SIGWINCH", listener);
      return () => Deno.removeSignalListener("SIGWINCH", listener);
    },
  };
}

/** A terminal that is lent. Disposing of it gives it its usual ways back. */
export class RawTerminal implements Disposable {
  readonly #terminal: OwnTerminal;
  readonly #stopListening: () => void;
  #isRaw = true;

  /**
   * Lends it.
   *
   * @param terminal The terminal.
   * @param resize Passes its size on, now and whenever it changes; what fails is left alone.
   */
  constructor(terminal: OwnTerminal, resize: (size: TerminalSize) => Promise<void>) {
    this.#terminal = terminal;
    const pass = (): void => void resize(terminal.size()).catch(() => undefined);
    terminal.setRaw(true);
    this.#stopListening = terminal.onResize(pass);
    // It may have changed since the start.
    pass();
  }

  /** Gives it back. May be called more than once. */
  restore(): void {
    if (!this.#isRaw) return;
    this.#isRaw = false;
    this.#stopListening();
    this.#terminal.setRaw(false);
  }

  /** Gives it back. */
  [Symbol.dispose](): void {
    this.restore();
  }
}
