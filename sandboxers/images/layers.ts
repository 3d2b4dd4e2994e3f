/**
 * Unpacks the layers of an image into a directory: what the lowest has, changed by each above it.
 * What a layer says is a stranger's word: paths that lead out, files without end and content that is
 * not what its digest says are refused. Source: OCI image specification, layer.md.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { SandboxError } from "../lifecycle/errors.ts";
import { StreamSource } from "./bytes.ts";
import { type Descriptor, type ImageContent, openVerified, unreadable } from "./content.ts";
import { type ByteStream, decompressed } from "./decompress.ts";
import type { ImageManifest } from "./manifest.ts";
import { NO_ATTRIBUTES, type TarMember, TarReader } from "./tar.ts";
import { Unpacker } from "./unpacker.ts";

/** How much an image may be. */
export interface UnpackLimits {
  /** Bytes of all layers together, without compression. */
  readonly bytesMax: number;
  /** Members of all layers together. */
  readonly entriesMax: number;
}

/** What is usual: beyond, it is a mistake or an attack. */
export const UNPACK_LIMITS: UnpackLimits = { bytesMax: 32 * 2 ** 30, entriesMax: 2_000_000 };

/** How far the work is. */
export interface UnpackProgress {
  /** Bytes of layers that were read, as they are stored. */
  readonly doneBytes: number;
  /** Bytes of all layers, as they are stored. */
  readonly allBytes: number;
}

/** How layers are unpacked. */
export interface UnpackOptions {
  /** Aborting it ends the work. */
  readonly signal: AbortSignal;
  /** See {@link UnpackLimits} (default: {@link UNPACK_LIMITS}). */
  readonly limits?: UnpackLimits;
  /** Hears how far it is. */
  readonly onProgress?: (progress: UnpackProgress) => void;
  /** The host launcher (default: the one that was built). */
  readonly launcherPath?: string;
}

/** What was unpacked. */
export interface Unpacked {
  /** Bytes of its files, as layers have them. */
  readonly bytes: number;
  /** Members of all layers. */
  readonly entries: number;
  /** Device files that were left out: only harmless ones are made. */
  readonly devicesLeftOut: number;
}

/** Layers without compression may be so much larger than as they are stored, from so many bytes on. */
const RATIO_MAX = 250;
const RATIO_FROM_BYTES = 256 * 2 ** 20;
/** How much of a file is passed on at a time. */
const CHUNK_BYTES = 262_144;
/** Longest path, and most directories in one. */
const PATH_BYTES_MAX = 3_500;
const DEPTH_MAX = 200;
/** Largest user or group number. */
const ID_MAX = 2 ** 32 - 2;
/** Times that file systems know, in seconds since the epoch. */
const TIME_MAX = 2 ** 33;

const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";
/** Names of a layered file system that has them for itself. */
const WHITEOUT_META = ".wh..wh.";

/** Layers of artifacts that are a module and nothing else. */
const MODULE_LAYER = /wasm\.content\.layer|bytecodealliance\.wasm|^application\/wasm$/;
const LAYER = /tar|\.layer\./;
/** The name of a module that brings none. */
const MODULE_NAME = "module.wasm";

/** Devices that programs expect and that do no harm: null, zero, full, random, urandom, tty. */
const HARMLESS_DEVICES = ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"];

/** Whether a layer is a module by itself, and no archive of files. */
export function isModuleLayer({ mediaType }: Pick<Descriptor, "mediaType">): boolean {
  return MODULE_LAYER.test(mediaType);
}

/**
 * The path of a module that is a layer by itself.
 *
 * @param layer The layer.
 * @param args What the image starts.
 */
export function modulePath(layer: Descriptor, [program]: readonly string[]): string {
  const title = layer.annotations?.["org.opencontainers.image.title"] ?? program ?? MODULE_NAME;
  const name = title.slice(title.lastIndexOf("/") + 1);
  return name === "" || name === "." || name === ".." ? MODULE_NAME : name;
}

/**
 * Unpacks layers.
 *
 * @param content The image.
 * @param manifest What it consists of.
 * @param directory Where to: empty, by absolute path. On failure, what is in it is of no use.
 * @throws {SandboxError} `InvalidArgument` where the image is damaged or not what it may be;
 *   `ResourceExhausted` where it is too large, or the disk is full; `Cancelled`.
 */
export async function unpackLayers(
  content: ImageContent,
  manifest: ImageManifest,
  directory: string,
  options: UnpackOptions,
): Promise<Unpacked> {
  await using unpacker = new Unpacker(directory, options.signal, options.launcherPath);
  const work = new LayerWork(content, manifest, unpacker, options);
  for (const index of manifest.layers.keys()) await work.unpack(index);
  await unpacker.finish();
  return work.result;
}

class LayerWork {
  readonly #content: ImageContent;
  readonly #manifest: ImageManifest;
  readonly #unpacker: Unpacker;
  readonly #options: UnpackOptions;
  readonly #limits: UnpackLimits;
  readonly #allBytes: number;
  #doneBytes = 0;
  #plainBytes = 0;
  #bytes = 0;
  #entries = 0;
  #devicesLeftOut = 0;

  constructor(
    content: ImageContent,
    manifest: ImageManifest,
    unpacker: Unpacker,
    options: UnpackOptions,
  ) {
    this.#content = content;
    this.#manifest = manifest;
    this.#unpacker = unpacker;
    this.#options = options;
    this.#limits = options.limits ?? UNPACK_LIMITS;
    this.#allBytes = manifest.layers.reduce((sum, { size }) => sum + size, 0);
  }

  get result(): Unpacked {
    return { bytes: this.#bytes, entries: this.#entries, devicesLeftOut: this.#devicesLeftOut };
  }

  /** Unpacks a layer, and looks whether it was the one that is named. */
  async unpack(index: number): Promise<void> {
    const layer = this.#manifest.layers[index];
    if (layer === undefined) return;
    await this.#unpacker.record({ kind: "layer" });
    const stored = (await openVerified(this.#content, layer)).pipeThrough(this.#count(layer));
    if (isModuleLayer(layer)) return await this.#addModule(layer, stored);
    if (!LAYER.test(layer.mediaType)) {
      await stored.cancel();
      throw this.#refused(`layers of type "${layer.mediaType}" are unknown: expected tar archives`);
    }
    const hash = createHash("sha256");
    const plain = (await decompressed(stored)).pipeThrough(this.#limit(layer, hash));
    await using source = new StreamSource(plain);
    const reader = new TarReader(source);
    for (let member = await reader.next(); member !== undefined; member = await reader.next()) {
      await this.#addMember(reader, member);
    }
    await source.drain();
    const expected = this.#manifest.diffIds[index];
    const found = `sha256:${hash.digest("hex")}`;
    if (expected !== undefined && expected !== found) {
      throw this.#refused(
        `layer ${layer.digest} holds ${found}: its configuration says ${expected}`,
      );
    }
  }

  /** Counts what is read of a layer as it is stored. */
  #count(layer: Descriptor) {
    let bytes = 0;
    return new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      transform: (chunk, controller) => {
        bytes += chunk.length;
        if (bytes > layer.size) {
          throw this.#refused(
            `${layer.digest} is longer than the ${layer.size} bytes it should have`,
          );
        }
        this.#doneBytes += chunk.length;
        this.#options.onProgress?.({ doneBytes: this.#doneBytes, allBytes: this.#allBytes });
        controller.enqueue(chunk);
      },
    });
  }

  /** Ends a layer that is a bomb. */
  #limit(layer: Descriptor, hash: { update(data: Uint8Array): unknown }) {
    let bytes = 0;
    const layerMax = Math.max(RATIO_FROM_BYTES, layer.size * RATIO_MAX);
    return new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      transform: (chunk, controller) => {
        bytes += chunk.length;
        this.#plainBytes += chunk.length;
        if (bytes > layerMax) {
          throw this.#tooLarge(
            `layer ${layer.digest} of ${layer.size} bytes has more than ${layerMax}`,
          );
        }
        if (this.#plainBytes > this.#limits.bytesMax) {
          throw this.#tooLarge(`its layers have more than ${this.#limits.bytesMax} bytes`);
        }
        hash.update(chunk);
        controller.enqueue(chunk);
      },
    });
  }

  async #addModule(layer: Descriptor, stream: ByteStream): Promise<void> {
    if (layer.size > this.#limits.bytesMax) throw this.#tooLarge(`${layer.digest} is too large`);
    this.#addEntry(layer.size);
    await this.#unpacker.record({
      kind: "file",
      path: modulePath(layer, this.#manifest.args),
      sizeBytes: layer.size,
      attributes: { ...NO_ATTRIBUTES, mode: 0o755 },
    });
    let bytes = 0;
    for await (const chunk of stream) {
      bytes += chunk.length;
      await this.#unpacker.content(chunk);
    }
    if (bytes !== layer.size) throw this.#refused(`${layer.digest} has ${bytes} bytes`);
  }

  async #addMember(reader: TarReader, member: TarMember): Promise<void> {
    const path = this.#plainPath(member.path, "path");
    this.#addEntry(member.kind === "file" ? member.sizeBytes : 0);
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (name.startsWith(WHITEOUT)) return await this.#whiteOut(path, name);
    const attributes = this.#attributes(member);
    const { kind } = member;
    switch (kind) {
      case "file":
        return await this.#addFile(reader, member, path);
      case "directory":
      case "fifo":
        return await this.#unpacker.record({ kind, path, attributes });
      case "symlink":
        if (member.target === "") throw this.#refused(`link "${path}" leads nowhere`);
        return await this.#unpacker.record({ kind, path, target: member.target, attributes });
      case "hardlink": {
        const target = this.#plainPath(member.target, "link target");
        return await this.#unpacker.record({ kind, path, target });
      }
      case "character-device":
      case "block-device":
        if (!isHarmless(member)) {
          this.#devicesLeftOut++;
          return;
        }
        return await this.#unpacker.record({ kind, path, attributes });
      case "other":
        throw this.#refused(`"${path}" is of a kind that layers do not have`);
    }
  }

  async #addFile(reader: TarReader, member: TarMember, path: string): Promise<void> {
    const { sizeBytes } = member;
    const attributes = this.#attributes(member);
    await this.#unpacker.record({ kind: "file", path, sizeBytes, attributes });
    for (let rest = sizeBytes; rest > 0;) {
      const bytes = await reader.read(Math.min(rest, CHUNK_BYTES));
      rest -= bytes.length;
      await this.#unpacker.content(bytes);
    }
  }

  async #whiteOut(path: string, name: string): Promise<void> {
    const parent = path.slice(0, -name.length);
    if (name === OPAQUE) {
      return await this.#unpacker.record({ kind: "opaque", path: parent.replace(/\/$/, "") });
    }
    if (name.startsWith(WHITEOUT_META)) return;
    const gone = name.slice(WHITEOUT.length);
    if (gone === "" || gone === "." || gone === "..") {
      throw this.#refused(`"${path}" removes nothing that has a name`);
    }
    await this.#unpacker.record({ kind: "whiteout", path: `${parent}${gone}` });
  }

  #addEntry(bytes: number): void {
    this.#bytes += bytes;
    if (++this.#entries > this.#limits.entriesMax) {
      throw this.#tooLarge(`its layers have more than ${this.#limits.entriesMax} files`);
    }
  }

  #attributes({ path, attributes }: TarMember): TarMember["attributes"] {
    const { uid, gid, mtimeSeconds, mode } = attributes;
    const isId = (id: number) => Number.isSafeInteger(id) && id >= 0 && id <= ID_MAX;
    if (!isId(uid) || !isId(gid) || !Number.isInteger(mode)) {
      throw this.#refused(`"${path}" has no owner or mode that makes sense`);
    }
    const isTime = Math.abs(mtimeSeconds) < TIME_MAX;
    return isTime ? attributes : { ...attributes, mtimeSeconds: 0 };
  }

  /** A path as the directory has it. */
  #plainPath(path: string, what: string): string {
    const parts = path.split("/").filter((part) => part !== "" && part !== ".");
    const plain = parts.join("/");
    if (parts.includes("..")) {
      throw this.#refused(`${what} ${JSON.stringify(path)} leads out of it`);
    }
    if (plain.includes("\0") || plain.length > PATH_BYTES_MAX || parts.length > DEPTH_MAX) {
      throw this.#refused(`${what} ${JSON.stringify(path.slice(0, 100))} is too long or has a NUL`);
    }
    return plain;
  }

  #refused(reason: string): SandboxError {
    return unreadable(this.#content, reason);
  }

  #tooLarge(reason: string): SandboxError {
    return unreadable(this.#content, reason, "ResourceExhausted");
  }
}

function isHarmless({ kind, attributes: { major, minor } }: TarMember): boolean {
  return kind === "character-device" && HARMLESS_DEVICES.includes(`${major}:${minor}`);
}
