/**
 * The first bytes on a connection to a pod process: who calls, in which version, and what for. They
 * have a fixed length and never change their shape, so that any two versions can tell each other
 * apart.
 *
 * @module
 */

/** The version of everything that follows the first bytes; both sides must have the same. */
export const PROTOCOL_VERSION = 1;

/** The name of the socket in a pod's directory. */
export const SOCKET_FILE = "socket";

/** How many bytes a hello has. */
export const HELLO_BYTES = 32;

const MAGIC = new TextEncoder().encode("QUASAUR-POD\0");
const KINDS = [undefined, "control", "descriptors"] as const;

/** What a connection is for. */
export interface Hello {
  /** {@link PROTOCOL_VERSION} of the caller. */
  readonly version: number;
  /** `control`: frames both ways; `descriptors`: this message brings some, and that is all. */
  readonly kind: "control" | "descriptors";
  /** Names the descriptors in later calls; 0 for `control`. */
  readonly ticket: number;
}

/** The bytes of a hello. */
export function encodeHello(hello: Hello): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HELLO_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(12, hello.version, true);
  view.setUint32(16, KINDS.indexOf(hello.kind), true);
  view.setUint32(20, hello.ticket, true);
  return bytes;
}

/** Reads a hello; undefined where the bytes are none. */
export function decodeHello(bytes: Uint8Array): Hello | undefined {
  if (bytes.length !== HELLO_BYTES || MAGIC.some((byte, at) => bytes[at] !== byte)) {
    return undefined;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kind = KINDS[view.getUint32(16, true)];
  if (kind === undefined) return undefined;
  return { version: view.getUint32(12, true), kind, ticket: view.getUint32(20, true) };
}
