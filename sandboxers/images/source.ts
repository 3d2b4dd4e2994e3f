/**
 * What the name of something to run stands for: a module, a root file system, an image on disk, or
 * one in containerd. It is told by what is there, and by nothing else.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import { CONTAINERD_PLACE, type ContainerdPlace } from "./containerd_place.ts";
import type { ImageContent } from "./content.ts";
import { COMPRESSION_MAGIC_BYTES, compressionOf, decompressed } from "./decompress.ts";
import { layoutArchive, layoutDirectory, layoutFile } from "./layout.ts";

/** What a name stands for. */
export type Source =
  /** A WebAssembly module. */
  | { readonly kind: "module"; readonly path: string }
  /** A directory with the files of a Linux system. */
  | { readonly kind: "rootfs"; readonly path: string }
  /** A file system in a file. */
  | { readonly kind: "disk"; readonly path: string }
  /** A file that is none of these. */
  | { readonly kind: "file"; readonly path: string }
  /** An image; whoever opens it disposes of it. */
  | { readonly kind: "image"; readonly open: () => Promise<ImageContent> };

/** Whether a name can be the path of a file only. */
export function isPath(name: string): boolean {
  return /^\.{0,2}\//.test(name);
}

/** How a name is understood. */
export interface SourceOptions {
  /** Which containerd has images (default: {@link CONTAINERD_PLACE}). */
  readonly containerd?: Partial<ContainerdPlace>;
  /** Where an archive is put for a moment without its compression. */
  readonly temporaryDirectory?: () => Promise<string>;
}

/** What names of images in containerd may have before them. */
const CONTAINERD = "containerd://";
/** Other ways of naming images, which take a program that fetches them. */
const REMOTE = /^(docker|docker-daemon|docker-archive|oci|oci-archive|https?):\/?\/?/;

/** How files say what they are, and where. */
const MODULE_MAGIC = "\0asm";
const TAR_MAGIC = "ustar";
const TAR_MAGIC_OFFSET = 257;
const EROFS_MAGIC = 0xe0f5e1e2;
const EROFS_MAGIC_OFFSET = 1024;
const EXT4_MAGIC = 0xef53;
const EXT4_MAGIC_OFFSET = 1080;
const HEAD_BYTES = 1100;
/** Largest archive without its compression, in bytes. */
const ARCHIVE_BYTES_MAX = 64 * 2 ** 30;

/**
 * Finds out what a name stands for: a file or directory where there is one of that name, else an
 * image of containerd's. `containerd://NAME` is always the latter.
 *
 * @param name As it was given.
 * @param options See {@link SourceOptions}.
 * @throws {SandboxError} `NotFound` where there is no such file and the name can be no image.
 */
export async function findSource(name: string, options: SourceOptions = {}): Promise<Source> {
  if (name.startsWith(CONTAINERD)) return inContainerd(name.slice(CONTAINERD.length), options);
  const status = await statusOf(name);
  if (status?.isDirectory) return await directorySource(name);
  if (status?.isFile) return await fileSource(name, options);
  if (status !== undefined) return { kind: "file", path: name };
  const scheme = REMOTE.exec(name)?.[1];
  if (scheme !== undefined) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot use "${name}": images are not fetched by ${scheme} here: fetch it into containerd ` +
        "with `ctr images pull`, or give an OCI image layout by its path",
    );
  }
  if (isPath(name) || /\.(wasm|tar|tgz|tar\.(gz|zst))$/.test(name)) {
    throw new SandboxError("NotFound", `cannot read "${name}": there is no such file`);
  }
  return inContainerd(name, options);
}

async function statusOf(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    const isMissing = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.NotADirectory;
    if (isMissing) return undefined;
    throw SandboxError.from(error, `cannot read "${path}"`);
  }
}

async function directorySource(path: string): Promise<Source> {
  const [index, layout] = await Promise.all([
    statusOf(`${path}/index.json`),
    statusOf(`${path}/blobs`),
  ]);
  if (index?.isFile && layout?.isDirectory) {
    return { kind: "image", open: () => Promise.resolve(layoutDirectory(path)) };
  }
  return { kind: "rootfs", path };
}

async function fileSource(path: string, options: SourceOptions): Promise<Source> {
  const head = await readHead(path);
  const view = new DataView(head.buffer);
  if (latin(head.subarray(0, MODULE_MAGIC.length)) === MODULE_MAGIC) {
    return { kind: "module", path };
  }
  if (isTar(head)) return { kind: "image", open: () => layoutArchive(path) };
  if (compressionOf(head.subarray(0, COMPRESSION_MAGIC_BYTES)) !== undefined) {
    return { kind: "image", open: () => compressedArchive(path, options.temporaryDirectory) };
  }
  const isDisk = view.getUint32(EROFS_MAGIC_OFFSET, true) === EROFS_MAGIC ||
    view.getUint16(EXT4_MAGIC_OFFSET, true) === EXT4_MAGIC;
  return { kind: isDisk ? "disk" : "file", path };
}

function isTar(head: Uint8Array): boolean {
  return latin(head.subarray(TAR_MAGIC_OFFSET, TAR_MAGIC_OFFSET + TAR_MAGIC.length)) === TAR_MAGIC;
}

/** How a file begins; filled up with zeros where it is short. */
async function readHead(path: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    using file = await Deno.open(path);
    const head = new Uint8Array(HEAD_BYTES);
    for (let length = 0; length < head.length;) {
      const got = await file.read(head.subarray(length));
      if (got === null) break;
      length += got;
    }
    return head;
  } catch (error) {
    throw SandboxError.from(error, `cannot read "${path}"`);
  }
}

function latin(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

/**
 * The image of a compressed archive: its parts are read in any order, so it is decompressed into a
 * file first, which has no name and goes away when it is closed.
 */
async function compressedArchive(
  path: string,
  directory: SourceOptions["temporaryDirectory"],
): Promise<ImageContent> {
  const name = await Deno.makeTempFile({
    prefix: "quasaur-archive-",
    ...(directory && { dir: await directory() }),
  });
  const file = await openUnnamed(name);
  try {
    const source = await Deno.open(path);
    const stream = await decompressed(source.readable);
    let bytes = 0;
    for await (const chunk of stream) {
      bytes += chunk.length;
      if (bytes > ARCHIVE_BYTES_MAX) {
        throw new SandboxError("ResourceExhausted", `it has more than ${ARCHIVE_BYTES_MAX} bytes`);
      }
      for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
    }
  } catch (error) {
    file.close();
    const { code, message } = SandboxError.from(error);
    const known = code === "ResourceExhausted" ? code : "InvalidArgument";
    throw new SandboxError(known, `cannot read image "${path}": ${message}`, { cause: error });
  }
  return await layoutFile(path, file);
}

async function openUnnamed(path: string): Promise<Deno.FsFile> {
  try {
    return await Deno.open(path, { read: true, write: true });
  } finally {
    await Deno.remove(path);
  }
}

async function inContainerd(name: string, { containerd }: SourceOptions): Promise<Source> {
  if (name === "" || /[\s\0]/.test(name)) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot use "${name}": expected the name of an image`,
    );
  }
  const place = { ...CONTAINERD_PLACE, ...containerd };
  if (await statusOf(place.address) === undefined) {
    throw new SandboxError(
      "Unavailable",
      `cannot find "${name}": there is no such file or directory, and no containerd answers at ` +
        `"${place.address}", which could have an image of that name`,
    );
  }
  return {
    kind: "image",
    // Few programs need a client of containerd.
    open: async () => await (await import("./containerd.ts")).containerdImage(name, place),
  };
}
