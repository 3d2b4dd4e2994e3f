/**
 * From an image's root to what it starts and what it consists of.
 *
 * @module
 */

import {
  type Descriptor,
  type ImageContent,
  readJson,
  strings,
  toDescriptor,
  unreadable,
} from "./content.ts";

/** An image for this machine. */
export interface ImageManifest {
  /** Its layers, the lowest first. */
  readonly layers: readonly Descriptor[];
  /** Entrypoint and arguments. */
  readonly args: readonly string[];
  /** Environment, as `KEY=value`. */
  readonly env: readonly string[];
  /** Where it starts. */
  readonly workingDirectory: string;
}

/** Indexes may name indexes; not for ever. */
const DEPTH_MAX = 4;
/** The architecture of this machine as OCI names it. */
const ARCHITECTURE: string = { x86_64: "amd64", aarch64: "arm64" }[Deno.build.arch];

const INDEX = /manifest\.list|image\.index/;

/**
 * Reads the manifest and the configuration of an image.
 *
 * @throws {SandboxError} `InvalidArgument` where it is damaged or for other machines only.
 */
export async function readManifest(content: ImageContent): Promise<ImageManifest> {
  let descriptor = await content.root();
  for (let depth = 0; depth < DEPTH_MAX; depth++) {
    const document = await readJson(content, descriptor);
    const { manifests, layers, config } = document;
    if (Array.isArray(manifests) && (INDEX.test(descriptor.mediaType) || layers === undefined)) {
      descriptor = choose(content, manifests.map((value) => toDescriptor(content, value)));
      continue;
    }
    if (!Array.isArray(layers)) throw unreadable(content, "its manifest names no layers");
    return {
      layers: layers.map((value) => toDescriptor(content, value)),
      ...await readConfig(content, toDescriptor(content, config)),
    };
  }
  throw unreadable(content, "its indexes name each other");
}

/** The manifest for this machine, or one that is for any. */
function choose(content: ImageContent, manifests: readonly Descriptor[]): Descriptor {
  const real = manifests.filter(({ platform }) => platform?.os !== "unknown");
  const found =
    real.find(({ platform: { os, architecture } = {} }) =>
      os === "linux" && architecture === ARCHITECTURE
    ) ?? real.find(({ platform }) => platform?.architecture === "wasm") ??
      (real.length === 1 ? real[0] : undefined);
  if (found !== undefined) return found;
  const platforms = real.map(({ platform = {} }) => `${platform.os}/${platform.architecture}`);
  throw unreadable(
    content,
    `it is for ${platforms.join(", ") || "no platform"}: expected linux/${ARCHITECTURE} or wasm`,
  );
}

async function readConfig(content: ImageContent, descriptor: Descriptor) {
  // The configuration of an artifact is no image's, and may be anything.
  const isImages = /image\.config|container\.image\.v1\+json/.test(descriptor.mediaType);
  const document = isImages ? await readJson(content, descriptor) : {};
  const { config } = document;
  const fields: Readonly<Record<string, unknown>> = typeof config === "object" ? { ...config } : {};
  return {
    args: [...list(fields["Entrypoint"]), ...list(fields["Cmd"])],
    env: list(fields["Env"]),
    workingDirectory: strings(fields)["WorkingDir"] || "/",
  };
}

function list(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}
