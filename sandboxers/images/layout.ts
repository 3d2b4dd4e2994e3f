/**
 * Images on disk: an OCI image layout, as a directory or as the tar archive of one. Source: OCI image
 * specification, image-layout.md.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import { FileSource } from "./bytes.ts";
import {
  type Descriptor,
  type ImageContent,
  parseObject,
  toDescriptor,
  unreadable,
} from "./content.ts";
import { choosePlatform } from "./manifest.ts";
import { TarReader } from "./tar.ts";

/** Most members of an archive that are looked at. */
const MEMBERS_MAX = 1_000_000;
/** Largest index.json, in bytes. */
const INDEX_BYTES_MAX = 16_777_216;
/** How much of a file in an archive is read at a time. */
const CHUNK_BYTES = 262_144;

/** Most names that a message has. */
const NAMES_MAX = 8;

/** Opens files of a layout by their path in it. */
interface LayoutFiles extends AsyncDisposable {
  open(path: string): Promise<ReadableStream<Uint8Array<ArrayBuffer>> | undefined>;
}

/**
 * Opens the image of a layout.
 *
 * @param path A directory with an image layout.
 */
export function layoutDirectory(path: string): ImageContent {
  return new Layout(path, {
    async open(name) {
      try {
        return (await Deno.open(`${path}/${name}`)).readable;
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) return undefined;
        throw error;
      }
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
}

/**
 * Opens the image of an archive.
 *
 * @param path A tar archive of an image layout, not compressed.
 * @throws {SandboxError} `InvalidArgument` where it is damaged.
 */
export async function layoutArchive(path: string): Promise<ImageContent> {
  return await layoutFile(path, await Deno.open(path));
}

/**
 * Opens the image of an archive that is open.
 *
 * @param path What messages call it.
 * @param file A tar archive of an image layout, not compressed; taken over.
 * @throws {SandboxError} `InvalidArgument` where it is damaged.
 */
export async function layoutFile(path: string, file: Deno.FsFile): Promise<ImageContent> {
  try {
    const members = await listMembers(file);
    if (members.has("manifest.json") && !members.has("index.json")) {
      throw unreadable(
        { name: path },
        "it is an archive of docker's own: expected an OCI image layout, as `docker save` of Docker " +
          "25 and later, `podman save --format oci-archive`, `ctr images export` or " +
          "`skopeo copy ... oci-archive:FILE` write it",
      );
    }
    return new Layout(path, {
      open(name) {
        const member = members.get(name);
        return Promise.resolve(member && section(file, member.offset, member.sizeBytes));
      },
      [Symbol.asyncDispose]() {
        file.close();
        return Promise.resolve();
      },
    });
  } catch (error) {
    file.close();
    throw SandboxError.from(error, `cannot read image "${path}"`);
  }
}

/** Where each file of an archive lies. */
async function listMembers(file: Deno.FsFile) {
  const source = new FileSource(file);
  const reader = new TarReader(source);
  const members = new Map<string, { readonly offset: number; readonly sizeBytes: number }>();
  for (let count = 0; count < MEMBERS_MAX; count++) {
    const member = await reader.next();
    if (member === undefined) break;
    if (member.kind !== "file") continue;
    const { sizeBytes } = member;
    members.set(member.path.replace(/^\.?\/+/, ""), { offset: source.offset, sizeBytes });
  }
  return members;
}

/** The name of an image in an index; empty for none. */
function nameOf({ annotations = {} }: Descriptor): string {
  return annotations["io.containerd.image.name"] ??
    annotations["org.opencontainers.image.ref.name"] ?? "";
}

/** A part of a file as a stream. */
function section(
  file: Deno.FsFile,
  offset: number,
  sizeBytes: number,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const source = new FileSource(file);
  let rest = sizeBytes;
  return new ReadableStream({
    async start() {
      await source.skip(offset);
    },
    async pull(controller) {
      const bytes = await source.read(Math.min(CHUNK_BYTES, rest));
      rest -= bytes.length;
      if (bytes.length > 0) controller.enqueue(bytes);
      if (bytes.length === 0 || rest === 0) controller.close();
    },
  });
}

/** See {@link layoutDirectory}. */
class Layout implements ImageContent {
  readonly #files: LayoutFiles;

  constructor(readonly name: string, files: LayoutFiles) {
    this.#files = files;
  }

  async root(): Promise<Descriptor> {
    const stream = await this.#files.open("index.json");
    if (stream === undefined) {
      throw unreadable(this, "it has no index.json: expected an OCI image layout");
    }
    const text = await new Response(stream).text();
    if (text.length > INDEX_BYTES_MAX) throw unreadable(this, "its index.json is too long");
    const { manifests } = parseObject(this, text, "index.json");
    if (!Array.isArray(manifests) || manifests.length === 0) {
      throw unreadable(this, "its index.json names no manifest");
    }
    const descriptors = manifests.map((value) => toDescriptor(this, value));
    const [first] = descriptors;
    if (first !== undefined && descriptors.length === 1) return first;
    const names = new Set(descriptors.map(nameOf));
    const images = names.size > 1 ? `: ${[...names].slice(0, NAMES_MAX).join(", ")}` : "";
    // One image for several platforms may be listed without an index of its own.
    if (names.size > 1 || descriptors.some(({ platform }) => platform?.os === undefined)) {
      throw unreadable(this, `it holds ${manifests.length} images${images}: expected one`);
    }
    return choosePlatform(this, descriptors);
  }

  async open({ digest }: Descriptor): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
    const stream = await this.#files.open(`blobs/${digest.replace(":", "/")}`);
    if (stream !== undefined) return stream;
    throw new SandboxError("NotFound", `cannot read image "${this.name}": ${digest} is missing`);
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#files[Symbol.asyncDispose]();
  }
}
