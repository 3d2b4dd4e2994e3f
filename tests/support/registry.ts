/**
 * An image registry for tests: read-only, on this machine's loopback, as much of the OCI distribution
 * specification as a pull needs.
 *
 * @module
 */

import type { Blob, ImageLayout } from "./oci_image.ts";

/** A running registry. Disposing of it ends it. */
export class Registry implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #blobs = new Map<string, Blob>();
  readonly #tags = new Map<string, string>();

  /** Starts one on a free port. */
  constructor() {
    const options = { hostname: "127.0.0.1", port: 0, onListen: () => undefined };
    this.#server = Deno.serve(options, (request) => this.#answer(new URL(request.url).pathname));
  }

  /**
   * Offers an image.
   *
   * @param name Its name in the registry, such as `hello`; the tag is `1`.
   * @param layout Its blobs.
   * @returns The reference to pull it by.
   */
  add(name: string, layout: ImageLayout): string {
    for (const blob of layout.blobs) this.#blobs.set(blob.descriptor.digest, blob);
    this.#tags.set(name, layout.target.digest);
    return `127.0.0.1:${this.#server.addr.port}/${name}:1`;
  }

  #answer(path: string): Response {
    if (path === "/v2/") return new Response();
    const [, name = "", kind, what = ""] = /^\/v2\/(.+)\/(manifests|blobs)\/(.+)$/.exec(path) ?? [];
    const digest = kind === "manifests" && what === "1" ? this.#tags.get(name) : what;
    const blob = this.#blobs.get(digest ?? "");
    if (blob === undefined) return new Response(null, { status: 404 });
    const { descriptor, data } = blob;
    return new Response(data, {
      headers: {
        "content-type": kind === "manifests" ? descriptor.mediaType : "application/octet-stream",
        "docker-content-digest": descriptor.digest,
      },
    });
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}
