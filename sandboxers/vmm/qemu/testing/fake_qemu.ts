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
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;

  constructor() {
    const readable = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
      },
      cancel: () => {
        this.closed = true;
      },
    });
    this.connection = {
      readable,
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
    this.#controller?.enqueue(typeof text === "string" ? new TextEncoder().encode(text) : text);
  }

  /** Ends the connection. */
  end(): void {
    if (this.closed) return;
    this.closed = true;
    this.#controller?.close();
  }
}
