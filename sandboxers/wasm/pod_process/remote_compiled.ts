/**
 * Compiled code in a pod process: the sandboxer has the cache, verifies what it holds and compiles.
 * A file comes as an open descriptor; without a sandboxer there is none, and guests are interpreted.
 *
 * @module
 */

import type { CompiledModules, CompiledState } from "../compiled_modules.ts";
import type { PodMessage } from "./protocol.ts";
import type { Tickets } from "./tickets.ts";

/** How long an answer of the sandboxer is waited for. */
const ANSWER_MS = 2_000;
/** How long a compile that was asked for is left alone before the next look. */
const COMPILE_MS = 1_000;
/** How long a module without compiled code is left alone where nobody compiles it. */
const MISSING_MS = 60_000;
/** Most modules that something is known about. */
const KNOWN_MAX = 1_024;
/** Most modules whose compiled code is held open; guests of others are interpreted. */
const FILES_MAX = 256;

/** What {@link RemoteCompiled} works with. */
export interface RemoteCompiledOptions {
  /** Tells the sandboxer something. */
  readonly send: (message: PodMessage) => void;
  /** Whether one is connected. */
  readonly connected: () => boolean;
  /** Brings descriptors. */
  readonly tickets: Tickets;
}

/** Asks the sandboxer. */
export class RemoteCompiled implements CompiledModules {
  readonly #options: RemoteCompiledOptions;
  readonly #asked = new Map<number, (ticket: number) => void>();
  readonly #known = new Map<string, { readonly state: CompiledState; readonly until: number }>();
  /**
   * Files that are or were in use. They stay open: the loader of libraries knows them by their paths,
   * which hold the numbers of the descriptors, so that no number may come to mean another file.
   */
  readonly #files = new Map<string, { readonly path: string; readonly owner: Disposable }>();
  #lastId = 0;

  /**
   * Asks nothing yet.
   *
   * @param options See {@link RemoteCompiledOptions}.
   */
  constructor(options: RemoteCompiledOptions) {
    this.#options = options;
  }

  /** What the sandboxer answered last, for as long as that counts. */
  state(digest: string): CompiledState {
    if (!this.#options.connected()) return this.#files.has(digest) ? "ready" : "unavailable";
    const known = this.#known.get(digest);
    return known === undefined || known.until <= performance.now() ? "unknown" : known.state;
  }

  /** Asks for the file. */
  async find(digest: string): Promise<string | undefined> {
    const held = this.#files.get(digest);
    if (held !== undefined || this.#files.size >= FILES_MAX) return held?.path;
    const id = ++this.#lastId;
    const { promise, resolve } = Promise.withResolvers<number>();
    const timer = setTimeout(() => resolve(0), ANSWER_MS);
    this.#asked.set(id, resolve);
    this.#options.send({ kind: "find", id, digest });
    const ticket = await promise;
    clearTimeout(timer);
    this.#asked.delete(id);
    if (ticket === 0) return undefined;
    return await this.#take(digest, ticket);
  }

  /** Asks for a compile; the sandboxer reads the module itself. */
  request(digest: string): void {
    this.#note(digest, "compiling", COMPILE_MS);
    this.#options.send({ kind: "compile", digest });
  }

  /** The code did not load. */
  reject(digest: string): void {
    this.#files.get(digest)?.owner[Symbol.dispose]();
    this.#files.delete(digest);
    this.#note(digest, "unavailable", MISSING_MS);
    this.#options.send({ kind: "reject", digest });
  }

  /** The sandboxer has answered. */
  onFound(id: number, ticket: number): void {
    this.#asked.get(id)?.(ticket);
  }

  async #take(digest: string, ticket: number): Promise<string | undefined> {
    try {
      using passed = await this.#options.tickets.take(ticket);
      const [fd] = passed.descriptors;
      if (fd === undefined) return undefined;
      const path = `/proc/self/fd/${fd}`;
      this.#files.set(digest, { path, owner: passed.move() });
      this.#note(digest, "ready", Infinity);
      return path;
    } catch {
      return undefined;
    }
  }

  #note(digest: string, state: CompiledState, forMs: number): void {
    const [oldest] = this.#known.keys();
    if (this.#known.size >= KNOWN_MAX && oldest !== undefined) this.#known.delete(oldest);
    this.#known.set(digest, { state, until: performance.now() + forMs });
  }
}
