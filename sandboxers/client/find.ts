/**
 * Finds the sandboxers that run on this machine: those at addresses that were given, or else those at
 * the default socket of each kind that accept a connection.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";

/** The default socket of each kind. */
export const DEFAULT_ADDRESSES: Readonly<Record<"wasm" | "vmm" | "quark", string>> = {
  wasm: "/run/quasaur/wasm.sock",
  vmm: "/run/quasaur/vmm.sock",
  quark: "/run/quasaur/quark.sock",
};

/** The environment variable that names sockets, with `:` between them. */
export const ADDRESS_VARIABLE = "QUASAUR_ADDRESS";

/** What {@link findSandboxers} found. */
export interface FoundSandboxers {
  /** Sockets that accept connections. */
  readonly addresses: readonly string[];
  /** Default sockets that are there and cannot be used, such as for want of permission. */
  readonly problems: readonly SandboxError[];
}

/** Where to look. */
export interface FindOptions {
  /**
   * Sockets, absolute paths, `unix://` before them or not. Empty or missing: those of the environment
   * variable `QUASAUR_ADDRESS`, or else the default sockets.
   */
  readonly addresses?: readonly string[];
  /** Sockets to try where none is named. Default: {@link DEFAULT_ADDRESSES}. */
  readonly defaults?: readonly string[];
}

/** How long a socket may take to accept a connection, in milliseconds. */
const CONNECT_MS = 2000;

/**
 * Finds sandboxers.
 *
 * @param options Where to look.
 * @returns Those that accept a connection; none at all is no error where no address was given.
 * @throws {SandboxError} `InvalidArgument` for an address that is not a path; `Unavailable` or
 *   `PermissionDenied` where one that was given does not accept a connection.
 */
export async function findSandboxers(options: FindOptions = {}): Promise<FoundSandboxers> {
  const given = givenAddresses(options);
  if (given.length > 0) {
    await Promise.all(given.map((address) => mustAccept(address)));
    return { addresses: given, problems: [] };
  }
  const addresses: string[] = [];
  const problems: SandboxError[] = [];
  const tried = await Promise.all(
    (options.defaults ?? Object.values(DEFAULT_ADDRESSES)).map(async (address) => ({
      address,
      error: await connectionError(address),
    })),
  );
  for (const { address, error } of tried) {
    if (error === undefined) addresses.push(address);
    else if (error.code === "PermissionDenied") problems.push(error);
  }
  return { addresses, problems };
}

/**
 * The sockets that were named, by the caller or else by the environment.
 *
 * @throws {SandboxError} `InvalidArgument` for one that is not an absolute path.
 */
export function givenAddresses({ addresses = [] }: FindOptions): string[] {
  const named = addresses.length > 0 ? addresses : environmentAddresses();
  return [...new Set(named.map(socketPath))];
}

/** What the environment says; nothing where it may not be read. */
function environmentAddresses(): string[] {
  try {
    return (Deno.env.get(ADDRESS_VARIABLE) ?? "").split(":").filter((path) => path !== "");
  } catch {
    return [];
  }
}

/**
 * The path of a socket's address.
 *
 * @param address An absolute path, `unix://` before it or not.
 * @throws {SandboxError} `InvalidArgument`
 */
export function socketPath(address: string): string {
  const path = address.replace(/^unix:(?:\/\/)?(?=\/)/, "");
  if (path.startsWith("/") && !path.includes("\0")) return path;
  throw new SandboxError(
    "InvalidArgument",
    `invalid address ${JSON.stringify(address)}: expected the absolute path of a sandboxer's ` +
      `socket, such as "${DEFAULT_ADDRESSES.wasm}"`,
  );
}

async function mustAccept(address: string): Promise<void> {
  const error = await connectionError(address);
  if (error !== undefined) throw error;
}

/** Why a socket does not accept a connection; undefined where it does. */
async function connectionError(path: string): Promise<SandboxError | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<"late">();
  const timer = setTimeout(() => resolve("late"), CONNECT_MS);
  const connected = Deno.connect({ transport: "unix", path });
  try {
    const outcome = await Promise.race([connected, late]);
    if (outcome !== "late") {
      outcome.close();
      return undefined;
    }
    connected.then((connection) => connection.close(), () => undefined);
    return new SandboxError(
      "Unavailable",
      `cannot reach the sandboxer at "${path}": no connection within ${CONNECT_MS} ms`,
    );
  } catch (error) {
    return connectError(path, error);
  } finally {
    clearTimeout(timer);
  }
}

function connectError(path: string, cause: unknown): SandboxError {
  if (cause instanceof Deno.errors.NotCapable) {
    return new SandboxError(
      "PermissionDenied",
      `cannot reach the sandboxer at "${path}": this program may not use its socket: permit it ` +
        `with --allow-net=unix:${path} --allow-read=${path} --allow-write=${path}`,
      { cause },
    );
  }
  if (cause instanceof Deno.errors.PermissionDenied) {
    return new SandboxError(
      "PermissionDenied",
      `cannot reach the sandboxer at "${path}": permission denied: its socket is for its own user ` +
        "only; run this as that user, such as root",
      { cause },
    );
  }
  const missing = cause instanceof Deno.errors.NotFound;
  return new SandboxError(
    "Unavailable",
    `cannot reach the sandboxer at "${path}": ` +
      `${missing ? "there is no such socket" : "nobody listens there"}; is it running?`,
    { cause },
  );
}
