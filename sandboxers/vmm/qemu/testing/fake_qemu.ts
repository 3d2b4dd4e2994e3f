/**
 * A QEMU that says what a test tells it to, for tests without a machine.
 *
 * @module
 */

import type { QmpConnection } from "../qmp.ts";

/** What QEMU says first. */
export const GREETING = '{"QMP": {"version": {}, "capabilities": ["oob"]}}\n';

/** A QEMU that says what a test tells it to. */
export class FakeQemu {
  /** The connection to it. */
  readonly connection: QmpConnection;
  /** The commands that came, in order. */
  readonly heard: string[] = [];
  /** Whether the connection has ended. */
  closed = false;
  /** Answers a command by its name; what is undefined is never answered. */
  answers: (command: string, id: number) => string | undefined = (_, id) =>
    `{"return": {}, "id": ${id}}\n`;
  /** What was said and not read. */
  #said = new Uint8Array(0);
  #wake: () => void = () => undefined;

  constructor() {
    this.connection = {
      read: (into) => this.#read(into),
      write: (bytes) => {
        if (this.closed) throw new Deno.errors.BrokenPipe("broken pipe");
        const message = JSON.parse(new TextDecoder().decode(bytes));
        this.heard.push(message.execute);
        const answer = this.answers(message.execute, message.id);
        if (answer !== undefined) this.say(answer);
        return Promise.resolve(bytes.length);
      },
      close: () => this.end(),
    };
  }

  /** Says something, whatever it is. */
  say(text: string | Uint8Array): void {
    if (this.closed) return;
    const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
    this.#said = new Uint8Array([...this.#said, ...bytes]);
    this.#wake();
  }

  async #read(into: Uint8Array): Promise<number | null> {
    while (this.#said.length === 0) {
      if (this.closed) return null;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const count = Math.min(into.length, this.#said.length);
    into.set(this.#said.subarray(0, count));
    this.#said = this.#said.slice(count);
    return count;
  }

  /** Ends the connection. */
  end(): void {
    if (this.closed) return;
    this.closed = true;
    this.#wake();
  }
}
