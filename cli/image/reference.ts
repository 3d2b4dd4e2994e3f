/**
 * What the name on a command line stands for: a module, an image on disk, or one in containerd.
 *
 * @module
 */

import { SandboxError } from "../../mod.ts";
import { MODULE_BYTES_MAX } from "../../sandboxers/wasm/module_bytes.ts";
import { containerdImage, type ContainerdPlace } from "./containerd.ts";
import type { ImageContent } from "./content.ts";
import { layoutArchive, layoutDirectory } from "./layout.ts";

/** What a name stands for. */
export type Reference =
  /** A file that holds a module, or at least is no archive. */
  | { readonly kind: "module"; readonly bytes: Uint8Array<ArrayBuffer> }
  /** An image, to be disposed of. */
  | { readonly kind: "image"; readonly content: ImageContent };

/** Where tar archives say what they are, and how. */
const TAR_MAGIC_OFFSET = 257;
const TAR_MAGIC = "ustar";

/**
 * Finds out what a name stands for: a file or directory where there is one of that name, else an
 * image of containerd's.
 *
 * @param name What the command line says.
 * @param place Where containerd is.
 * @throws {SandboxError} `NotFound` where there is no such file and the name can be no image.
 */
export async function resolveReference(name: string, place: ContainerdPlace): Promise<Reference> {
  const status = await Deno.stat(name).catch((error: unknown) => {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return undefined;
    }
    throw SandboxError.from(error, `cannot read "${name}"`);
  });
  if (status?.isDirectory) return { kind: "image", content: layoutDirectory(name) };
  if (status !== undefined) return await openFile(name, status.size);
  if (/^\.{0,2}\//.test(name) || name.endsWith(".wasm") || name.endsWith(".tar")) {
    throw new SandboxError("NotFound", `cannot read "${name}": there is no such file`);
  }
  return { kind: "image", content: await containerdImage(name, place) };
}

async function openFile(name: string, sizeBytes: number): Promise<Reference> {
  if (await isArchive(name)) return { kind: "image", content: await layoutArchive(name) };
  if (sizeBytes > MODULE_BYTES_MAX) {
    throw new SandboxError("InvalidArgument", `cannot read "${name}": it has ${sizeBytes} bytes`);
  }
  return { kind: "module", bytes: await Deno.readFile(name) };
}

async function isArchive(name: string): Promise<boolean> {
  using file = await Deno.open(name);
  await file.seek(TAR_MAGIC_OFFSET, Deno.SeekMode.Start);
  const magic = new Uint8Array(TAR_MAGIC.length);
  await file.read(magic);
  return new TextDecoder().decode(magic) === TAR_MAGIC;
}
