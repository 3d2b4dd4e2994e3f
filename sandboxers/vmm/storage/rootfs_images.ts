/**
 * Root file systems of containers as image files that a machine attaches read-only. The image of a
 * snapshot whose layers nobody has written to is kept and shared; any other is built for its
 * container and goes with it. A machine's VMM reaches only the images that it was given: each is a
 * hard link in a directory of the VMM's own user.
 *
 * @module
 */

import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import { checkId } from "../../lifecycle/ids.ts";
import { type ContainerSpec, type Json, rootfsPath } from "../../lifecycle/spec.ts";
import type { Log } from "../../log.ts";
import { buildErofs, IMAGE_VERSION, type ImageCompression } from "./erofs_builder.ts";
import { type HeldImage, IMAGE_SUFFIX, ImageCache } from "./image_cache.ts";
import { type ImageFormat, imageFormat } from "./image_format.ts";
import { hashOf } from "./key.ts";
import { linkOrCopy } from "./link_or_copy.ts";
import { once } from "./once.ts";
import { checkLinuxRootfs } from "./linux_rootfs.ts";
import { contentKey, overlayLayers } from "./overlay_layers.ts";
import { treeBytes } from "./tree_bytes.ts";

/** How long the building of one image may take, in milliseconds. */
const BUILD_TIMEOUT_MS = 600_000;
/** Images that are built at a time: it is the disk that they wait for. */
const BUILDS_MAX = 2;
/** Most bytes of an image: what a disk slot of a machine holds. */
const IMAGE_BYTES_MAX = 16 * 2 ** 30;
/** Where the parts of the directory are. */
const PARTS = { images: "images", own: "own", partial: "partial", readers: "readers" } as const;

/** Who reads an image. */
export interface ImageReader {
  /** The VMM's user. */
  readonly uid: number;
  /** The VMM's group. */
  readonly gid: number;
}

/** An image that stays until it is released. */
export interface RootfsImage {
  /** The file that the VMM is given. */
  readonly path: string;
  /** The file system in it. */
  readonly format: ImageFormat;
  /** What {@link RootfsImages.adopt} needs later. */
  readonly record: Json;
  /** Lets go of it. Call it when the machine has let go of the disk. Later calls do nothing. */
  release(): Promise<void>;
}

/** Options of {@link RootfsImages.open}. */
export interface RootfsImagesOptions {
  /** Where images are kept; VMMs must be able to pass through all directories above it. */
  readonly directory: string;
  /** Most bytes of kept images together; those in use may take more. */
  readonly cacheBytesMax: number;
  /**
   * The size that every image file is brought to, in bytes, without taking room for it: that of a
   * disk slot of a machine. Also the most that an image may take. 0 to leave them as they are.
   */
  readonly diskBytes: number;
  /** Whether file content is compressed (default `none`: twice the room, a quarter of the time). */
  readonly compression?: ImageCompression;
  /** The program that builds images (default: Debian's). */
  readonly program?: string;
  /** For what went wrong and was survived. */
  readonly log: Log;
}

/** What is known of an image by name. */
interface ImageRecord {
  readonly container: string;
  readonly format: ImageFormat;
  /** The file that the VMM has; the caller's own for an image that was given as such. */
  readonly path: string;
  /** Set for an image that is shared. */
  readonly key: string | null;
  /** Set where the VMM has a link of its own. */
  readonly reader: number | null;
}

/** Images of root file systems. */
export class RootfsImages {
  readonly #options: RootfsImagesOptions;
  readonly #cache: ImageCache;
  readonly #held = new Set<string>();
  readonly #waiting: (() => void)[] = [];
  #builds = 0;

  private constructor(options: RootfsImagesOptions, cache: ImageCache) {
    this.#options = options;
    this.#cache = cache;
  }

  /**
   * Opens the directory of images; what a crash has left half made is removed.
   *
   * @throws {SandboxError} Where it cannot be used.
   */
  static async open(options: RootfsImagesOptions): Promise<RootfsImages> {
    const { directory, cacheBytesMax, log } = options;
    try {
      await makeDirectory(directory, 0o711);
      await makeDirectory(`${directory}/${PARTS.readers}`, 0o711);
      await makeDirectory(`${directory}/${PARTS.own}`, 0o700);
    } catch (error) {
      throw SandboxError.from(error, `cannot use "${directory}" for images`);
    }
    const cache = await ImageCache.open({
      directory: `${directory}/${PARTS.images}`,
      partialDirectory: `${directory}/${PARTS.partial}`,
      bytesMax: cacheBytesMax,
      log,
    });
    return new RootfsImages(options, cache);
  }

  /** Bytes of all images that are kept for later or in use by several. */
  get cachedBytes(): number {
    return this.#cache.bytes;
  }

  /** Whether an image is one of these, and not a file that was given as an image. */
  owns(path: string): boolean {
    return path.startsWith(`${this.#options.directory}/`);
  }

  /**
   * The image of a container's root file system, which is in place.
   *
   * @param spec The container.
   * @param reader The VMM's user; undefined where it is this process's own.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} `InvalidArgument` where it is not one of a Linux container;
   *   `ResourceExhausted` where the disk is full; `FailedPrecondition` without mkfs.erofs, or where
   *   the files are more than a disk of a machine holds.
   */
  async get(
    spec: ContainerSpec,
    reader: ImageReader | undefined,
    signal: AbortSignal,
  ): Promise<RootfsImage> {
    const action = `cannot make an image of the root file system of container "${spec.id}"`;
    checkId("container id", spec.id);
    throwIfAborted(signal, action);
    const source = rootfsPath(spec.rootfs);
    try {
      if (await isFile(spec)) {
        const format = await imageFormat(source);
        return this.#given({ container: spec.id, format, path: source, key: null, reader: null });
      }
      await checkLinuxRootfs(source);
      const key = await this.#keyOf(spec);
      const build = (target: string, end: AbortSignal) => this.#build(source, target, end);
      const held = key === undefined
        ? await this.#buildOwn(spec.id, build, signal)
        : await this.#cache.acquire(key, build, signal);
      const kept = { container: spec.id, format: "erofs", key: key ?? null } as const;
      return await this.#handOut(kept, held, reader);
    } catch (error) {
      throw SandboxError.from(error, action);
    }
  }

  /**
   * Takes an image that is there already, such as that of a snapshot, as the container's own.
   *
   * @param container The container.
   * @param source The image; what becomes of it later does not matter.
   * @param reader The VMM's user; undefined where it is this process's own.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} `NotFound` where it is not there; `InvalidArgument` where it is none;
   *   `ResourceExhausted` where the disk is full.
   */
  async take(
    container: string,
    source: string,
    reader: ImageReader | undefined,
    signal: AbortSignal,
  ): Promise<RootfsImage> {
    checkId("container id", container);
    const format = await imageFormat(source);
    const path = this.#ownPath(container);
    await linkOrCopy(source, path, signal);
    const held = { path, release: () => remove(path) };
    return await this.#handOut({ container, format, key: null }, held, reader);
  }

  /**
   * Takes over the image of a container that runs, from an earlier process.
   *
   * @param record What {@link RootfsImage.record} was.
   * @returns Undefined where nothing is known of it: then there is nothing to release either.
   */
  async adopt(record: Json): Promise<RootfsImage | undefined> {
    const found = parseRecord(record);
    if (found === undefined) return undefined;
    const { container, key, reader, path } = found;
    const own = this.#ownPath(container);
    const held: HeldImage = key === null
      ? { path, release: path === own || reader !== null ? () => remove(own) : () => done }
      // Where it is gone from the cache, the machine still has it open.
      : await this.#cache.hold(key) ?? { path, release: () => done };
    return this.#image(found, held);
  }

  /**
   * Removes what an earlier process left and nobody has taken over. Call it once, when all
   * containers that still run were taken over.
   */
  async sweep(): Promise<void> {
    const { directory, log } = this.#options;
    for (const part of [PARTS.own, PARTS.readers]) {
      try {
        await this.#sweepBelow(`${directory}/${part}`);
      } catch (error) {
        log.warn("cannot remove old images", { directory, error: String(error) });
      }
    }
  }

  /** Waits until what is kept is on stable storage. */
  async close(): Promise<void> {
    await this.#cache.close();
  }

  async #keyOf({ rootfs }: ContainerSpec): Promise<string | undefined> {
    if (rootfs.kind !== "mounts") return undefined;
    const layers = overlayLayers(rootfs.mounts);
    const content = layers === undefined ? undefined : await contentKey(layers);
    if (content === undefined) return undefined;
    const { diskBytes, compression = "none" } = this.#options;
    return hashOf([IMAGE_VERSION, content, diskBytes, compression]);
  }

  async #buildOwn(
    container: string,
    build: (target: string, signal: AbortSignal) => Promise<void>,
    signal: AbortSignal,
  ): Promise<HeldImage> {
    const partial = `${this.#cache.partialDirectory}/${crypto.randomUUID()}`;
    const path = this.#ownPath(container);
    try {
      await build(partial, signal);
      await Deno.chmod(partial, 0o440);
      await Deno.rename(partial, path);
    } catch (error) {
      await remove(partial).catch(() => {});
      throw error;
    }
    return { path, release: () => remove(path) };
  }

  /** Builds in turn; when the disk is full, once more without the images that nobody uses. */
  async #build(source: string, target: string, signal: AbortSignal): Promise<void> {
    await this.#turn();
    try {
      throwIfAborted(signal, `cannot build an image of "${source}"`);
      try {
        await this.#buildOnce(source, target, signal);
      } catch (error) {
        if (!isDiskFull(error)) throw error;
        if (!await this.#cache.clear()) throw await this.#diskFull(source, error);
        await this.#buildOnce(source, target, signal).catch(async (again) => {
          throw isDiskFull(again) ? await this.#diskFull(source, again) : again;
        });
      }
    } finally {
      this.#builds--;
      this.#waiting.shift()?.();
    }
  }

  async #buildOnce(source: string, target: string, signal: AbortSignal): Promise<void> {
    const { diskBytes, compression = "none", program } = this.#options;
    await buildErofs({
      source,
      target,
      compression,
      bytesMax: diskBytes === 0 ? IMAGE_BYTES_MAX : diskBytes,
      timeoutMs: BUILD_TIMEOUT_MS,
      ...(program === undefined ? {} : { program }),
    }, signal);
    if (diskBytes === 0) return;
    const { size } = await Deno.stat(target);
    // A last look: it may have grown since the one before.
    if (size > diskBytes) {
      throw new SandboxError(
        "FailedPrecondition",
        `the image of "${source}" takes ${size} bytes: a disk of a machine holds ${diskBytes}`,
      );
    }
    await Deno.truncate(target, diskBytes);
  }

  async #diskFull(source: string, cause: unknown): Promise<SandboxError> {
    const { directory } = this.#options;
    const bytes = await treeBytes(source).catch(() => 0);
    const need = bytes === 0 ? "" : `: about ${Math.ceil(bytes / 2 ** 20)} MiB are needed`;
    return new SandboxError(
      "ResourceExhausted",
      `no space left in "${directory}" for an image of "${source}"${need}: ` +
        "free some, or set storage.cache_directory to a place with more",
      { cause },
    );
  }

  async #turn(): Promise<void> {
    while (this.#builds >= BUILDS_MAX) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#builds++;
  }

  /** Makes an image reachable for its reader. */
  async #handOut(
    kept: Pick<ImageRecord, "container" | "format" | "key">,
    held: HeldImage,
    reader: ImageReader | undefined,
  ): Promise<RootfsImage> {
    try {
      if (reader === undefined) {
        const path = held.path;
        return this.#image({ ...kept, path, reader: null }, held);
      }
      const directory = this.#readerDirectory(reader.uid);
      const path = `${directory}/${kept.container}${IMAGE_SUFFIX}`;
      await Deno.mkdir(directory, { recursive: true, mode: 0o500 });
      await Deno.chown(directory, reader.uid, reader.gid);
      await Deno.chown(held.path, null, reader.gid);
      await remove(path);
      await Deno.link(held.path, path);
      return this.#image({ ...kept, path, reader: reader.uid }, held);
    } catch (error) {
      await held.release().catch(() => {});
      throw error;
    }
  }

  /** An image of the caller's own, which nothing is done to. */
  #given(record: ImageRecord): RootfsImage {
    return this.#image(record, { path: record.path, release: () => done });
  }

  #image(record: ImageRecord, held: HeldImage): RootfsImage {
    const { container, path, format, reader } = record;
    const own = this.#ownPath(container);
    this.#held.add(own).add(path);
    const release = once(async () => {
      if (reader !== null) {
        await remove(path);
        await Deno.remove(this.#readerDirectory(reader)).catch(() => {});
      }
      await held.release();
      this.#held.delete(own);
      this.#held.delete(path);
    });
    return { path, format, record: { ...record }, release };
  }

  async #sweepBelow(directory: string): Promise<void> {
    for await (const { name, isDirectory } of Deno.readDir(directory)) {
      const path = `${directory}/${name}`;
      if (isDirectory) {
        await this.#sweepBelow(path);
        await Deno.remove(path).catch(() => {});
      } else if (!this.#held.has(path)) {
        await remove(path);
      }
    }
  }

  #ownPath(container: string): string {
    return `${this.#options.directory}/${PARTS.own}/${container}${IMAGE_SUFFIX}`;
  }

  #readerDirectory(uid: number): string {
    return `${this.#options.directory}/${PARTS.readers}/${uid}`;
  }
}

const done = Promise.resolve();

/** Whether an image file was given in the place of a directory. */
async function isFile({ rootfs }: ContainerSpec): Promise<boolean> {
  if (rootfs.kind !== "directory") return false;
  // What is missing or may not be looked at is said by those who read it.
  return (await Deno.stat(rootfs.path).catch(() => undefined))?.isFile === true;
}

function isDiskFull(error: unknown): boolean {
  return SandboxError.from(error).code === "ResourceExhausted";
}

async function makeDirectory(path: string, mode: number): Promise<void> {
  await Deno.mkdir(path, { recursive: true, mode });
  await Deno.chmod(path, mode);
}

/** Removes a file; succeeds where there is none. */
async function remove(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function parseRecord(record: Json): ImageRecord | undefined {
  if (typeof record !== "object" || record === null || !("container" in record)) return undefined;
  const { container, format, path, key, reader } = record;
  if (typeof container !== "string" || typeof path !== "string") return undefined;
  if (format !== "erofs" && format !== "ext4") return undefined;
  if (key !== null && typeof key !== "string") return undefined;
  if (reader !== null && typeof reader !== "number") return undefined;
  return { container, format, path, key, reader };
}
