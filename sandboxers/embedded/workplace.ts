/**
 * Where sandboxes of programs live that run without a sandboxer: a directory for each user and kind,
 * in it one for each program, and what programs share, such as the gate to sockets. File locks keep
 * them out of each other's way, and tell what was left by one that was killed.
 *
 * @module
 */

import { Gate } from "../host/gate.ts";
import { abortError, SandboxError, throwIfAborted } from "../lifecycle/errors.ts";

/** The directory of root's programs that run machines. */
export const ROOT_DIRECTORY = "/run/quasaur/cli";
/** Where these keep what is kept for long: on disk. */
const ROOT_SHARED = "/var/cache/quasaur/cli";

/** What a program's directory begins with. */
const PROGRAM_PREFIX = "p-";
/** What is added to the name of a directory for the file that is locked as long as it is used. */
const LOCK_SUFFIX = ".lock";
/** Others than the owner must not be able to write there. */
const FOREIGN_WRITE = 0o022;

/** Connects to a unix socket of a program. */
export type ConnectInPlace = (path: string) => Promise<Deno.UnixConn>;

/** Removes the directory of a program that was killed, with all that it left. */
export type RemoveLeft = (directory: string, connect: ConnectInPlace) => Promise<void>;

/** A program's place. Disposing of it removes what it left. */
export interface Workplace extends AsyncDisposable {
  /** The directory of this program's sandboxes. */
  readonly directory: string;
  /** The directory of what this program and others of the user share. */
  readonly sharedDirectory: string;
  /** Connects to a socket below {@link Workplace.directory}. */
  readonly connect: ConnectInPlace;
  /** Does something while no other program of the user starts sandboxes; waits for that at most until the signal. */
  alone<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T>;
}

/**
 * The directory of a user's programs that run sandboxes of a kind.
 *
 * @param uid The user.
 * @param kind The kind; each has its own, as only it can end what a program left that was killed.
 */
export function userDirectory(uid: number, kind: "vmm" | "gvisor" | "wasm" = "vmm"): string {
  const suffix = kind === "vmm" ? "" : `-${kind}`;
  return uid === 0 ? `${ROOT_DIRECTORY}${suffix}` : `/tmp/quasaur${suffix}-${uid}`;
}

/**
 * Makes a place for this program.
 *
 * @param base The directory of the user's programs; made where it is missing.
 * @param uid The user of this program.
 * @param removeLeft See {@link RemoveLeft}; also called for this program's own, at its end.
 * @throws {SandboxError} `PermissionDenied` where the directory is another user's, or others can
 *   write to it.
 */
export async function openWorkplace(
  base: string,
  uid: number,
  removeLeft: RemoveLeft,
): Promise<Workplace> {
  await makeOwn(base, uid);
  const sharedDirectory = base === ROOT_DIRECTORY ? ROOT_SHARED : base;
  if (sharedDirectory !== base) await makeOwn(sharedDirectory, uid);
  const gate = new Gate(`${base}/gate.sock`);
  const connect = async (path: string) => {
    using _ = await lock(`${base}/gate${LOCK_SUFFIX}`);
    return await gate.connect(path);
  };
  const remove = (left: string) => removeLeft(left, connect);
  await using undo = new AsyncDisposableStack();
  const turn = await lock(`${base}/sweep${LOCK_SUFFIX}`);
  const directory = `${base}/${PROGRAM_PREFIX}${crypto.randomUUID().slice(0, 8)}`;
  try {
    await removeAllLeft(base, remove);
    const own = await lock(`${directory}${LOCK_SUFFIX}`);
    undo.defer(async () => {
      await ignoreMissing(Deno.remove(`${directory}${LOCK_SUFFIX}`));
      own.close();
    });
    await Deno.mkdir(directory, { mode: 0o711 });
    undo.defer(() => ignoreMissing(remove(directory)));
  } catch (error) {
    throw SandboxError.from(error, `cannot make a directory for sandboxes in "${base}"`);
  } finally {
    turn.close();
  }
  const release = undo.move();
  const starts = new SharedTurn(`${base}/start${LOCK_SUFFIX}`);
  return {
    directory,
    sharedDirectory,
    connect,
    alone: (work, signal) => starts.during(work, signal),
    [Symbol.asyncDispose]: () => release.disposeAsync(),
  };
}

/** Makes the user's directory, and looks whose it is: below `/tmp` anybody may have made it. */
async function makeOwn(base: string, uid: number): Promise<void> {
  const action = `cannot use "${base}" for sandboxes`;
  try {
    await Deno.mkdir(base, { recursive: true, mode: 0o711 });
    const { isDirectory, isSymlink, uid: owner, mode } = await Deno.lstat(base);
    if (isSymlink || !isDirectory || owner !== uid || ((mode ?? 0) & FOREIGN_WRITE) !== 0) {
      throw new SandboxError(
        "PermissionDenied",
        `${action}: expected a directory of user ${uid} that nobody else can write to: remove it`,
      );
    }
  } catch (error) {
    throw SandboxError.from(error, action);
  }
}

/** Removes what programs left that were killed: nobody has their files locked any more. */
async function removeAllLeft(
  base: string,
  removeLeft: (directory: string) => Promise<void>,
): Promise<void> {
  for await (const { name } of Deno.readDir(base)) {
    if (!name.startsWith(PROGRAM_PREFIX) || name.endsWith(LOCK_SUFFIX)) continue;
    const directory = `${base}/${name}`;
    using left = await tryLock(`${directory}${LOCK_SUFFIX}`);
    if (left === undefined) continue;
    await ignoreMissing(removeLeft(directory));
    await ignoreMissing(Deno.remove(`${directory}${LOCK_SUFFIX}`));
  }
}

/** Opens a file and waits until nobody else has it locked. Closing it lets go. */
async function lock(path: string): Promise<Deno.FsFile> {
  const file = await Deno.open(path, { write: true, create: true, mode: 0o600 });
  try {
    await file.lock(true);
    return file;
  } catch (error) {
    file.close();
    throw error;
  }
}

/** The same without waiting; undefined where somebody has it locked. */
async function tryLock(path: string): Promise<Deno.FsFile | undefined> {
  const file = await Deno.open(path, { write: true, create: true, mode: 0o600 });
  if (await file.tryLock(true)) return file;
  file.close();
  return undefined;
}

async function ignoreMissing(done: Promise<void>): Promise<void> {
  try {
    await done;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** A lock that the parts of one program share, and that keeps other programs out. */
class SharedTurn {
  readonly #path: string;
  #count = 0;
  #locked: Promise<Deno.FsFile> | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  async during<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const locked = this.#locked ??= lock(this.#path);
    this.#count++;
    try {
      await until(locked, signal);
      return await work();
    } finally {
      this.#count--;
      if (this.#count === 0) {
        this.#locked = undefined;
        // Also one that comes only after the caller gave up.
        void locked.then((file) => file.close(), () => undefined);
      }
    }
  }
}

/** Waits for something at most until a signal. */
async function until<T>(what: Promise<T>, signal: AbortSignal): Promise<T> {
  const action = "cannot wait for other programs that start sandboxes";
  throwIfAborted(signal, action);
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(abortError(signal, action));
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([what, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
