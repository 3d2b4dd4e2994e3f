/**
 * Makes OCI images from a description of their files, so that tests need no registry: an OCI image
 * layout in a tar archive, as `ctr images import` takes it.
 *
 * @module
 */

import { run } from "./command.ts";
import { tar, type TarEntry } from "./tar.ts";

/** What an image holds and how it starts. */
export interface ImageDescription {
  /** Full reference, such as `quasaur.test/hello:1`. */
  readonly reference: string;
  /** The root file system: one layer. Parent directories are added where they are missing. */
  readonly files: readonly TarEntry[];
  /** What starts; a caller's command replaces it. */
  readonly entrypoint?: readonly string[];
  /** Arguments after the entrypoint; a caller's arguments replace them. */
  readonly cmd?: readonly string[];
  /** Environment as `KEY=value`. */
  readonly env?: readonly string[];
  /** Where it starts; default `/`. */
  readonly workingDir?: string;
  /** `uid`, `uid:gid` or a name of the image's /etc/passwd. */
  readonly user?: string;
}

/** What an image runs on, as OCI names it. */
export interface Platform {
  /** Such as `linux`, or `wasip1` and `wasi` of WebAssembly. */
  readonly os: string;
  /** Such as `amd64` or `wasm`. */
  readonly architecture: string;
}

/** Who makes images that hold a module as a blob of its own, in no file system. */
export type ArtifactFormat =
  /** runwasi's oci-tar-builder: an image configuration, without layers of a file system. */
  | "runwasi"
  /** The CNCF's "Wasm OCI Artifact layout", which oci-tar-builder --as-artifact and wkg make. */
  | "cncf"
  /** wasm-to-oci. */
  | "wasm-to-oci";

/** A module as an OCI artifact. */
export interface ArtifactDescription {
  /** Full reference, such as `quasaur.test/artifact:1`. */
  readonly reference: string;
  /** How it is packed. */
  readonly format: ArtifactFormat;
  /** The module. */
  readonly module: Uint8Array<ArrayBuffer>;
}

/** The architecture of this machine as OCI names it. */
export const OCI_ARCHITECTURE: string = { x86_64: "amd64", aarch64: "arm64" }[Deno.build.arch];

const encoder = new TextEncoder();

/** How a blob is referred to. */
export interface Descriptor {
  /** What it is. */
  readonly mediaType: string;
  /** `sha256:` and the hash. */
  readonly digest: string;
  /** Size in bytes. */
  readonly size: number;
  /** What a manifest's image runs on. */
  readonly platform?: Platform;
  /** Notes on it. */
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A stored blob and how others refer to it. */
export interface Blob {
  /** Its bytes. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** Refers to it. */
  readonly descriptor: Descriptor;
}

/** An image or several, as blobs. */
export interface ImageLayout {
  /** Full reference. */
  readonly reference: string;
  /** What the reference names: a manifest, or an index of several. */
  readonly target: Descriptor;
  /** All blobs, the target's among them. */
  readonly blobs: readonly Blob[];
}

/**
 * Makes an image archive.
 *
 * @param image What the image holds.
 * @returns An OCI image layout as a tar archive; equal descriptions give equal bytes.
 */
export async function imageArchive(image: ImageDescription): Promise<Uint8Array<ArrayBuffer>> {
  return archive(await imageLayout(image));
}

/**
 * Makes the blobs of an image.
 *
 * @param image What the image holds.
 * @param platform What it says that it runs on; this machine unless given.
 */
export async function imageLayout(
  image: ImageDescription,
  platform: Platform = { os: "linux", architecture: OCI_ARCHITECTURE },
): Promise<ImageLayout> {
  const layer = tar(withParents(image.files));
  const layerBlob = await blob("application/vnd.oci.image.layer.v1.tar+gzip", await gzip(layer));
  const configBlob = await jsonBlob("application/vnd.oci.image.config.v1+json", {
    architecture: platform.architecture,
    os: platform.os,
    config: {
      Entrypoint: image.entrypoint,
      Cmd: image.cmd,
      Env: image.env,
      WorkingDir: image.workingDir,
      User: image.user,
    },
    rootfs: { type: "layers", diff_ids: [await digest(layer)] },
  });
  return await manifestLayout(image.reference, configBlob, [layerBlob]);
}

/**
 * Makes the blobs of a module as an artifact, exactly as the tool of that format does.
 *
 * Sources: containerd/runwasi crates/oci-tar-builder; CNCF TAG Runtime, "Wasm OCI Artifact layout";
 * engineerd/wasm-to-oci pkg/oci.
 *
 * @param artifact The module, and how it is packed.
 */
export async function artifactLayout(artifact: ArtifactDescription): Promise<ImageLayout> {
  const { reference, format, module } = artifact;
  const platform: Platform = { os: "wasip1", architecture: "wasm" };
  const sha256 = await digest(module);
  switch (format) {
    case "runwasi": {
      const config = await jsonBlob("application/vnd.oci.image.config.v1+json", {
        ...platform,
        config: {
          Entrypoint: ["app.wasm"],
          Labels: { "containerd.runwasi.layers": sha256.slice("sha256:".length) },
        },
        rootfs: { type: "layers", diff_ids: [] },
        history: [],
      });
      const type = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
      return await manifestLayout(reference, config, [await blob(type, module)], platform);
    }
    case "cncf": {
      const config = await jsonBlob("application/vnd.wasm.config.v0+json", {
        created: "2026-01-01T00:00:00Z",
        author: null,
        ...platform,
        layerDigests: [sha256],
        component: null,
      });
      const layer = await blob("application/wasm", module);
      return await manifestLayout(reference, config, [layer], platform);
    }
    case "wasm-to-oci": {
      const config = await jsonBlob("application/vnd.wasm.config.v1+json", {});
      const layer = await blob("application/vnd.wasm.content.layer.v1+wasm", module, {
        annotations: { "org.opencontainers.image.title": "app.wasm" },
      });
      return await manifestLayout(reference, config, [layer]);
    }
  }
}

/**
 * Puts images for several platforms under one reference, as `docker buildx build --platform` does.
 *
 * @param reference The reference of them all.
 * @param images Each with its platform.
 */
export async function indexLayout(
  reference: string,
  images: readonly (readonly [platform: Platform, image: ImageLayout])[],
): Promise<ImageLayout> {
  const mediaType = "application/vnd.oci.image.index.v1+json";
  const manifests = images.map(([platform, { target }]) => ({ ...target, platform }));
  const index = await jsonBlob(mediaType, { schemaVersion: 2, mediaType, manifests });
  return {
    reference,
    target: index.descriptor,
    blobs: [...images.flatMap(([, { blobs }]) => blobs), index],
  };
}

/**
 * A layout as a tar archive, as `ctr images import` takes it.
 *
 * @param layout The blobs.
 */
export function archive(layout: ImageLayout): Uint8Array<ArrayBuffer> {
  const annotations = { "io.containerd.image.name": layout.reference };
  const index = { schemaVersion: 2, manifests: [{ ...layout.target, annotations }] };
  // What several images share is stored once.
  const blobs = new Map(layout.blobs.map(({ data, descriptor }) => [descriptor.digest, data]));
  return tar([
    { kind: "file", path: "oci-layout", data: json({ imageLayoutVersion: "1.0.0" }) },
    { kind: "file", path: "index.json", data: json(index) },
    ...[...blobs].map(([digest, data]): TarEntry => ({
      kind: "file",
      path: `blobs/${digest.replace(":", "/")}`,
      data,
    })),
  ]);
}

/** A manifest with all that it refers to. */
async function manifestLayout(
  reference: string,
  config: Blob,
  layers: readonly Blob[],
  platform?: Platform,
): Promise<ImageLayout> {
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = await jsonBlob(mediaType, {
    schemaVersion: 2,
    mediaType,
    config: config.descriptor,
    layers: layers.map(({ descriptor }) => descriptor),
  });
  return {
    reference,
    target: { ...manifest.descriptor, ...(platform && { platform }) },
    blobs: [...layers, config, manifest],
  };
}

/**
 * An image whose root file system is one WebAssembly module at /app.wasm, its entrypoint.
 *
 * @param reference Full reference of the image.
 * @param module The module's bytes.
 * @param more Further files and settings.
 */
export function wasmImage(
  reference: string,
  module: Uint8Array,
  more: Partial<ImageDescription> = {},
): ImageDescription {
  return {
    entrypoint: ["/app.wasm"],
    ...more,
    reference,
    files: [
      { kind: "file", path: "app.wasm", data: module, mode: 0o755 },
      ...more.files ?? [],
    ],
  };
}

/**
 * An image with the host's busybox and some of its commands.
 *
 * @param reference Full reference of the image.
 * @param more Further files and settings.
 * @throws {Error} When the machine has no busybox.
 */
export async function busyboxImage(
  reference: string,
  more: Partial<ImageDescription> = {},
): Promise<ImageDescription> {
  return {
    entrypoint: ["/bin/sh"],
    env: ["PATH=/bin"],
    ...more,
    reference,
    files: [
      ...await busyboxFiles(),
      ...BUSYBOX_COMMANDS.map((command): TarEntry => ({
        kind: "symlink",
        path: `bin/${command}`,
        target: "busybox",
      })),
      { kind: "directory", path: "tmp", mode: 0o1777 },
      ...more.files ?? [],
    ],
  };
}

/** The commands of busybox that images have. */
const BUSYBOX_COMMANDS = [
  "awk",
  "cat",
  "dd",
  "echo",
  "env",
  "false",
  "hostname",
  "httpd",
  "id",
  "ls",
  "mkdir",
  "printenv",
  "pwd",
  "sed",
  "seq",
  "sh",
  "sleep",
  "tail",
  "true",
];

/** busybox itself, with the libraries it needs where it is not static. */
async function busyboxFiles(): Promise<TarEntry[]> {
  const { stdout: path } = await run(["sh", "-c", "command -v busybox || echo /bin/busybox"]);
  const libraries = await run(["ldd", path.trim()], { check: false });
  const paths = [...libraries.stdout.matchAll(/(\/\S+) \(0x/g)].map(([, library = ""]) => library);
  const file = async (from: string, to: string): Promise<TarEntry> => ({
    kind: "file",
    path: to,
    data: await Deno.readFile(from),
    mode: 0o755,
  });
  return await Promise.all([
    file(path.trim(), "bin/busybox"),
    ...paths.map((library) => file(library, library.slice(1))),
  ]);
}

/** The entries with every missing parent directory before its first child. */
function withParents(entries: readonly TarEntry[]): TarEntry[] {
  const seen = new Set(entries.filter((entry) => entry.kind === "directory").map((e) => e.path));
  const all: TarEntry[] = [];
  for (const entry of entries) {
    const parts = entry.path.split("/");
    for (let depth = 1; depth < parts.length; depth++) {
      const path = parts.slice(0, depth).join("/");
      if (seen.has(path)) continue;
      seen.add(path);
      all.push({ kind: "directory", path });
    }
    all.push(entry);
  }
  return all;
}

/** JSON bytes. */
function json(value: unknown): Uint8Array<ArrayBuffer> {
  return encoder.encode(JSON.stringify(value));
}

/** A blob made of JSON. */
function jsonBlob(mediaType: string, value: unknown): Promise<Blob> {
  return blob(mediaType, json(value));
}

/** A blob and its descriptor. */
async function blob(
  mediaType: string,
  data: Uint8Array<ArrayBuffer>,
  more: Pick<Descriptor, "annotations"> = {},
): Promise<Blob> {
  const descriptor = { mediaType, digest: await digest(data), size: data.length, ...more };
  return { data, descriptor };
}

/** The OCI digest of some bytes. */
async function digest(data: Uint8Array<ArrayBuffer>): Promise<string> {
  return `sha256:${new Uint8Array(await crypto.subtle.digest("SHA-256", data)).toHex()}`;
}

/** The bytes compressed. */
async function gzip(data: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Response(data).body?.pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
