/**
 * The file servers of all shared trees. Each is noted on disk from when its process is there, so that
 * those of a sandboxer that was killed before a machine had them are ended by the next one.
 *
 * @module
 */

import type { Launcher } from "../../host/launcher.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";
import type { Log } from "../../log.ts";
import { hashOf } from "./key.ts";
import { once } from "./once.ts";
import { removeFiles, type VirtiofsOptions, VirtiofsServer } from "./virtiofsd.ts";

/** A file server that runs. */
export type TreeServer = Pick<VirtiofsServer, "record" | "socket" | "stop">;

/** What {@link TreeServers} works with. */
export interface TreeServersOptions {
  /** Starts and ends them. */
  readonly launcher: Launcher;
  /** Where notes are, an absolute path of this process's own; made where it is missing. */
  readonly directory: string;
  /** Connects to a socket. */
  connect(path: string): Promise<Disposable>;
  /** For what went wrong and was survived. */
  readonly log: Log;
}

/** Starts file servers, and takes over or ends those of earlier processes. */
export class TreeServers {
  readonly #options: TreeServersOptions;
  /** The notes of those that this process has. */
  readonly #own = new Set<string>();

  /** Starts nothing yet. */
  constructor(options: TreeServersOptions) {
    this.#options = options;
  }

  /**
   * Starts one.
   *
   * @param options What it shares, and with whom.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} As {@link VirtiofsServer.start}; then nothing is left.
   */
  async start(
    options: Omit<VirtiofsOptions, "launcher" | "onStart">,
    signal: AbortSignal,
  ): Promise<TreeServer> {
    const { launcher } = this.#options;
    const note = this.#noteOf(options.socket);
    const onStart = (record: Json) => this.#write(note, record);
    try {
      return this.#held(await VirtiofsServer.start({ ...options, launcher, onStart }, signal));
    } catch (error) {
      await this.#forget(note);
      throw error;
    }
  }

  /**
   * Takes one over that an earlier process started.
   *
   * @param record What its `record` was.
   * @returns Undefined where it has ended; what was left of it is removed then.
   */
  async adopt(record: Json): Promise<TreeServer | undefined> {
    const server = await VirtiofsServer.adopt(this.#options.launcher, record);
    return server === undefined ? undefined : this.#held(server);
  }

  /**
   * Ends those of earlier processes that nobody has taken over. To be called once, after that.
   *
   * @param sockets The directory of sockets: those in it that nobody has noted are ended too.
   */
  async recover(sockets: string): Promise<void> {
    const { directory, launcher, log } = this.#options;
    for (const note of await pathsIn(directory)) {
      if (this.#own.has(note)) continue;
      try {
        await (await VirtiofsServer.adopt(launcher, await readNote(note)))?.stop();
        await this.#forget(note);
      } catch (error) {
        // The next start tries again.
        log.warn("cannot end a file server", { note, error: SandboxError.from(error) });
      }
    }
    for (const path of await pathsIn(sockets)) {
      const socket = path.replace(/\.(log|pid)$/, "");
      if (!this.#own.has(this.#noteOf(socket))) await this.endStray(socket);
    }
  }

  /**
   * Ends one of a process that was killed before it could take note of it, and removes its files. It
   * waits for its machine, and ends when that goes.
   *
   * @param socket Its socket; does nothing where nobody listens there.
   */
  async endStray(socket: string): Promise<void> {
    try {
      (await this.#options.connect(socket))[Symbol.dispose]();
      this.#options.log.info("ended a file server that was left behind", { socket });
    } catch {
      // Nobody listens.
    }
    await removeFiles(socket, `${socket}.log`);
  }

  #held({ record, socket, stop }: VirtiofsServer): TreeServer {
    const note = this.#noteOf(socket);
    this.#own.add(note);
    return {
      record,
      socket,
      stop: once(async () => {
        await stop();
        await this.#forget(note);
      }),
    };
  }

  async #write(note: string, record: Json): Promise<void> {
    await Deno.mkdir(this.#options.directory, { recursive: true, mode: 0o700 });
    await Deno.writeTextFile(note, JSON.stringify(record), { mode: 0o600 });
  }

  async #forget(note: string): Promise<void> {
    this.#own.delete(note);
    await Deno.remove(note).catch((error: unknown) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }

  #noteOf(socket: string): string {
    return `${this.#options.directory}/${hashOf([socket]).slice(0, 32)}.json`;
  }
}

/** The paths of what is in a directory; none where it is missing. */
async function pathsIn(directory: string): Promise<string[]> {
  try {
    return await Array.fromAsync(Deno.readDir(directory), ({ name }) => `${directory}/${name}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw SandboxError.from(error, `cannot read "${directory}"`);
  }
}

/** Reads a note; null where the host lost power while it was written. */
async function readNote(path: string): Promise<Json> {
  const text = await Deno.readTextFile(path);
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
