/**
 * From what a program names to the files that a Linux container runs on: a directory of its own, or
 * an image, whose configuration says what is not said otherwise.
 *
 * @module
 */

import { imageProcess } from "../images/process.ts";
import type { Source } from "../images/source.ts";
import { findUser } from "../images/users.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { EmbeddedImages } from "./images.ts";
import type { LinuxRunOptions, LinuxUser } from "./linux_api.ts";

/** Options of which the image and the names are taken off. */
export interface PlainLinuxRun extends Omit<LinuxRunOptions, "image" | "entrypoint" | "user"> {
  /** What runs. */
  readonly command: readonly string[];
  /** Who it runs as. */
  readonly user: LinuxUser;
}

/** A container whose files are an image's. */
export interface LinuxImageRun {
  /** How it runs. */
  readonly options: PlainLinuxRun;
  /** The files: to be read only. */
  readonly template: string;
}

/** The platform of images that are modules. */
const MODULE_PLATFORM = /^wasi|\/wasm$/;

/**
 * Gets a container of an image ready.
 *
 * @param options What was asked for.
 * @param source What the image's name stands for.
 * @param images Gets it.
 * @param undo Takes what has to be released after the container.
 * @throws {SandboxError} What the image makes impossible.
 */
export async function linuxImageRun(
  options: LinuxRunOptions,
  source: Source,
  images: EmbeddedImages,
  undo: AsyncDisposableStack,
): Promise<LinuxImageRun> {
  const { image: name = "", entrypoint: _, ...rest } = options;
  const image = undo.use(await images.use(name, source, options.signal));
  if (MODULE_PLATFORM.test(image.config.platform)) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot run image "${name}": it is for ${image.config.platform}: run it in a sandbox of the ` +
        "kind wasm",
    );
  }
  const { args, env, workdir, user } = await imageProcess(image, options);
  return { options: { ...rest, command: args, env, workdir, user }, template: image.rootfs };
}

/**
 * Gets a container on files of the program's own ready.
 *
 * @param options What was asked for.
 * @param rootfs The directory; undefined where names cannot be looked up in it.
 * @throws {SandboxError} `InvalidArgument` for a user that is not there.
 */
export async function linuxRootfsRun(
  options: LinuxRunOptions,
  rootfs: string | undefined,
): Promise<PlainLinuxRun> {
  const { image: _, entrypoint = [], command = [], user = {}, ...rest } = options;
  const words = [...entrypoint, ...command];
  if (typeof user !== "string") return { ...rest, command: words, user };
  if (rootfs === undefined && !/^\d+(:\d+)?$/.test(user)) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot look user "${user}" up in a file system image: expected numbers`,
    );
  }
  const { home, ...found } = rootfs === undefined ? byNumber(user) : await findUser(rootfs, user);
  const env = home === "" ? {} : { HOME: home };
  return { ...rest, env: { ...env, ...rest.env }, command: words, user: found };
}

function byNumber(text: string): LinuxUser & { readonly home: string } {
  const [uid = 0, gid = uid] = text.split(":").map(Number);
  return { uid, gid, home: "" };
}
