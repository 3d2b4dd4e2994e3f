/**
 * Where metrics are read: a unix socket, or a port of this host's loopback interface. Nowhere else:
 * metrics say what runs on a node, and nobody is asked for a password.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";

/** Where metrics are read. */
export type MetricsAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly hostname: "127.0.0.1" | "::1"; readonly port: number };

/** The longest path of a unix socket, in bytes, without its final NUL (unix(7)). */
const SOCKET_PATH_BYTES_MAX = 107;

/** The highest port. */
const PORT_MAX = 65_535;

/**
 * Reads the value of `--metrics`.
 *
 * @param flag The flag's name, for messages.
 * @param text `unix:PATH`, `127.0.0.1:PORT`, `[::1]:PORT` or `none`.
 * @returns Undefined for `none`.
 * @throws {SandboxError} `InvalidArgument`, with what was found and what is expected.
 */
export function parseMetricsAddress(flag: string, text: string): MetricsAddress | undefined {
  if (text === "none") return undefined;
  if (text.startsWith("unix:")) return { kind: "unix", path: socketPath(flag, text) };
  const [, hostname = "", digits = ""] = /^(.*):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (hostname === "127.0.0.1" && isPort(port)) return { kind: "tcp", hostname, port };
  if (hostname === "[::1]" && isPort(port)) return { kind: "tcp", hostname: "::1", port };
  throw invalid(flag, text, "unix:PATH, 127.0.0.1:PORT, [::1]:PORT or none; nothing but loopback");
}

/**
 * An address as it is written on the command line.
 *
 * @param address The address; undefined for none.
 */
export function metricsAddressText(address: MetricsAddress | undefined): string {
  if (address === undefined) return "none";
  if (address.kind === "unix") return `unix:${address.path}`;
  const { hostname, port } = address;
  return hostname === "::1" ? `[::1]:${port}` : `${hostname}:${port}`;
}

function isPort(port: number): boolean {
  return port >= 1 && port <= PORT_MAX;
}

function socketPath(flag: string, text: string): string {
  const path = text.slice("unix:".length);
  const isPlain = path.startsWith("/") && !path.endsWith("/") && !path.includes("\0") &&
    !path.split("/").includes("..");
  if (!isPlain) throw invalid(flag, text, `unix: and the absolute path of a socket without ".."`);
  if (new TextEncoder().encode(path).length > SOCKET_PATH_BYTES_MAX) {
    throw invalid(flag, text, `a path of at most ${SOCKET_PATH_BYTES_MAX} bytes, as unix(7) says`);
  }
  return path;
}

function invalid(flag: string, found: string, expected: string): SandboxError {
  return new SandboxError(
    "InvalidArgument",
    `invalid ${flag} ${JSON.stringify(found)}: expected ${expected}`,
  );
}
