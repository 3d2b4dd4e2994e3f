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

/** What an image says of how it is run. */
export interface ImageConfig {
  /** Entrypoint and arguments. */
  readonly args: readonly string[];
  /** The part of {@link ImageConfig.args} that stays when others give arguments. */
  readonly entrypoint: readonly string[];
  /** Environment, as `KEY=value`. */
  readonly env: readonly string[];
  /** Where it starts. */
  readonly workingDirectory: string;
  /** Who it runs as: `USER[:GROUP]`, names or numbers; empty for root. */
  readonly user: string;
  /** Its labels. */
  readonly labels: Readonly<Record<string, string>>;
  /** What it runs on, such as `linux/amd64` or `wasip1/wasm`; empty where it does not say. */
  readonly platform: string;
  /** Digests of its layers without compression; may be none. */
  readonly diffIds: readonly string[];
}

/** An image for this machine. */
export interface ImageManifest extends ImageConfig {
  /** The digest of its manifest. */
  readonly digest: string;
  /** Its layers, the lowest first. */
  readonly layers: readonly Descriptor[];
}

/** Indexes may name indexes; not for ever. */
const DEPTH_MAX = 4;
/** The architecture of this machine as OCI names it. */
const ARCHITECTURE: string = { x86_64: "amd64", aarch64: "arm64" }[Deno.build.arch];

/** The platform of artifacts that are a module. */
const MODULE_PLATFORM = "wasip1/wasm";

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
      descriptor = choosePlatform(content, manifests.map((value) => toDescriptor(content, value)));
      continue;
    }
    if (!Array.isArray(layers)) throw unreadable(content, "its manifest names no layers");
    return {
      digest: descriptor.digest,
      layers: layers.map((value) => toDescriptor(content, value)),
      ...await readConfig(content, toDescriptor(content, config)),
    };
  }
  throw unreadable(content, "its indexes name each other");
}

/**
 * The manifest for this machine, or one that is for any.
 *
 * @param content Whose they are, for the message.
 * @param manifests Each with its platform.
 * @throws {SandboxError} `InvalidArgument` where there is none.
 */
export function choosePlatform(
  content: Pick<ImageContent, "name">,
  manifests: readonly Descriptor[],
): Descriptor {
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

async function readConfig(content: ImageContent, descriptor: Descriptor): Promise<ImageConfig> {
  // The configuration of an artifact is no image's, and may be anything.
  const isImages = /image\.config|container\.image\.v1\+json/.test(descriptor.mediaType);
  const isModules = /wasm/.test(descriptor.mediaType);
  const document = isImages ? await readJson(content, descriptor) : {};
  const fields = objectOf(document["config"]);
  const entrypoint = list(fields["Entrypoint"]);
  const { os, architecture } = strings(document);
  const { User: user = "", WorkingDir: directory = "" } = strings(fields);
  return {
    args: [...entrypoint, ...list(fields["Cmd"])],
    entrypoint,
    env: list(fields["Env"]),
    workingDirectory: directory || "/",
    user,
    labels: strings(fields["Labels"]),
    platform: os ? `${os}/${architecture ?? ""}` : isModules ? MODULE_PLATFORM : "",
    diffIds: list(objectOf(document["rootfs"])["diff_ids"]),
  };
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" ? { ...value } : {};
}

function list(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}
