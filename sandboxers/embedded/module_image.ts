/**
 * The module of an image, with the image's files around it: what the container writes goes to a layer
 * of its own, or, where nothing can be mounted, to a copy.
 *
 * @module
 */

import { readManifest } from "../images/manifest.ts";
import { unpackLayers } from "../images/layers.ts";
import { imageProcess, type UnpackedImage } from "../images/process.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { RootfsSpec } from "../lifecycle/spec.ts";
import type { RunOptions } from "./api.ts";
import type { EmbeddedImages } from "./images.ts";
import type { EmbeddedKind } from "./kind.ts";
import { makeOverlayRootfs } from "./overlay_rootfs.ts";
import type { ModulePlace } from "./sandbox.ts";

/** What it works with. */
export interface ModuleImagePorts {
  /** Gets images. */
  readonly images: EmbeddedImages;
  /** The kind. */
  readonly kind: Pick<EmbeddedKind, "directory">;
}

/**
 * Gets the module of an image ready.
 *
 * @param id The container.
 * @param options What was asked for.
 * @param ports What it works with.
 * @param undo Takes what has to be released after the container.
 * @throws {SandboxError} What the image makes impossible.
 */
export async function imageModule(
  id: string,
  options: RunOptions,
  ports: ModuleImagePorts,
  undo: AsyncDisposableStack,
): Promise<ModulePlace> {
  const { image, rootfs } = ports.kind.directory === undefined
    ? await copied(options, ports.images, undo)
    : await layered(id, options, ports.images, await ports.kind.directory(), undo);
  const { args: given, ...rest } = options;
  const { args, env, workdir, user } = await imageProcess(image, {
    ...rest,
    home: false,
    ...(given === undefined ? {} : { command: given }),
  });
  const [program = "", ...words] = args;
  const run = { ...rest, args: words, env, workdir, user };
  return { rootfs, program, run };
}

/** An image with what is to be mounted for a container. */
interface ImageFiles {
  readonly image: UnpackedImage;
  readonly rootfs: RootfsSpec;
}

async function layered(
  id: string,
  { image: name = "", signal }: RunOptions,
  images: EmbeddedImages,
  directory: string,
  undo: AsyncDisposableStack,
): Promise<ImageFiles> {
  const image = undo.use(await images.use(name, await images.find(name), signal));
  const overlay = undo.use(await makeOverlayRootfs(directory, id, image.rootfs));
  return { image, rootfs: overlay.spec };
}

async function copied(
  { image: name = "", signal = new AbortController().signal }: RunOptions,
  images: EmbeddedImages,
  undo: AsyncDisposableStack,
): Promise<ImageFiles> {
  const source = await images.find(name);
  await using content = await images.open(name, source);
  const manifest = await readManifest(content);
  const rootfs = await Deno.makeTempDir({ prefix: "quasaur-image-" });
  undo.defer(async () => await Deno.remove(rootfs, { recursive: true }));
  try {
    await unpackLayers(content, manifest, rootfs, { signal });
  } catch (error) {
    throw SandboxError.from(error, `cannot unpack image "${name}"`);
  }
  return {
    image: { name, rootfs, config: manifest },
    rootfs: { kind: "directory", path: rootfs },
  };
}
