/**
 * What tests of handed streams and terminals share: a directory with FIFOs, and the client's side of
 * them.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { FifoSource } from "../fifo.ts";
import { run } from "./fixture.ts";

const CONSOLE_SOURCE = fileURLToPath(new URL("./console_program.c", import.meta.url));

/** A directory that goes away again. */
export class Directory implements AsyncDisposable {
  #count = 0;

  private constructor(readonly path: string) {}

  /** Makes one with a short path. */
  static async make(): Promise<Directory> {
    return new Directory(await Deno.makeTempDir({ prefix: "quasaur-io-" }));
  }

  /** Makes a FIFO. */
  async fifo(): Promise<string> {
    const path = this.file();
    await run("mkfifo", path);
    return path;
  }

  /** Makes a directory in it. */
  async directory(): Promise<string> {
    const path = this.file();
    await Deno.mkdir(path);
    return path;
  }

  /** A path in it where nothing is. */
  file(): string {
    return `${this.path}/${this.#count++}`;
  }

  /** Removes it with all that is in it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}

/** How long a text of an output is waited for, in milliseconds; far more than it takes. */
const TEXT_MS = 60_000;

let built: Promise<string> | undefined;

/** The program that runs another one in a terminal (see console_program.c), built once for a test file. */
export function consoleProgram(): Promise<string> {
  built ??= (async () => {
    const directory = await Deno.makeTempDir({ prefix: "quasaur-console-" });
    addEventListener("unload", () => Deno.removeSync(directory, { recursive: true }));
    await run("cc", "-O1", "-Wall", "-Werror", "-o", `${directory}/program`, CONSOLE_SOURCE);
    return `${directory}/program`;
  })();
  return built;
}

/** The client's end of an output. */
export class Reader implements Disposable {
  readonly #source: FifoSource;
  #text = "";

  /** Opens a FIFO; who writes it may come later. */
  constructor(path: string) {
    this.#source = new FifoSource(path, "an output");
  }

  /** Reads until a text has come that fits; fails where none does. */
  async until(pattern: RegExp): Promise<string> {
    const buffer = new Uint8Array(4096);
    let over = "the end";
    const timer = setTimeout(() => {
      over = `nothing more in ${TEXT_MS} ms`;
      this[Symbol.dispose]();
    }, TEXT_MS);
    try {
      while (!pattern.test(this.#text)) {
        const count = await this.#source.read(buffer);
        assert.ok(count, `${over} after ${JSON.stringify(this.#text)}: expected ${pattern}`);
        this.#text += new TextDecoder().decode(buffer.subarray(0, count));
      }
    } finally {
      clearTimeout(timer);
    }
    return this.#text;
  }

  /** Reads to the end, which comes when no writer is left; somebody writes it now, or has. */
  async rest(): Promise<string> {
    this.#source.letEnd();
    const buffer = new Uint8Array(65_536);
    for (;;) {
      const count = await this.#source.read(buffer);
      if (count === null || count === 0) return this.#text;
      this.#text += new TextDecoder().decode(buffer.subarray(0, count));
    }
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    this.#source[Symbol.dispose]();
  }
}

/** Writes to a FIFO that somebody reads, and closes it. */
export async function feed(path: string, text: string): Promise<void> {
  await Deno.writeTextFile(path, text, { create: false });
}
