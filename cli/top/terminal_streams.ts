/**
 * The terminal of this process as the streams that the user-interface library wants, and the one
 * reader of its input: what is typed goes to the screen, or to a shell while one has the terminal.
 *
 * @module
 */

import { PassThrough, Writable } from "node:stream";
import type { Size } from "./scene.ts";

/** Takes what is typed. */
export type TakeInput = (bytes: Uint8Array) => void;

/** What is typed. Nothing is read before somebody takes it. */
export class TerminalInput {
  #take: TakeInput = () => {};
  #isReading = false;

  /**
   * Makes the one reader of standard input.
   *
   * @param onEnd Called when nothing can be typed any more, such as when the terminal is closed.
   */
  constructor(private readonly onEnd: () => void) {}

  /**
   * Sends what is typed there from now on.
   *
   * @returns Sends it where it went before.
   */
  takeBy(take: TakeInput): () => void {
    const before = this.#take;
    this.#take = take;
    if (!this.#isReading) {
      this.#isReading = true;
      void this.#read();
    }
    return () => {
      this.#take = before;
    };
  }

  /** What is typed from now on, as a stream; it ends by being cancelled. */
  stream(): ReadableStream<Uint8Array> {
    let giveBack = (): void => {};
    return new ReadableStream<Uint8Array>({
      start: (controller) => {
        giveBack = this.takeBy((bytes) => controller.enqueue(bytes));
      },
      cancel: () => giveBack(),
    });
  }

  async #read(): Promise<void> {
    const buffer = new Uint8Array(4096);
    try {
      for (;;) {
        const count = await Deno.stdin.read(buffer);
        if (count === null) break;
        this.#take(buffer.slice(0, count));
      }
    } catch {
      // The terminal is gone.
    }
    this.onEnd();
  }
}

/** Standard input as the library wants it: fed by {@link TerminalInput}. */
export class ScreenInput extends PassThrough {
  /** What tells the library that keys can be read. */
  readonly isTTY = true;

  /** Switches between lines that the terminal edits (false) and keys as they are pressed (true). */
  setRawMode(raw: boolean): this {
    setRaw(raw);
    return this;
  }

  /** Part of the contract; this process ends when it is told to. */
  ref(): this {
    return this;
  }

  /** Part of the contract. */
  unref(): this {
    return this;
  }
}

/** Standard output as the library wants it. What is written is on its way when the call returns. */
export class ScreenOutput extends Writable {
  /** What tells the library that this is a terminal. */
  readonly isTTY = true;
  #size: Size;

  /** Standard output of this process. */
  constructor() {
    super({
      write: (chunk: Uint8Array, _encoding, done) => {
        writeToTerminal(chunk);
        done();
      },
    });
    this.#size = terminalSize();
  }

  /** How many cells a line has. */
  get columns(): number {
    return this.#size.columns;
  }

  /** How many lines there are. */
  get rows(): number {
    return this.#size.rows;
  }

  /** Looks at the size again. */
  measure(): void {
    this.#size = terminalSize();
  }
}

/** Switches between lines that the terminal edits (false) and keys as they are pressed (true). */
export function setRaw(raw: boolean): void {
  try {
    Deno.stdin.setRaw(raw);
  } catch {
    // The terminal is gone.
  }
}

/** The size of the terminal, or the usual one where it cannot be told. */
export function terminalSize(): Size {
  try {
    const { columns, rows } = Deno.consoleSize();
    if (columns > 0 && rows > 0) return { columns, rows };
  } catch {
    // No terminal.
  }
  return { columns: 80, rows: 24 };
}

/** Writes at once; a terminal that is gone is no failure. */
export function writeToTerminal(what: Uint8Array | string): void {
  const bytes = typeof what === "string" ? new TextEncoder().encode(what) : what;
  try {
    for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
  } catch {
    // The terminal is gone: its end is noticed where it is read.
  }
}
