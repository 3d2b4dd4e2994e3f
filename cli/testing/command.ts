/**
 * Runs the real `quasaur` command for tests: a child process with the permissions that the task
 * gives it, a directory of its own for temporary files, and a look at what it left there.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { type GuestName, GUESTS_BUILD_DIR } from "../../tests/guests/build.ts";

const CONFIG = fileURLToPath(new URL("../../deno.json", import.meta.url));
const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));

/** What runs a program with the rights of the command. */
export const RUNTIME: readonly string[] = [
  Deno.execPath(),
  "run",
  "--quiet",
  "--no-prompt",
  "--config",
  CONFIG,
  "--permission-set=cli",
];

/** What starts the command, before its own arguments. */
export const COMMAND: readonly string[] = [...RUNTIME, MAIN];

/** Where the standard streams of a child go. */
export type StdioOptions = Pick<Deno.CommandOptions, "stdin" | "stdout" | "stderr">;

/** How a command ended, and what it wrote. */
export interface Ended {
  /** Its exit code. */
  readonly code: number;
  /** Its standard output. */
  readonly stdout: string;
  /** Its standard error. */
  readonly stderr: string;
}

/** The file of a guest. */
export function guest(name: GuestName): string {
  return `${GUESTS_BUILD_DIR}/${name}.wasm`;
}

/** A directory for one test's files, with one for the command's temporary ones. */
export class Workplace implements AsyncDisposable {
  private constructor(
    /** Where the command runs. */
    readonly path: string,
    /** Where it puts temporary files. */
    readonly temporary: string,
  ) {}

  /** Makes one below /tmp, where the command may write. */
  static async make(): Promise<Workplace> {
    const path = await Deno.makeTempDir({ dir: "/tmp", prefix: "quasaur-cli-test-" });
    await Deno.mkdir(`${path}/tmp`);
    return new Workplace(path, `${path}/tmp`);
  }

  /** Starts the command with a choice of standard streams. */
  start(args: readonly string[], stdio: StdioOptions = {}): Deno.ChildProcess {
    return this.#spawn([...COMMAND, ...args], stdio);
  }

  /** Starts a shell script in which `"$@"` is the command. */
  startShell(script: string, args: readonly string[], stdio: StdioOptions = {}): Deno.ChildProcess {
    return this.#spawn(["sh", "-c", script, "sh", ...COMMAND, ...args], stdio);
  }

  #spawn([program = "", ...args]: readonly string[], stdio: StdioOptions): Deno.ChildProcess {
    return new Deno.Command(program, {
      args,
      cwd: this.path,
      env: { TMPDIR: this.temporary, NO_COLOR: "1" },
      stdin: stdio.stdin ?? "null",
      stdout: stdio.stdout ?? "piped",
      stderr: stdio.stderr ?? "piped",
    }).spawn();
  }

  /** Runs the command to its end, gives it an input, and checks that it left no file. */
  async run(args: readonly string[], input?: string | Uint8Array<ArrayBuffer>): Promise<Ended> {
    const child = this.start(args, { stdin: input === undefined ? "null" : "piped" });
    const fed = input === undefined ? undefined : feed(child.stdin, input);
    const ended = await this.end(child);
    await fed;
    return ended;
  }

  /** Waits for the end of a child with piped outputs, and checks that it left no file. */
  async end(child: Deno.ChildProcess): Promise<Ended> {
    const { code, stdout, stderr } = await child.output();
    await this.assertClean();
    return { code, stdout: decode(stdout), stderr: decode(stderr) };
  }

  /**
   * Checks that the command left no temporary file.
   *
   * @throws {Error} Naming what it left.
   */
  async assertClean(): Promise<void> {
    const left: string[] = [];
    for await (const { name } of Deno.readDir(this.temporary)) left.push(name);
    assert.deepEqual(left, []);
  }

  /** Removes everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}

async function feed(
  stdin: WritableStream<Uint8Array<ArrayBuffer>>,
  input: string | Uint8Array<ArrayBuffer>,
): Promise<void> {
  const writer = stdin.getWriter();
  try {
    await writer.write(typeof input === "string" ? new TextEncoder().encode(input) : input);
    await writer.close();
  } catch {
    // The command ended without reading it all: that is its right.
  }
}

/** Bytes as text. */
export function decode(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

/**
 * Reads a child's output until it has a text.
 *
 * @returns What was read so far.
 * @throws {Error} When the output ends without it.
 */
export async function readUntil(
  reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>,
  text: string,
): Promise<string> {
  let read = "";
  while (!read.includes(text)) {
    const { value, done } = await reader.read();
    assert.ok(!done, `the output ended before ${JSON.stringify(text)}: ${JSON.stringify(read)}`);
    read += decode(value);
  }
  return read;
}
