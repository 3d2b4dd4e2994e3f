/**
 * Images for the containers of a program: found by name, unpacked where that was not done yet, and
 * held as long as a container has them.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { ImageContent } from "../images/content.ts";
import { findSource, type Source } from "../images/source.ts";
import { IMAGES_DIRECTORY, ImageStore, type UsedImage } from "../images/store.ts";
import type { ImageOptions, OpenOptions } from "./api.ts";

const ROOT = 0;

/** What {@link EmbeddedImages} works with. */
export interface EmbeddedImagesOptions extends Pick<OpenOptions, "onWarning"> {
  /** Where images come from and are kept. */
  readonly images?: ImageOptions;
}

/** Images. */
export class EmbeddedImages {
  readonly #options: EmbeddedImagesOptions;
  #store: Promise<ImageStore> | undefined;

  /** Opens nothing yet. */
  constructor(options: EmbeddedImagesOptions) {
    this.#options = options;
  }

  /**
   * Finds out what a name stands for.
   *
   * @throws {SandboxError} See `findSource`.
   */
  async find(name: string): Promise<Source> {
    const { containerd } = this.#options.images ?? {};
    return await findSource(name, {
      temporaryDirectory: async () => (await this.#opened()).directory,
      ...(containerd && { containerd }),
    });
  }

  /**
   * Opens an image.
   *
   * @param name Its name, for messages.
   * @param source What that stands for.
   * @throws {SandboxError} `InvalidArgument` for what is no image.
   */
  async open(name: string, source: Source): Promise<ImageContent> {
    if (source.kind !== "image") throw notAnImage(name, source);
    return await source.open();
  }

  /**
   * Gets an image ready.
   *
   * @param name Its name, for messages.
   * @param source What that stands for.
   * @param signal Aborting it ends the work.
   * @throws {SandboxError} See `ImageStore.use`; `InvalidArgument` for what is no image.
   */
  async use(name: string, source: Source, signal?: AbortSignal): Promise<UsedImage> {
    await using content = await this.open(name, source);
    const store = await this.#opened();
    const { onProgress } = this.#options.images ?? {};
    return await store.use(content, {
      signal: signal ?? new AbortController().signal,
      ...(onProgress && { onProgress: (progress) => onProgress({ image: name, ...progress }) }),
    });
  }

  #opened(): Promise<ImageStore> {
    return this.#store ??= this.#open();
  }

  async #open(): Promise<ImageStore> {
    const { images = {}, onWarning } = this.#options;
    try {
      return await openImageStore({ ...images, ...(onWarning && { onWarning }) });
    } catch (error) {
      this.#store = undefined;
      throw error;
    }
  }
}

/**
 * Opens the images of this user.
 *
 * @param options Where they are kept, unless where they usually are; who hears of warnings.
 * @throws {SandboxError} See `ImageStore.open`.
 */
export async function openImageStore(
  { directory, onWarning }: Pick<ImageOptions, "directory"> & Pick<OpenOptions, "onWarning">,
): Promise<ImageStore> {
  const uid = Deno.uid() ?? ROOT;
  const usual = uid === ROOT ? IMAGES_DIRECTORY : `/tmp/quasaur-images-${uid}`;
  return await ImageStore.open({
    directory: directory ?? usual,
    uid,
    ...(onWarning && { onWarning: (message: string) => onWarning(message) }),
  });
}

function notAnImage(name: string, { kind }: Source): SandboxError {
  const found = {
    module: "a WebAssembly module: run it in a sandbox of the kind wasm",
    rootfs: "a directory without an image layout: give it as the root file system",
    disk: "a file system image: only the kind vmm takes these",
    file: "neither an image nor an archive of one",
    image: "an image",
  }[kind];
  return new SandboxError(
    "InvalidArgument",
    `cannot use "${name}" as an image: it is ${found}`,
  );
}
