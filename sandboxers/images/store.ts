/**
 * Images that were unpacked, each once: a directory by the digest of its manifest that containers see
 * and nobody changes. Programs share it: file locks keep one from unpacking what another does, and
 * from removing what another uses. Nothing has its last name before it is whole, and what was made
 * before the host started last is made anew: who knows what of it came to the disk.
 *
 * @module
 */

import { Launcher } from "../host/launcher.ts";
import { abortError, SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import type { ImageContent } from "./content.ts";
import { unpackLayers, type UnpackLimits, type UnpackProgress } from "./layers.ts";
import { type ImageConfig, type ImageManifest, readManifest } from "./manifest.ts";

/** Where root keeps images. */
export const IMAGES_DIRECTORY = "/var/cache/quasaur/images";

/** What names of directories say. */
const DIGEST = /^sha256:([0-9a-f]{64})$/;
const NAME = /^[0-9a-f]{64}$/;
const PARTIAL = "partial-";
const GONE = "gone-";
/** What is in the directory of an image. */
const ROOTFS = "rootfs";
const RECORD = "image.json";
/** Where locks are: they stay, as whoever removed one could not know who opens it just then. */
const LOCKS = "locks";
/**
 * What the lock of those who unpack an image is called, after the image's own. Who waits for it waits
 * for no user: one that was faster may use the image for as long as it likes.
 */
const UNPACKING = ".unpacking";
/** The form of {@link RECORD}. */
const RECORD_VERSION = 1;
/** Most names that are remembered of an image. */
const NAMES_MAX = 16;
/** How often a use is tried again that others come in between. */
const TRIES_MAX = 100;
/** Others than the owner must not be able to write there. */
const FOREIGN_WRITE = 0o022;

/** What is remembered of an image. */
export interface StoredImage {
  /** The digest of its manifest. */
  readonly digest: string;
  /** What it was called when it was used, the latest first. */
  readonly names: readonly string[];
  /** Bytes of its files, as its layers have them. */
  readonly bytes: number;
  /** Members of its layers. */
  readonly entries: number;
  /** When it was unpacked, in milliseconds since the epoch. */
  readonly createdAtMs: number;
  /** When it was used last, in milliseconds since the epoch. */
  readonly usedAtMs: number;
  /** How it is run. */
  readonly config: ImageConfig;
}

/** What is written down of an image. */
interface ImageRecord extends StoredImage {
  readonly version: number;
  /** Of the start of the host in which it was unpacked. */
  readonly bootId: string;
}

/** An image that is in use. Disposing of it lets go of it. */
export interface UsedImage extends Disposable {
  /** What it was called. */
  readonly name: string;
  /** The digest of its manifest. */
  readonly digest: string;
  /** Its files: to be read only. */
  readonly rootfs: string;
  /** How it is run. */
  readonly config: ImageConfig;
}

/** What became of an image that was to be removed. */
export interface Removal {
  /** The image. */
  readonly image: StoredImage;
  /** Whether it is gone; else somebody uses it. */
  readonly isRemoved: boolean;
}

/** Options of {@link ImageStore.open}. */
export interface ImageStoreOptions {
  /** Where images are kept; made where it is missing. */
  readonly directory: string;
  /** The user of this program. */
  readonly uid: number;
  /** How much an image may be (default: as `layers.ts` has it). */
  readonly limits?: UnpackLimits;
  /** The host launcher (default: the one that was built). */
  readonly launcherPath?: string;
  /** Hears of what is worth telling and no failure. */
  readonly onWarning?: (message: string) => void;
}

/** How an image is used. */
export interface UseOptions {
  /** Aborting it ends the work. */
  readonly signal: AbortSignal;
  /** Hears how far unpacking is; not called where nothing has to be. */
  readonly onProgress?: (progress: UnpackProgress) => void;
}

/** Unpacked images. */
export class ImageStore {
  readonly #options: ImageStoreOptions;
  readonly #launcher: Launcher;
  #bootId: Promise<string> | undefined;

  private constructor(options: ImageStoreOptions) {
    this.#options = options;
    this.#launcher = new Launcher(options.launcherPath);
  }

  /**
   * Opens the directory.
   *
   * @throws {SandboxError} `PermissionDenied` where it is another user's, or others can write to it.
   */
  static async open(options: ImageStoreOptions): Promise<ImageStore> {
    const { directory, uid } = options;
    const action = `cannot use "${directory}" for images`;
    try {
      await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
      const { isDirectory, isSymlink, uid: owner, mode } = await Deno.lstat(directory);
      if (isSymlink || !isDirectory || owner !== uid || ((mode ?? 0) & FOREIGN_WRITE) !== 0) {
        throw new SandboxError(
          "PermissionDenied",
          `${action}: expected a directory of user ${uid} that nobody else can write to`,
        );
      }
      // Files of strangers, some with set-user-id bits: nobody else passes through.
      await Deno.chmod(directory, 0o700);
      await Deno.mkdir(`${directory}/${LOCKS}`, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw SandboxError.from(error, action);
    }
    return new ImageStore(options);
  }

  /** Where images are kept. */
  get directory(): string {
    return this.#options.directory;
  }

  /**
   * Gets an image ready; unpacks it where that was not done yet.
   *
   * @param content Where it is read from; stays the caller's.
   * @throws {SandboxError} What `unpackLayers` throws; then nothing is left of it.
   */
  async use(content: ImageContent, options: UseOptions): Promise<UsedImage> {
    const { signal } = options;
    const manifest = await readManifest(content);
    const hex = hexOf(content, manifest.digest);
    const action = `cannot use image "${content.name}"`;
    for (let i = 0; i < TRIES_MAX; i++) {
      throwIfAborted(signal, action);
      const used = await this.#useWhole(content, manifest, hex, signal);
      if (used !== undefined) return used;
      using _turn = await this.#lock(`${hex}${UNPACKING}`, true, signal);
      const late = await this.#useWhole(content, manifest, hex, signal);
      if (late !== undefined) return late;
      // Others only look at it meanwhile, as nobody can use it.
      using _alone = await this.#lock(hex, true, signal);
      await this.#unpack(content, manifest, hex, options);
    }
    throw new SandboxError("Aborted", `${action}: others remove it again and again`);
  }

  /** Uses what is there already; undefined where that is not a whole image. */
  async #useWhole(
    content: ImageContent,
    manifest: ImageManifest,
    hex: string,
    signal: AbortSignal,
  ): Promise<UsedImage | undefined> {
    using undo = new DisposableStack();
    const lock = undo.use(await this.#lock(hex, false, signal));
    if (!await this.#isWhole(hex)) return undefined;
    await this.#touch(hex, content.name).catch(() => undefined);
    undo.move();
    return this.#used(content.name, manifest, hex, lock);
  }

  /** All images, the one used last first. */
  async list(): Promise<StoredImage[]> {
    const images: StoredImage[] = [];
    for await (const { name } of Deno.readDir(this.directory)) {
      const image = NAME.test(name) ? await this.#read(name) : undefined;
      if (image !== undefined) images.push(image);
    }
    return images.sort((a, b) => b.usedAtMs - a.usedAtMs);
  }

  /**
   * Removes images that nobody uses.
   *
   * @param images What {@link ImageStore.list} gave.
   * @returns What became of each.
   */
  async remove(images: readonly StoredImage[]): Promise<Removal[]> {
    const removals: Removal[] = [];
    for (const image of images) {
      const hex = DIGEST.exec(image.digest)?.[1] ?? "";
      removals.push({ image, isRemoved: await this.#removeOne(hex) });
    }
    return removals;
  }

  /** Removes what programs left half made that were killed. */
  async removeLeft(): Promise<void> {
    for await (const { name } of Deno.readDir(this.directory)) {
      const hex = /^(?:partial|gone)-([0-9a-f]{64})-/.exec(name)?.[1];
      if (hex === undefined) continue;
      using lock = await this.#tryLock(hex);
      if (lock !== undefined) await remove(`${this.directory}/${name}`);
    }
  }

  async #removeOne(hex: string): Promise<boolean> {
    using lock = await this.#tryLock(hex);
    if (lock === undefined || await this.#isMounted(hex)) return false;
    await this.#moveAway(hex);
    return true;
  }

  /** A container of a sandboxer has it, whoever asked for that and has ended since. */
  async #isMounted(hex: string): Promise<boolean> {
    const path = `${this.directory}/${hex}`;
    const answer = await this.#launcher.run(`cannot look who uses "${path}"`, [
      "overlay-uses",
      path,
    ]);
    return answer.trim() !== "no";
  }

  /** Takes it out of sight first: a directory that is removed in part is no image. */
  async #moveAway(hex: string): Promise<void> {
    const gone = `${this.directory}/${GONE}${hex}-${crypto.randomUUID()}`;
    try {
      await Deno.rename(`${this.directory}/${hex}`, gone);
      await remove(gone);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
      throw SandboxError.from(error, `cannot remove image sha256:${hex}`);
    }
  }

  /** Only while the image is locked for this program alone. */
  async #unpack(
    content: ImageContent,
    manifest: ImageManifest,
    hex: string,
    options: UseOptions,
  ): Promise<void> {
    await this.#removePartial(hex);
    // Whatever it is, it is no image.
    await this.#moveAway(hex);
    const partial = `${this.directory}/${PARTIAL}${hex}-${crypto.randomUUID()}`;
    const { limits, launcherPath, onWarning } = this.#options;
    try {
      await Deno.mkdir(`${partial}/${ROOTFS}`, { recursive: true, mode: 0o755 });
      const { bytes, entries, devicesLeftOut } = await unpackLayers(
        content,
        manifest,
        `${partial}/${ROOTFS}`,
        { ...options, ...(limits && { limits }), ...(launcherPath && { launcherPath }) },
      );
      if (devicesLeftOut > 0) {
        onWarning?.(`image "${content.name}": ${devicesLeftOut} device files are left out`);
      }
      const { layers: _, digest, ...config } = manifest;
      const now = Date.now();
      const names = [content.name];
      const image = { digest, names, bytes, entries, createdAtMs: now, usedAtMs: now, config };
      const bootId = await this.#boot();
      const record: ImageRecord = { version: RECORD_VERSION, bootId, ...image };
      await writeWhole(`${partial}/${RECORD}`, record);
      await Deno.rename(partial, `${this.directory}/${hex}`);
    } catch (error) {
      await remove(partial).catch(() => undefined);
      if (options.signal.aborted) {
        throw abortError(options.signal, `cannot unpack image "${content.name}"`);
      }
      throw SandboxError.from(error, `cannot unpack image "${content.name}"`);
    }
  }

  async #removePartial(hex: string): Promise<void> {
    for await (const { name } of Deno.readDir(this.directory)) {
      const isLeft = name.startsWith(`${PARTIAL}${hex}-`) || name.startsWith(`${GONE}${hex}-`);
      if (isLeft) await remove(`${this.directory}/${name}`);
    }
  }

  #used(name: string, manifest: ImageManifest, hex: string, lock: Deno.FsFile): UsedImage {
    const { layers: _, digest, ...config } = manifest;
    const rootfs = `${this.directory}/${hex}/${ROOTFS}`;
    return { name, digest, rootfs, config, [Symbol.dispose]: () => lock.close() };
  }

  async #isWhole(hex: string): Promise<boolean> {
    const record = await this.#read(hex);
    return record !== undefined && record.bootId === await this.#boot();
  }

  #boot(): Promise<string> {
    return this.#bootId ??= this.#launcher.facts().then(({ bootId }) => bootId);
  }

  async #read(hex: string): Promise<ImageRecord | undefined> {
    try {
      const text = await Deno.readTextFile(`${this.directory}/${hex}/${RECORD}`);
      const record: ImageRecord = JSON.parse(text);
      return record.version === RECORD_VERSION ? record : undefined;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
      throw SandboxError.from(error, `cannot read the record of image sha256:${hex}`);
    }
  }

  /** Notes when it was used, and under which name. What is lost of it does no harm. */
  async #touch(hex: string, name: string): Promise<void> {
    const image = await this.#read(hex);
    if (image === undefined) return;
    const names = [name, ...image.names.filter((known) => known !== name)].slice(0, NAMES_MAX);
    await writeWhole(`${this.directory}/${hex}/${RECORD}`, {
      ...image,
      names,
      usedAtMs: Date.now(),
    });
  }

  async #lock(name: string, exclusive: boolean, signal: AbortSignal): Promise<Deno.FsFile> {
    const file = await this.#openLock(name);
    const locked = file.lock(exclusive).then(() => file);
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const action = `cannot wait for the program that has "${this.#lockPath(name)}" locked`;
    const onAbort = () => reject(abortError(signal, action));
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([locked, aborted]);
    } catch (error) {
      // Also one that comes only after the caller gave up.
      void locked.then((late) => late.close(), () => file.close());
      throw SandboxError.from(error, action);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  async #tryLock(hex: string): Promise<Deno.FsFile | undefined> {
    const file = await this.#openLock(hex);
    if (await file.tryLock(true)) return file;
    file.close();
    return undefined;
  }

  async #openLock(name: string): Promise<Deno.FsFile> {
    return await Deno.open(this.#lockPath(name), { write: true, create: true, mode: 0o600 });
  }

  #lockPath(name: string): string {
    return `${this.directory}/${LOCKS}/${name}`;
  }
}

/** Writes a file so that whoever reads it finds all of it, or what was there before. */
async function writeWhole(path: string, value: unknown): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID()}`;
  try {
    await Deno.writeTextFile(temporary, JSON.stringify(value), { mode: 0o600 });
    await Deno.rename(temporary, path);
  } catch (error) {
    await remove(temporary).catch(() => undefined);
    throw error;
  }
}

async function remove(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function hexOf(content: ImageContent, digest: string): string {
  const hex = DIGEST.exec(digest)?.[1];
  if (hex !== undefined) return hex;
  throw new SandboxError(
    "InvalidArgument",
    `cannot read image "${content.name}": digest ${JSON.stringify(digest)} is unknown`,
  );
}
