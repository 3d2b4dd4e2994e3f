/**
 * Writes image layouts of several layers for tests.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { tar, type TarEntry } from "../../../tests/support/tar.ts";

/** How layers are stored. */
export type LayerFormat = "tar" | "tar+gzip" | "tar+zstd";

/** What an image says of itself. */
export interface LayoutOptions {
  /** Its layers, the lowest first. */
  readonly layers: readonly (readonly TarEntry[])[];
  /** Fields of its configuration, such as `Entrypoint`. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** How layers are stored; default `tar+gzip`. */
  readonly format?: LayerFormat;
  /** Platforms for which there is this image, each as `os/architecture`; none: no index of them. */
  readonly platforms?: readonly string[];
}

/** Writes an image layout into a directory, which must be there. */
export async function writeLayout(directory: string, options: LayoutOptions): Promise<void> {
  const { layers, config = {}, format = "tar+gzip", platforms } = options;
  await Deno.mkdir(`${directory}/blobs/sha256`, { recursive: true });
  const write = async (mediaType: string, data: Uint8Array) => {
    const digest = createHash("sha256").update(data).digest("hex");
    await Deno.writeFile(`${directory}/blobs/sha256/${digest}`, data);
    return { mediaType, digest: `sha256:${digest}`, size: data.length };
  };
  const json = (mediaType: string, value: unknown) =>
    write(mediaType, new TextEncoder().encode(JSON.stringify(value)));
  const type = "application/vnd.oci.image";
  const descriptors = [];
  for (const entries of layers) {
    descriptors.push(await write(`${type}.layer.v1.${format}`, compress(tar(entries), format)));
  }
  const manifest = await json(`${type}.manifest.v1+json`, {
    schemaVersion: 2,
    config: await json(`${type}.config.v1+json`, { config }),
    layers: descriptors,
  });
  const root = platforms === undefined ? manifest : await json(`${type}.index.v1+json`, {
    schemaVersion: 2,
    manifests: platforms.map((platform) => {
      const [os, architecture] = platform.split("/");
      return { ...manifest, platform: { os, architecture } };
    }),
  });
  await Deno.writeTextFile(
    `${directory}/index.json`,
    JSON.stringify({ schemaVersion: 2, manifests: [root] }),
  );
}

function compress(data: Uint8Array<ArrayBuffer>, format: LayerFormat): Uint8Array {
  if (format === "tar+gzip") return gzipSync(data);
  return format === "tar+zstd" ? zstdCompressSync(data) : data;
}
