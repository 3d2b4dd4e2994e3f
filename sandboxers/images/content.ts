/**
 * Where the parts of an image are read from: blobs that are named by their digest. Implemented for
 * an image layout on disk, an archive of one, and containerd.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { type ErrorCode, SandboxError } from "../lifecycle/errors.ts";

/** Names a blob. Source: OCI image specification, descriptor.md. */
export interface Descriptor {
  /** What it holds. */
  readonly mediaType: string;
  /** `sha256:` and hexadecimal digits. */
  readonly digest: string;
  /** In bytes. */
  readonly size: number;
  /** The platform that a manifest of an index is for. */
  readonly platform?: { readonly os?: string; readonly architecture?: string };
  /** Further facts. */
  readonly annotations?: Readonly<Record<string, string>>;
}

/** The parts of one image. Disposing of it closes what it reads from. */
export interface ImageContent extends AsyncDisposable {
  /** What messages call the image. */
  readonly name: string;
  /** Its manifest, or the index that names its manifests. */
  root(): Promise<Descriptor>;
  /**
   * Opens a blob; its content is not verified here.
   *
   * @throws {SandboxError} `NotFound` where it is missing.
   */
  open(descriptor: Descriptor): Promise<ReadableStream<Uint8Array<ArrayBuffer>>>;
}

/** Largest manifest, index or configuration that is read, in bytes. */
const JSON_BYTES_MAX = 16_777_216;

const DIGEST = /^sha256:[0-9a-f]{64}$/;

/**
 * Opens a blob whose content is compared with its digest as it is read: an error comes at its end.
 *
 * @throws {SandboxError} `InvalidArgument` for a digest of another kind; see {@link ImageContent}.
 */
export async function openVerified(
  content: ImageContent,
  descriptor: Descriptor,
): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
  const { digest } = descriptor;
  if (!DIGEST.test(digest)) {
    throw unreadable(content, `digest ${JSON.stringify(digest)} is unknown`);
  }
  const hash = createHash("sha256");
  const verify = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(chunk, controller) {
      hash.update(chunk);
      controller.enqueue(chunk);
    },
    flush(controller) {
      const found = `sha256:${hash.digest("hex")}`;
      if (found !== digest) {
        controller.error(unreadable(content, `content of ${digest} is damaged: it is ${found}`));
      }
    },
  });
  return (await content.open(descriptor)).pipeThrough(verify);
}

/**
 * Reads a JSON blob.
 *
 * @returns Its object; fields may be anything.
 * @throws {SandboxError} `InvalidArgument` where it is damaged or too large.
 */
export async function readJson(
  content: ImageContent,
  descriptor: Descriptor,
): Promise<Readonly<Record<string, unknown>>> {
  if (descriptor.size > JSON_BYTES_MAX) {
    throw unreadable(content, `${descriptor.digest} has ${descriptor.size} bytes`);
  }
  const text = await new Response(await openVerified(content, descriptor)).text();
  return parseObject(content, text, descriptor.digest);
}

/**
 * Parses an object of JSON.
 *
 * @param what What it is, for the message.
 * @throws {SandboxError} `InvalidArgument`.
 */
export function parseObject(
  content: Pick<ImageContent, "name">,
  text: string,
  what: string,
): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return { ...value };
  } catch {
    // Said below.
  }
  throw unreadable(content, `${what} is no JSON object`);
}

/**
 * Reads a descriptor out of parsed JSON.
 *
 * @throws {SandboxError} `InvalidArgument` where it is none.
 */
export function toDescriptor(content: Pick<ImageContent, "name">, value: unknown): Descriptor {
  const fields: Partial<Record<keyof Descriptor, unknown>> = typeof value === "object"
    ? { ...value }
    : {};
  const { mediaType, digest, size, platform, annotations } = fields;
  if (typeof mediaType !== "string" || typeof digest !== "string" || typeof size !== "number") {
    throw unreadable(content, `${JSON.stringify(value)} is no descriptor`);
  }
  return {
    mediaType,
    digest,
    size,
    platform: strings(platform),
    annotations: strings(annotations),
  };
}

/** The fields of an object that are strings. */
export function strings(value: unknown): Record<string, string> {
  if (typeof value !== "object" || value === null) return {};
  const found: Record<string, string> = {};
  for (const [name, field] of Object.entries(value)) {
    if (typeof field === "string") found[name] = field;
  }
  return found;
}

/** The error for an image that cannot be read. */
export function unreadable(
  content: Pick<ImageContent, "name">,
  reason: string,
  code: ErrorCode = "InvalidArgument",
): SandboxError {
  return new SandboxError(code, `cannot read image "${content.name}": ${reason}`);
}
