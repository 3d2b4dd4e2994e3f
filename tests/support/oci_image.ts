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

/** The architecture of this machine as OCI names it. */
export const OCI_ARCHITECTURE: string = { x86_64: "amd64", aarch64: "arm64" }[Deno.build.arch];

const encoder = new TextEncoder();

/** A stored blob: where it lies in the layout and how others refer to it. */
interface Blob {
  readonly entry: TarEntry;
  readonly descriptor: {
    readonly mediaType: string;
    readonly digest: string;
    readonly size: number;
  };
}

/**
 * Makes an image archive.
 *
 * @param image What the image holds.
 * @returns An OCI image layout as a tar archive; equal descriptions give equal bytes.
 */
export async function imageArchive(image: ImageDescription): Promise<Uint8Array<ArrayBuffer>> {
  const layer = tar(withParents(image.files));
  const layerBlob = await blob("application/vnd.oci.image.layer.v1.tar+gzip", await gzip(layer));
  const configBlob = await jsonBlob("application/vnd.oci.image.config.v1+json", {
    architecture: OCI_ARCHITECTURE,
    os: "linux",
    config: {
      Entrypoint: image.entrypoint,
      Cmd: image.cmd,
      Env: image.env,
      WorkingDir: image.workingDir,
      User: image.user,
    },
    rootfs: { type: "layers", diff_ids: [await digest(layer)] },
  });
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifestBlob = await jsonBlob(mediaType, {
    schemaVersion: 2,
    mediaType,
    config: configBlob.descriptor,
    layers: [layerBlob.descriptor],
  });
  const index = {
    schemaVersion: 2,
    manifests: [{
      ...manifestBlob.descriptor,
      annotations: { "io.containerd.image.name": image.reference },
    }],
  };
  return tar([
    { kind: "file", path: "oci-layout", data: json({ imageLayoutVersion: "1.0.0" }) },
    { kind: "file", path: "index.json", data: json(index) },
    layerBlob.entry,
    configBlob.entry,
    manifestBlob.entry,
  ]);
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
async function blob(mediaType: string, data: Uint8Array<ArrayBuffer>): Promise<Blob> {
  const sha256 = await digest(data);
  return {
    entry: { kind: "file", path: `blobs/${sha256.replace(":", "/")}`, data },
    descriptor: { mediaType, digest: sha256, size: data.length },
  };
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
