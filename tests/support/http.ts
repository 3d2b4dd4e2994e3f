/**
 * The smallest HTTP client: it knows no proxies and no connection reuse, so that a test sees just
 * what one server at one address answers.
 *
 * @module
 */

/**
 * Asks a server for its root page.
 *
 * @param hostname An IP address.
 * @param port A TCP port.
 * @returns The body.
 * @throws {Error} When nobody listens there.
 */
export async function httpGet(hostname: string, port: number): Promise<string> {
  using connection = await Deno.connect({ hostname, port });
  await connection.write(new TextEncoder().encode(`GET / HTTP/1.0\r\nHost: ${hostname}\r\n\r\n`));
  const chunks: Uint8Array[] = [];
  const buffer = new Uint8Array(4096);
  for (;;) {
    const count = await connection.read(buffer);
    if (count === null) break;
    chunks.push(buffer.slice(0, count));
  }
  const text = await new Blob(chunks.map((chunk) => new Uint8Array(chunk))).text();
  return text.split("\r\n\r\n").slice(1).join("\r\n\r\n");
}

/** A TCP port on which nobody listens just now. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
