/**
 * The files of an image as its layers make them, as far as modules go: which paths hold a
 * WebAssembly module, and which links lead to one. Nothing is written anywhere.
 *
 * @module
 */

import { MODULE_BYTES_MAX } from "../../sandboxers/wasm/module_bytes.ts";
import { StreamSource } from "../../sandboxers/images/bytes.ts";
import {
  type Descriptor,
  type ImageContent,
  openVerified,
  unreadable,
} from "../../sandboxers/images/content.ts";
import { type ByteStream, decompressed } from "../../sandboxers/images/decompress.ts";
import { isModuleLayer, modulePath } from "../../sandboxers/images/layers.ts";
import { walkLinks } from "../../sandboxers/images/links.ts";
import type { ImageManifest } from "../../sandboxers/images/manifest.ts";
import { type TarMember, TarReader } from "../../sandboxers/images/tar.ts";

/** What lies at a path. */
type Node =
  | { readonly kind: "module"; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "symlink"; readonly target: string }
  | { readonly kind: "directory" }
  | { readonly kind: "other" };

/** Most members of all layers. */
const MEMBERS_MAX = 2_000_000;
/** Most bytes of modules that are held. */
const BYTES_MAX = 1_073_741_824;

const MAGIC = [0x00, 0x61, 0x73, 0x6d];
const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";

/** The files of an image. */
export class ImageFiles {
  #nodes = new Map<string, Node>();
  #members = 0;
  #bytes = 0;

  /**
   * Applies layers.
   *
   * @param manifest Its layers, the lowest first, and what it starts.
   * @throws {SandboxError} `InvalidArgument` where one is damaged or of an unknown kind.
   */
  static async read(
    content: ImageContent,
    { layers, args }: Pick<ImageManifest, "layers" | "args">,
  ): Promise<ImageFiles> {
    const files = new ImageFiles();
    for (const layer of layers) {
      if (isModuleLayer(layer)) await files.#addModule(content, layer, modulePath(layer, args));
      else await files.#addLayer(content, layer);
    }
    return files;
  }

  /** Paths that hold a module, in order; links are not among them. */
  modulePaths(): string[] {
    const paths = [...this.#nodes].filter(([, node]) => node.kind === "module");
    return paths.map(([path]) => `/${path}`).sort();
  }

  /**
   * Follows links to a module.
   *
   * @param path Absolute.
   * @returns Its content and the path where it lies; `other` where something else lies there;
   *   undefined where nothing does.
   */
  find(
    path: string,
  ): { readonly path: string; readonly bytes: Uint8Array<ArrayBuffer> } | "other" | undefined {
    const real = followLinks(path, (at) => this.#nodes.get(at));
    const node = real === undefined ? undefined : this.#nodes.get(real);
    if (node?.kind === "module") return { path: `/${real}`, bytes: node.bytes };
    return node === undefined ? undefined : "other";
  }

  async #addModule(content: ImageContent, layer: Descriptor, path: string): Promise<void> {
    if (layer.size > MODULE_BYTES_MAX) throw unreadable(content, `${layer.digest} is too large`);
    const stream = await openVerified(content, layer);
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    this.#hold(content, bytes.length);
    this.#nodes.set(path, { kind: "module", bytes });
  }

  async #addLayer(content: ImageContent, layer: Descriptor): Promise<void> {
    await using source = new StreamSource(await openLayer(content, layer));
    const reader = new TarReader(source);
    const added = new Map<string, Node>();
    const removed: { readonly path: string; readonly itself: boolean }[] = [];
    for (let member = await reader.next(); member !== undefined; member = await reader.next()) {
      if (++this.#members > MEMBERS_MAX) throw unreadable(content, "it has too many files");
      const plain = plainPath(member.path);
      if (plain === undefined) continue;
      const slash = plain.lastIndexOf("/") + 1;
      const name = plain.slice(slash);
      // As when it is unpacked: what is put below a link goes where that leads.
      const real = followLinks(
        plain.slice(0, slash),
        (at) => added.get(at) ?? this.#nodes.get(at),
      );
      if (real === undefined) continue;
      const parent = real === "" ? "" : `${real}/`;
      const path = parent + name;
      if (name === OPAQUE) removed.push({ path: parent.slice(0, -1), itself: false });
      else if (name.startsWith(WHITEOUT)) {
        removed.push({ path: parent + name.slice(WHITEOUT.length), itself: true });
      } else added.set(path, await this.#node(content, reader, member, added));
    }
    await source.drain();
    this.#apply(added, removed);
  }

  /** Removals are about the layers below only, wherever they stand in their own. */
  #apply(
    added: ReadonlyMap<string, Node>,
    removed: readonly { readonly path: string; readonly itself: boolean }[],
  ): void {
    const gone = new Map(removed.map(({ path, itself }) => [path, itself]));
    for (const [path, node] of added) {
      if (node.kind !== "directory") gone.set(path, true);
    }
    const kept = [...this.#nodes].filter(([path]) => {
      if (gone.get(path) === true) return false;
      if (gone.has("") && path !== "") return false;
      for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1)) {
        if (gone.has(path.slice(0, at))) return false;
      }
      return true;
    });
    this.#nodes = new Map([...kept, ...added]);
  }

  async #node(
    content: ImageContent,
    reader: TarReader,
    { kind, target, sizeBytes }: TarMember,
    added: ReadonlyMap<string, Node>,
  ): Promise<Node> {
    if (kind === "symlink") return { kind, target };
    if (kind === "directory") return { kind };
    if (kind === "hardlink") {
      const path = plainPath(target) ?? "";
      return added.get(path) ?? this.#nodes.get(path) ?? { kind: "other" };
    }
    if (kind !== "file" || sizeBytes < MAGIC.length) return { kind: "other" };
    const head = await reader.read(MAGIC.length);
    if (MAGIC.some((byte, at) => head[at] !== byte)) return { kind: "other" };
    if (sizeBytes > MODULE_BYTES_MAX) return { kind: "other" };
    this.#hold(content, sizeBytes);
    const bytes = new Uint8Array(sizeBytes);
    bytes.set(head);
    bytes.set(await reader.read(sizeBytes - head.length), head.length);
    return { kind: "module", bytes };
  }

  #hold(content: ImageContent, bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > BYTES_MAX) {
      throw unreadable(content, `its modules have more than ${BYTES_MAX} bytes`);
    }
  }
}

/** Follows the links of a path; undefined where they lead around in circles. */
function followLinks(path: string, nodeAt: (path: string) => Node | undefined): string | undefined {
  const walk = walkLinks(path);
  let step = walk.next();
  while (!step.done) {
    const node = nodeAt(step.value);
    step = walk.next(node?.kind === "symlink" ? node.target : undefined);
  }
  return step.value;
}

/** A path without leading and doubled slashes; undefined where it leads out. */
function plainPath(path: string): string | undefined {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  return parts.includes("..") || parts.length === 0 ? undefined : parts.join("/");
}

async function openLayer(content: ImageContent, layer: Descriptor): Promise<ByteStream> {
  const { mediaType } = layer;
  const stream = await openVerified(content, layer);
  if (/[+.](tar|gzip|zstd)$/.test(mediaType)) return await decompressed(stream);
  await stream.cancel();
  throw unreadable(
    content,
    `layers of type "${mediaType}" are unknown: expected tar, gzip or zstd`,
  );
}
