/**
 * The `quasaur` command as people start it, by its script, with the rights that this picks; also on a
 * terminal of its own.
 *
 * @module
 */

import { REPOSITORY } from "./permissions.ts";

/** The script. */
export const QUASAUR: string = `${REPOSITORY}/deploy/bin/quasaur`;

/** How a command ended, and what it wrote. */
export interface Ended {
  /** Its exit code. */
  readonly code: number;
  /** What it wrote to standard output, or to its terminal. */
  readonly stdout: string;
  /** What it wrote to standard error. */
  readonly stderr: string;
}

/** What the script finds in its environment. */
function environment(): Record<string, string> {
  return {
    PATH: Deno.env.get("PATH") ?? "",
    HOME: Deno.env.get("HOME") ?? "/",
    DENO: Deno.execPath(),
    // Those who would have looked for it at another place find it there.
    ...(Deno.env.has("DENO_DIR") ? { DENO_DIR: Deno.env.get("DENO_DIR") ?? "" } : {}),
  };
}

/** A command that is started. */
export function startQuasaur(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Deno.ChildProcess {
  return new Deno.Command(QUASAUR, {
    args: [...args],
    clearEnv: true,
    env: { ...environment(), ...env },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/**
 * Runs a command to its end.
 *
 * @param args Its arguments.
 * @param input What it reads.
 */
export async function quasaur(args: readonly string[], input = ""): Promise<Ended> {
  const child = startQuasaur(args);
  const fed = new Blob([input]).stream().pipeTo(child.stdin);
  const { code, stdout, stderr } = await child.output();
  await fed.catch(() => undefined);
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** A shell script on a terminal of its own, in which `quasaur` is the command: script(1). */
export class AtTerminal implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #keys: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #read = "";

  /**
   * Starts it.
   *
   * @param script The script.
   * @param env More environment.
   */
  constructor(script: string, env: Readonly<Record<string, string>> = {}) {
    const whole = `stty cols 100 rows 30; quasaur() { '${QUASAUR}' "$@"; }; ${script}`;
    this.#child = new Deno.Command("script", {
      args: ["-qec", whole, "/dev/null"],
      clearEnv: true,
      env: { ...environment(), SHELL: "/bin/bash", TERM: "xterm", ...env },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#keys = this.#child.stdin.getWriter();
    this.#reader = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Types. */
  async type(text: string): Promise<void> {
    await this.#keys.write(new TextEncoder().encode(text));
  }

  /**
   * Reads until a text is there that was not before.
   *
   * @returns What was read up to it.
   * @throws {Error} Where the script ends without it.
   */
  async until(text: string): Promise<string> {
    while (!this.#read.includes(text)) {
      const { value, done } = await this.#reader.read();
      if (done) throw new Error(`It ended before ${JSON.stringify(text)}: ${this.#read}`);
      this.#read += value;
    }
    const end = this.#read.indexOf(text) + text.length;
    const before = this.#read.slice(0, end);
    this.#read = this.#read.slice(end);
    return before;
  }

  /** Reads to the end; answers what is left. */
  async end(): Promise<string> {
    for (let part = await this.#reader.read(); !part.done; part = await this.#reader.read()) {
      this.#read += part.value;
    }
    return this.#read;
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#keys.close().catch(() => undefined);
    await this.#reader.cancel().catch(() => undefined);
    try {
      this.#child.kill("SIGTERM");
    } catch {
      // It has ended.
    }
    await this.#child.status;
  }
}
