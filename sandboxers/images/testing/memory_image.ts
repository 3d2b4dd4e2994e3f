/**
 * Images in memory for tests, with layers that no tool would write: every field of a member is the
 * test's to choose.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { concat } from "../../bytes.ts";
import type { Descriptor, ImageContent } from "../content.ts";

/** A member of a layer. */
export interface MemberOptions {
  /** Its type as tar has it: `0` file (default), `1` hard link, `2` link, `3` device, `5` directory. */
  readonly type?: string;
  /** Its path, as it is to stand there. */
  readonly path: string;
  /** What a link leads to. */
  readonly target?: string;
  /** The content of a file. */
  readonly data?: string | Uint8Array;
  /** Permission bits. */
  readonly mode?: number;
  /** Owner and group. */
  readonly owner?: readonly [number, number];
  /** Seconds since the epoch. */
  readonly mtime?: number;
  /** Numbers of a device. */
  readonly device?: readonly [number, number];
  /** Fields of an extended header before it. */
  readonly pax?: Readonly<Record<string, string>>;
}

const BLOCK_BYTES = 512;
const encoder = new TextEncoder();

/** A layer, not compressed. */
export function layer(members: readonly MemberOptions[]): Uint8Array<ArrayBuffer> {
  const parts = members.flatMap((member) => [...paxOf(member), ...block(member)]);
  return concat([...parts, new Uint8Array(2 * BLOCK_BYTES)]);
}

function paxOf({ pax }: MemberOptions): Uint8Array[] {
  if (pax === undefined) return [];
  const records = Object.entries(pax).map(([name, value]) => {
    const body = ` ${name}=${value}\n`;
    const bytes = encoder.encode(body).length;
    const length = `${bytes + `${bytes}`.length}`.length;
    return `${bytes + length}${body}`;
  });
  return block({ type: "x", path: "pax", data: records.join("") });
}

function block(options: MemberOptions): Uint8Array[] {
  const { type = "0", path, target = "", data = "", mode = 0o644, owner = [0, 0] } = options;
  const { mtime = 0, device = [0, 0] } = options;
  const content = typeof data === "string" ? encoder.encode(data) : data;
  const header = new Uint8Array(BLOCK_BYTES);
  const text = (at: number, value: string) => header.set(encoder.encode(value).slice(0, 100), at);
  const octal = (at: number, width: number, value: number) =>
    text(at, value.toString(8).padStart(width - 1, "0"));
  text(0, path);
  octal(100, 8, mode);
  octal(108, 8, owner[0]);
  octal(116, 8, owner[1]);
  octal(124, 12, content.length);
  octal(136, 12, mtime);
  text(148, " ".repeat(8));
  text(156, type);
  text(157, target);
  text(257, "ustar\0" + "00");
  octal(329, 8, device[0]);
  octal(337, 8, device[1]);
  octal(148, 7, header.reduce((sum, byte) => sum + byte, 0));
  header[154] = 0;
  const padding = (BLOCK_BYTES - content.length % BLOCK_BYTES) % BLOCK_BYTES;
  return [header, content, new Uint8Array(padding)];
}

/** What an image is made of. */
export interface MemoryImageOptions {
  /** Its layers, the lowest first, not compressed. */
  readonly layers: readonly Uint8Array<ArrayBuffer>[];
  /** Fields of its configuration, such as `Entrypoint`. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** What it says of its layers without compression; the truth unless given. */
  readonly diffIds?: readonly string[];
  /** What a layer is stored as; as gzip unless given. */
  readonly store?: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array;
  /** The media type of layers. */
  readonly layerType?: string;
}

/** An image in memory. */
export class MemoryImage implements ImageContent {
  readonly name = "memory";
  /** Blobs by digest; a test may change them. */
  readonly blobs = new Map<string, Uint8Array<ArrayBuffer>>();
  /** How often a blob was opened. */
  opened = 0;
  readonly #root: Descriptor;

  /** Puts it together. */
  constructor(options: MemoryImageOptions) {
    const { layers, config = {}, store = gzipSync } = options;
    const type = "application/vnd.oci.image";
    const { layerType = `${type}.layer.v1.tar+gzip` } = options;
    const descriptors = layers.map((bytes) => this.#add(layerType, new Uint8Array(store(bytes))));
    const document = {
      os: "linux",
      architecture: "amd64",
      config,
      rootfs: { type: "layers", diff_ids: options.diffIds ?? layers.map(digestOf) },
    };
    this.#root = this.#json(`${type}.manifest.v1+json`, {
      schemaVersion: 2,
      config: this.#json(`${type}.config.v1+json`, document),
      layers: descriptors,
    });
  }

  #json(mediaType: string, value: unknown): Descriptor {
    return this.#add(mediaType, encoder.encode(JSON.stringify(value)));
  }

  #add(mediaType: string, bytes: Uint8Array<ArrayBuffer>): Descriptor {
    const digest = digestOf(bytes);
    this.blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  }

  /** See {@link ImageContent.root}. */
  root(): Promise<Descriptor> {
    return Promise.resolve(this.#root);
  }

  /** See {@link ImageContent.open}. */
  open({ digest }: Descriptor): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
    this.opened++;
    return Promise.resolve(new Blob([this.blobs.get(digest) ?? new Uint8Array()]).stream());
  }

  /** Nothing is to be closed. */
  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

/** The digest of some bytes. */
export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** A directory that goes away with all that is in it. */
export async function temporaryDirectory(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await Deno.makeTempDir({ prefix: "quasaur-images-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}
