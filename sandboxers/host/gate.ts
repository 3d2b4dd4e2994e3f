/**
 * The way to unix sockets whose paths are not known when a sandboxer starts. Deno permits sockets by
 * exact path only; so the socket's inode is linked to the one path that is permitted, the gate,
 * connected there, and the link removed. It takes about a millisecond; one connection at a time.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";

/** How long a connection may take, in milliseconds: a server that lives accepts at once. */
const CONNECT_MS = 5_000;

/** Connects to sockets through one path. */
export class Gate {
  #last: Promise<unknown> = Promise.resolve();

  /**
   * Makes nothing yet. What an earlier process left at the path is removed at the first use.
   *
   * @param path The gate: an absolute path on the file system of the sockets, in a directory that
   *   only this user can write to; the process has `net` permission for it, and may read and write it.
   */
  constructor(readonly path: string) {
    this.connect = this.connect.bind(this);
  }

  /**
   * Connects to a socket. May be passed on as a function.
   *
   * @param path The socket, an absolute path; it may be longer than a socket's path can be. Its
   *   directory may belong to somebody who is not trusted: only a socket in it is connected to,
   *   never what a link there leads to.
   * @throws {SandboxError} `NotFound` where there is none, `Unavailable` where nobody listens,
   *   `FailedPrecondition` for what is no socket.
   */
  connect(path: string): Promise<Deno.UnixConn> {
    const turn = this.#last.then(() => this.#connect(path));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #connect(path: string): Promise<Deno.UnixConn> {
    const action = `cannot connect to "${path}"`;
    try {
      await this.#link(path);
      // A link to a file is that file for good: what is looked at here is what is connected to.
      if (!isSocket(await Deno.lstat(this.path))) {
        throw new SandboxError("FailedPrecondition", `${action}: it is no socket`);
      }
      return await within(Deno.connect({ transport: "unix", path: this.path }), action);
    } catch (error) {
      throw connectError(error, action);
    } finally {
      await this.#unlink();
    }
  }

  async #link(path: string): Promise<void> {
    try {
      await Deno.link(path, this.path);
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
      // A process that was killed between linking and removing left it.
      await this.#unlink();
      await Deno.link(path, this.path);
    }
  }

  async #unlink(): Promise<void> {
    await Deno.remove(this.path).catch((error: unknown) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }
}

function isSocket(info: Deno.FileInfo): boolean {
  return info.isSocket === true && !info.isSymlink;
}

/** A connection in bounded time; one that comes too late is closed. */
async function within(connecting: Promise<Deno.UnixConn>, action: string): Promise<Deno.UnixConn> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new SandboxError("Unavailable", `${action}: nobody accepts`)),
    CONNECT_MS,
  );
  try {
    return await Promise.race([connecting, late]);
  } catch (error) {
    connecting.then((connection) => connection.close(), () => undefined);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function connectError(error: unknown, action: string): SandboxError {
  if (error instanceof Deno.errors.ConnectionRefused || error instanceof Deno.errors.WouldBlock) {
    return new SandboxError("Unavailable", `${action}: nobody listens`, { cause: error });
  }
  return SandboxError.from(error, action);
}
