/**
 * Keeps the FIFO that another process reads as its standard input from ending: before its client has
 * opened it, after a client has detached, and, with a keeper, while the sandboxer is restarted.
 *
 * @module
 */

import { closeSync, constants, openSync } from "node:fs";
import { hasCode, openError } from "./fifo.ts";
import type { FifoKeeper } from "./fifo_holder.ts";

const { O_NONBLOCK, O_NOCTTY, O_RDONLY, O_WRONLY } = constants;

/** A FIFO that does not end. */
export class StdinHold implements Disposable {
  readonly #path: string;
  readonly #keeper: FifoKeeper | undefined;
  #readFd: number | undefined;
  #writeFd: number | undefined;

  private constructor(path: string, keeper: FifoKeeper | undefined) {
    this.#path = path;
    this.#keeper = keeper;
  }

  /**
   * Holds a FIFO that its reader is still to open.
   *
   * @param path An absolute path.
   * @param what What it is, for messages, such as `stdin of container "a"`.
   * @param keeper Holds it beyond this process.
   * @throws {SandboxError} `NotFound`, `PermissionDenied`; nothing is open then.
   */
  static open(path: string, what: string, keeper?: FifoKeeper): StdinHold {
    using undo = new DisposableStack();
    const hold = undo.use(new StdinHold(path, keeper));
    try {
      hold.#readFd = openSync(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
      // There is a reader now, so this does not wait for one.
      hold.#writeFd = openSync(path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
    } catch (error) {
      throw openError(error, path, what);
    }
    undo.move();
    keeper?.hold(path, "write");
    return hold;
  }

  /**
   * Holds a FIFO that is read by a process that an earlier sandboxer started.
   *
   * @param path An absolute path.
   * @param what What it is, for messages.
   * @param keeper Holds it beyond this process.
   * @returns Undefined where nobody reads it any more.
   * @throws {SandboxError} `PermissionDenied`.
   */
  static adopt(path: string, what: string, keeper?: FifoKeeper): StdinHold | undefined {
    const hold = new StdinHold(path, keeper);
    try {
      hold.#writeFd = openSync(path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
    } catch (error) {
      if (hasCode(error, "ENOENT", "ENXIO")) return undefined;
      throw openError(error, path, what);
    }
    keeper?.hold(path, "write");
    return hold;
  }

  /** The reader has opened it: from now on its clients find it closed when the reader ends. */
  handedOver(): void {
    if (this.#readFd !== undefined) closeSync(this.#readFd);
    this.#readFd = undefined;
  }

  /** The reader reads the end once nobody else writes to it. */
  letEnd(): void {
    if (this.#writeFd === undefined) return;
    closeSync(this.#writeFd);
    this.#writeFd = undefined;
    this.#keeper?.letGo(this.#path, "write");
  }

  /** Lets it go. */
  [Symbol.dispose](): void {
    this.letEnd();
    this.handedOver();
  }
}
