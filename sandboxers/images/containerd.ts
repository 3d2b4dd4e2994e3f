/**
 * Images in containerd's store, over its gRPC API.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import { Content } from "../../proto/gen/containerd/services/content/v1/content_pb.ts";
import { Images } from "../../proto/gen/containerd/services/images/v1/images_pb.ts";
import { GrpcClient } from "../../proto/grpc.ts";
import type { ContainerdPlace } from "./containerd_place.ts";
import type { Descriptor, ImageContent } from "./content.ts";

/** How long reading one blob may take, in milliseconds. */
const READ_MS_MAX = 600_000;
/** How long to wait for containerd to answer at all, in milliseconds. */
const CONNECT_MS_MAX = 5_000;

/**
 * Opens an image of containerd's.
 *
 * @param reference As `ctr images ls` shows it; docker.io's short names are understood.
 * @throws {SandboxError} `Unavailable` where containerd does not answer.
 */
export async function containerdImage(
  reference: string,
  place: ContainerdPlace,
): Promise<ImageContent> {
  const { address, namespaces } = place;
  const { state } = await Deno.permissions.query({ name: "net", host: `unix:${address}` });
  if (state !== "granted") throw unavailable(reference, address);
  const client = new GrpcClient(address);
  try {
    await client.ready(CONNECT_MS_MAX);
  } catch (error) {
    client.close();
    throw unavailable(reference, address, error);
  }
  return new ContainerdImage(reference, client, namespaces);
}

function unavailable(reference: string, address: string, cause?: unknown): SandboxError {
  const hint = cause === undefined
    ? `this program may not connect to "${address}": run it with --allow-net=unix:${address}`
    : `no containerd answers at "${address}"`;
  return new SandboxError("Unavailable", `cannot look image "${reference}" up: ${hint}`, { cause });
}

class ContainerdImage implements ImageContent {
  readonly #client: GrpcClient;
  readonly #namespaces: readonly string[];
  #metadata: Readonly<Record<string, string>> = {};

  constructor(readonly name: string, client: GrpcClient, namespaces: readonly string[]) {
    this.#client = client;
    this.#namespaces = namespaces;
  }

  async root(): Promise<Descriptor> {
    for (const namespace of this.#namespaces) {
      this.#metadata = { "containerd-namespace": namespace };
      for (const name of new Set([this.name, fullName(this.name)])) {
        const target = await this.#find(name);
        if (target !== undefined) return target;
      }
    }
    const names = this.#namespaces.map((namespace) => `"${namespace}"`).join(" or ");
    const namespace = this.#namespaces[0] ?? "default";
    throw new SandboxError(
      "NotFound",
      `cannot find image "${this.name}" in containerd's namespace ${names}: get it with ` +
        `\`ctr -n ${namespace} images pull ${fullName(this.name)}\``,
    );
  }

  async #find(name: string): Promise<Descriptor | undefined> {
    try {
      const options = { metadata: this.#metadata };
      const { image } = await this.#client.call(Images.method.get, { name }, options);
      if (image?.target === undefined) return undefined;
      const { mediaType, digest, size, annotations } = image.target;
      return { mediaType, digest, size: Number(size), annotations };
    } catch (error) {
      if (error instanceof SandboxError && error.code === "NotFound") return undefined;
      throw error;
    }
  }

  open({ digest, size }: Descriptor): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
    const messages = this.#client.stream(
      Content.method.read,
      { digest, size: BigInt(size) },
      { metadata: this.#metadata, timeoutMs: READ_MS_MAX },
    );
    async function* pieces() {
      for await (const { data } of messages) yield new Uint8Array(data);
    }
    const stream = ReadableStream.from(pieces());
    return Promise.resolve(stream);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#client.close();
    return Promise.resolve();
  }
}

/** The name that a short one stands for, as docker and crictl understand it. */
export function fullName(reference: string): string {
  const [first = "", ...rest] = reference.split("/");
  const hasRegistry = rest.length > 0 && (/[.:]/.test(first) || first === "localhost");
  const path = rest.length === 0 ? `docker.io/library/${reference}` : `docker.io/${reference}`;
  const name = hasRegistry ? reference : path;
  return /[@:][^/]*$/.test(name.slice(name.lastIndexOf("/"))) ? name : `${name}:latest`;
}
