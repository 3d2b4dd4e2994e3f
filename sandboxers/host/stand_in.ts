/**
 * What takes a sandboxer's place at its Sandbox API socket while none serves, so that callers wait for
 * the next one instead of being refused. It is a small process of the native launcher, started beside
 * the sandboxer and out of the way until that has gone. Started before the sandboxer listens, it hears
 * of a death a moment before callers do.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import { spawnPiped } from "./resident.ts";

/** How long it may take to start, and to take the place, in milliseconds. */
const START_MS = 10_000;
const TAKE_MS = 1_000;
/** How often it is looked whether it has the place, in milliseconds. */
const LOOK_MS = 2;

/** What it is told; see stand_in.h. */
const LISTENING = new TextEncoder().encode("l");
const NOT_NEEDED = new TextEncoder().encode("q");

/** What a {@link StandIn} is made of. */
export interface StandInOptions {
  /** The native launcher, an absolute path. */
  readonly launcher: string;
  /** The socket, an absolute path, at which this process is about to listen. */
  readonly socket: string;
  /** How long callers are kept waiting at most, in milliseconds. */
  readonly holdMs: number;
}

/** The process that waits for its turn. Should this process be killed, its turn has come too. */
export class StandIn {
  readonly #child: Deno.ChildProcess;
  readonly #output: ReadableStreamDefaultReader<Uint8Array>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #socket: string;
  #isOver = false;

  private constructor(
    child: Deno.ChildProcess,
    output: ReadableStreamDefaultReader<Uint8Array>,
    socket: string,
  ) {
    this.#child = child;
    this.#output = output;
    this.#input = child.stdin.getWriter();
    this.#socket = socket;
  }

  /**
   * Starts it.
   *
   * @param options See {@link StandInOptions}.
   * @throws {SandboxError} `FailedPrecondition` where the launcher was not built; `Unavailable` where
   *   it does not start.
   */
  static async start({ launcher, socket, holdMs }: StandInOptions): Promise<StandIn> {
    const action = "cannot start the stand-in of this sandboxer";
    const child = spawnPiped(launcher, ["stand-in", socket, `${holdMs}`], action);
    const timer = setTimeout(() => kill(child), START_MS);
    try {
      const output = child.stdout.getReader();
      if (await nextLine(output) === "ready\n") {
        await child.stderr.cancel();
        return new StandIn(child, output, socket);
      }
      await output.cancel();
      const text = (await new Response(child.stderr).text()).trim();
      throw new SandboxError("Unavailable", `${action}: ${text || "it ended without a word"}`);
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Tells it that this process listens: from now on it takes the place should this process go.
   *
   * @throws {SandboxError} `Unavailable` where it has ended.
   */
  async listening(): Promise<void> {
    const timer = setTimeout(() => kill(this.#child), START_MS);
    await this.#input.write(LISTENING).catch(() => undefined);
    const answer = await nextLine(this.#output).catch(() => "");
    clearTimeout(timer);
    await this.#output.cancel().catch(() => undefined);
    if (answer === "noted\n") return;
    throw new SandboxError("Unavailable", "the stand-in of this sandboxer has ended");
  }

  /** The process id. */
  get pid(): number {
    return this.#child.pid;
  }

  /**
   * Has it take the place now, for a sandboxer that is about to leave and no longer listens.
   *
   * @param leaveMs How long that may take until it has ended, in milliseconds: callers are kept
   *   waiting for so much longer.
   * @returns Whether it has it; false where it does not answer.
   */
  async takePlace(leaveMs: number): Promise<boolean> {
    if (this.#isOver) return false;
    this.#isOver = true;
    // It outlives this process.
    this.#child.unref();
    await this.#input.write(new TextEncoder().encode(String(leaveMs))).catch(() => undefined);
    await this.#input.close().catch(() => undefined);
    const end = performance.now() + TAKE_MS;
    while (performance.now() < end) {
      if (await hasStandIn(this.#socket)) return true;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    return false;
  }

  /** Ends it: nobody is to be kept waiting. */
  async dismiss(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    await this.#output.cancel().catch(() => undefined);
    await this.#input.write(NOT_NEEDED).catch(() => undefined);
    await this.#input.close().catch(() => undefined);
    const timer = setTimeout(() => kill(this.#child), TAKE_MS);
    await this.#child.status;
    clearTimeout(timer);
  }
}

/**
 * Whether a stand-in has the place at a socket; its own name for its socket says so.
 *
 * @param socket The socket, an absolute path.
 */
export async function hasStandIn(socket: string): Promise<boolean> {
  const look = (path: string) => Deno.lstat(path).catch(() => undefined);
  const [there, own] = await Promise.all([look(socket), look(`${socket}.stand-in`)]);
  return there !== undefined && own !== undefined && there.ino === own.ino &&
    there.dev === own.dev;
}

/** What it says next: short lines, each written at once. */
async function nextLine(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string> {
  const { value } = await reader.read();
  return new TextDecoder().decode(value);
}

function kill(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
}
