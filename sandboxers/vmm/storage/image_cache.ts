/**
 * Images by their content's key, on disk: built once however many ask at the same time, kept while
 * they are used, and removed, the longest unused first, when they take too much room. An image that
 * is not wholly on stable storage is built again after a crash.
 *
 * @module
 */

import { abortError, SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type { Log } from "../../log.ts";
import { once } from "./once.ts";

/** How files of images end. */
export const IMAGE_SUFFIX = ".erofs";
/** An image that may not be on stable storage yet, and one that is. */
const UNSYNCED_MODE = 0o640;
const SYNCED_MODE = 0o440;
const NAME = /^([0-9a-f]{64})\.erofs$/;
/** How often one caller takes over from builders that gave up. */
const TAKEOVERS_MAX = 1_000;

/** Makes an image at a path where nothing is; removes it again where it fails. */
export type ImageBuild = (target: string, signal: AbortSignal) => Promise<void>;

/** An image that stays for as long as it is held. */
export interface HeldImage {
  /** The file. */
  readonly path: string;
  /** Lets go of it; later calls do nothing, except where it failed. */
  release(): Promise<void>;
}

/** Options of {@link ImageCache.open}. */
export interface ImageCacheOptions {
  /** Where the images are; it is made where it is missing. */
  readonly directory: string;
  /** Where images are built, on the same file system; what is in it is removed. */
  readonly partialDirectory: string;
  /** Most bytes of images together; those in use may take more. */
  readonly bytesMax: number;
  /** For what went wrong and was survived. */
  readonly log: Log;
}

interface Entry {
  readonly key: string;
  references: number;
  readonly bytes: number;
  usedAtMs: number;
}

/** How a build ended: `gaveUp` where its caller did, so that another may take it over. */
type Outcome =
  | { readonly kind: "done" }
  | { readonly kind: "gaveUp" }
  | { readonly kind: "failed"; readonly error: SandboxError };

/** Images by key. */
export class ImageCache {
  readonly #options: ImageCacheOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #building = new Map<string, Promise<Outcome>>();
  readonly #syncing = new Set<Promise<void>>();

  private constructor(options: ImageCacheOptions) {
    this.#options = options;
  }

  /**
   * Opens a cache, and removes what a crash has left in it.
   *
   * @throws {SandboxError} Where its directories cannot be used.
   */
  static async open(options: ImageCacheOptions): Promise<ImageCache> {
    const cache = new ImageCache(options);
    try {
      await remove(options.partialDirectory);
      await Deno.mkdir(options.partialDirectory, { recursive: true, mode: 0o700 });
      await Deno.mkdir(options.directory, { recursive: true, mode: 0o700 });
      await cache.#load();
      await cache.#evict(options.bytesMax);
    } catch (error) {
      throw SandboxError.from(error, `cannot open the image cache "${options.directory}"`);
    }
    return cache;
  }

  /** Bytes of all images together. */
  get bytes(): number {
    return [...this.#entries.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Where images may be built that are not kept here. */
  get partialDirectory(): string {
    return this.#options.partialDirectory;
  }

  /**
   * Holds an image, and builds it where it is missing.
   *
   * @param key What identifies its content: 64 hexadecimal digits.
   * @param build Builds it; called for one caller at a time, and never after that caller's end.
   * @param signal The caller's.
   * @throws {SandboxError} What the build throws; `Cancelled`.
   */
  async acquire(key: string, build: ImageBuild, signal: AbortSignal): Promise<HeldImage> {
    const action = `cannot wait for image "${key}"`;
    for (let i = 0; i < TAKEOVERS_MAX; i++) {
      throwIfAborted(signal, action);
      const held = await this.hold(key);
      if (held !== undefined) return held;
      const running = this.#building.get(key);
      const outcome = running === undefined
        ? await this.#build(key, build, signal)
        : await orAborted(running, signal, action);
      if (outcome.kind === "failed") throw outcome.error;
    }
    throw new SandboxError("Aborted", `${action}: too many others gave up building it`);
  }

  /**
   * Holds an image that is there.
   *
   * @param key See {@link ImageCache.acquire}.
   */
  async hold(key: string): Promise<HeldImage | undefined> {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    entry.references++;
    entry.usedAtMs = Date.now();
    const path = this.#path(key);
    try {
      // The next process learns from it which were used last; and somebody may have removed it.
      await Deno.utime(path, new Date(), new Date());
    } catch (error) {
      entry.references--;
      if (!(error instanceof Deno.errors.NotFound)) {
        throw SandboxError.from(error, `cannot use image "${path}"`);
      }
      if (this.#entries.get(key) === entry) this.#entries.delete(key);
      return undefined;
    }
    return { path, release: once(() => this.#release(entry)) };
  }

  /**
   * Removes every image that nobody holds: for want of room.
   *
   * @returns Whether there was one.
   */
  async clear(): Promise<boolean> {
    const before = this.#entries.size;
    await this.#evict(0);
    return this.#entries.size < before;
  }

  /** Waits until all images are on stable storage. */
  async close(): Promise<void> {
    await Promise.all(this.#syncing);
  }

  #path(key: string): string {
    return `${this.#options.directory}/${key}${IMAGE_SUFFIX}`;
  }

  async #load(): Promise<void> {
    const { directory } = this.#options;
    for await (const { name } of Deno.readDir(directory)) {
      const path = `${directory}/${name}`;
      const key = NAME.exec(name)?.[1];
      const status = await Deno.lstat(path);
      if (key === undefined || !status.isFile || ((status.mode ?? 0) & 0o777) !== SYNCED_MODE) {
        await remove(path);
        continue;
      }
      const usedAtMs = status.mtime?.getTime() ?? 0;
      this.#entries.set(key, { key, references: 0, bytes: bytesOf(status), usedAtMs });
    }
  }

  /** Never rejects: others wait for it too. */
  async #build(key: string, build: ImageBuild, signal: AbortSignal): Promise<Outcome> {
    const running = this.#tryBuild(key, build, signal);
    this.#building.set(key, running);
    try {
      return await running;
    } finally {
      this.#building.delete(key);
    }
  }

  async #tryBuild(key: string, build: ImageBuild, signal: AbortSignal): Promise<Outcome> {
    const partial = `${this.#options.partialDirectory}/${crypto.randomUUID()}`;
    const path = this.#path(key);
    try {
      await build(partial, signal);
      await Deno.chmod(partial, UNSYNCED_MODE);
      const bytes = bytesOf(await Deno.stat(partial));
      await Deno.rename(partial, path);
      this.#entries.set(key, { key, references: 0, bytes, usedAtMs: Date.now() });
    } catch (error) {
      await remove(partial).catch(() => {});
      if (signal.aborted) return { kind: "gaveUp" };
      return { kind: "failed", error: SandboxError.from(error, `cannot build image "${path}"`) };
    }
    const syncing = this.#sync(path).finally(() => this.#syncing.delete(syncing));
    this.#syncing.add(syncing);
    return { kind: "done" };
  }

  /** Until it has the last mode, the next process does not trust it. */
  async #sync(path: string): Promise<void> {
    try {
      using file = await Deno.open(path, { read: true });
      await file.sync();
      await Deno.chmod(path, SYNCED_MODE);
      using directory = await Deno.open(this.#options.directory, { read: true });
      await directory.sync();
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
      this.#options.log.warn("cannot keep an image for later", { path, error: String(error) });
    }
  }

  async #release(entry: Entry): Promise<void> {
    entry.references--;
    entry.usedAtMs = Date.now();
    await this.#evict(this.#options.bytesMax);
  }

  async #evict(bytesMax: number): Promise<void> {
    const idle = [...this.#entries.values()]
      .filter(({ references }) => references === 0)
      .sort((a, b) => a.usedAtMs - b.usedAtMs);
    for (const entry of idle) {
      if (this.bytes <= bytesMax) return;
      if (entry.references > 0 || this.#entries.get(entry.key) !== entry) continue;
      this.#entries.delete(entry.key);
      const path = this.#path(entry.key);
      await remove(path).catch((error) => {
        this.#options.log.warn("cannot remove an image", { path, error: String(error) });
      });
    }
  }
}

/** What a file takes on the disk: its holes take nothing. */
function bytesOf({ blocks, size }: Deno.FileInfo): number {
  return blocks === null ? size : blocks * 512;
}

/** Removes a file or a directory with all in it; succeeds where nothing is. */
async function remove(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Waits for something, or for the caller's end. */
async function orAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  action: string,
): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(abortError(signal, action));
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
