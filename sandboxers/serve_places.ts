/**
 * The places of a sandboxer: its state directory and its sockets, which no other process may have, and
 * who stands in at the socket while it is restarted.
 *
 * @module
 */

import { claimSocketPath } from "../task/ttrpc/unix_socket.ts";
import { hasStandIn, StandIn } from "./host/stand_in.ts";
import { SandboxError } from "./lifecycle/errors.ts";
import { removeIfThere } from "./removal.ts";
import { HELD_MS, lockDirectory, TRY_MS } from "./serve_lock.ts";
import type { ServeOptions } from "./serve_options.ts";
import { keepOthersFromWriting } from "./umask.ts";

/** What it means that nobody stands in. */
const REFUSED = "callers will be refused while this sandboxer is restarted";

/** The places of a sandboxer. Disposing of them leaves them to another process. */
export class ServePlaces implements AsyncDisposable {
  readonly #options: ServeOptions;
  readonly #resources: AsyncDisposableStack;
  readonly #standIn: StandIn | undefined;
  /** Whether somebody has callers of the process before this one wait at the socket. */
  readonly #isHeld: boolean;

  private constructor(
    options: ServeOptions,
    resources: AsyncDisposableStack,
    standIn: StandIn | undefined,
    isHeld: boolean,
  ) {
    this.#options = options;
    this.#resources = resources;
    this.#standIn = standIn;
    this.#isHeld = isHeld;
  }

  /**
   * Claims them.
   *
   * @param options What the process is made of.
   * @throws {SandboxError} `AlreadyExists` when another sandboxer has the directory or a socket,
   *   `FailedPrecondition` where others could connect before a socket is closed to them.
   */
  static async claim(options: ServeOptions): Promise<ServePlaces> {
    const { listen, taskListen, dir } = options;
    await using resources = new AsyncDisposableStack();
    resources.use(await lockDirectory(dir));
    await keepOthersFromWriting(dir);
    // Recovery cleans up, so whoever still serves must be noticed before it.
    const isHeld = await hasStandIn(listen);
    if (!isHeld) await claimSocket(listen);
    await claimSocket(taskListen);
    const standIn = await startStandIn(options);
    if (standIn !== undefined) resources.defer(() => standIn.dismiss());
    return new ServePlaces(options, resources.move(), standIn, isHeld);
  }

  /** Makes room at the socket: callers who wait there are sent here as soon as somebody listens. */
  async makeRoom(): Promise<void> {
    if (this.#isHeld) await removeIfThere(this.#options.listen);
  }

  /** Somebody listens: whoever stands in takes the place when this process goes, and not before. */
  async listening(): Promise<void> {
    try {
      await this.#standIn?.listening();
    } catch (error) {
      this.#options.log.warn(REFUSED, { error });
    }
  }

  /**
   * How somebody else gets to listen, for callers to wait at; says whether somebody does. It is told
   * how long this process may take to leave, in milliseconds. Undefined where nobody stands in.
   */
  get takePlace(): ((leaveMs: number) => Promise<boolean>) | undefined {
    const standIn = this.#standIn;
    return standIn === undefined ? undefined : (leaveMs) => standIn.takePlace(leaveMs);
  }

  /** Leaves them. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#resources.disposeAsync();
  }
}

/** Starts what takes the place of this process when it goes; it works without, too. */
async function startStandIn(
  { launcher, holdSeconds = 0, listen, log }: ServeOptions,
): Promise<StandIn | undefined> {
  if (launcher === undefined || holdSeconds === 0) return undefined;
  try {
    return await StandIn.start({ launcher, socket: listen, holdMs: holdSeconds * 1000 });
  } catch (error) {
    log.warn(REFUSED, { error });
    return undefined;
  }
}

/**
 * Makes a socket's path free. What a process that was killed had just begun to start has its sockets
 * for a moment, as it has the lock: see serve_lock.ts.
 */
async function claimSocket(path: string): Promise<void> {
  const end = performance.now() + HELD_MS;
  for (;;) {
    try {
      return await claimSocketPath(path);
    } catch (error) {
      if (!(error instanceof SandboxError) || error.code !== "AlreadyExists") throw error;
      if (performance.now() >= end) throw inUse(path, error);
    }
    await new Promise((resolve) => setTimeout(resolve, TRY_MS));
  }
}

function inUse(path: string, cause: SandboxError): SandboxError {
  return new SandboxError(
    "AlreadyExists",
    `cannot start: another sandboxer is already listening on "${path}"; stop that one or choose ` +
      "another path",
    { cause },
  );
}
