/**
 * Runs `quasaur run KIND` from the source with the rights that its task gives it, for tests.
 *
 * @module
 */

import { REPOSITORY } from "./permissions.ts";

/** How a command ended, and what it wrote. */
export interface Ended {
  /** Its exit code. */
  readonly code: number;
  /** What it wrote to standard output. */
  readonly stdout: string;
  /** What it wrote to standard error. */
  readonly stderr: string;
}

/** `quasaur run KIND`. */
export class RunCommand {
  /** The program and its arguments, those of the kind's own still to come. */
  readonly words: readonly string[];

  /**
   * Names the command.
   *
   * @param kind What it runs; its permission set is `cli-KIND`.
   */
  constructor(kind: string) {
    this.words = [
      ...[Deno.execPath(), "run", "--quiet", "--no-prompt", "--config", `${REPOSITORY}/deno.json`],
      ...[`--permission-set=cli-${kind}`, `${REPOSITORY}/cli/main.ts`, "run", kind],
    ];
  }

  /**
   * Starts it; all its streams are piped.
   *
   * @param args Its arguments.
   */
  start(args: readonly string[]): Deno.ChildProcess {
    const [program = "", ...rest] = [...this.words, ...args];
    return new Deno.Command(program, {
      args: rest,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      env: { NO_COLOR: "1" },
    }).spawn();
  }

  /**
   * Runs it to its end.
   *
   * @param args Its arguments.
   * @param input What it reads; nothing where it is left out.
   */
  async run(args: readonly string[], input?: Uint8Array<ArrayBuffer>): Promise<Ended> {
    const child = this.start(args);
    const fed = new Blob(input === undefined ? [] : [input]).stream().pipeTo(child.stdin);
    const { code, stdout, stderr } = await child.output();
    await fed.catch(() => undefined);
    const decoder = new TextDecoder();
    return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  }
}
