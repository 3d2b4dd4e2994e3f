/**
 * Connects a program to a sandboxer that runs on this machine.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { RunningSandboxer } from "./api.ts";
import { DEFAULT_ADDRESSES, findSandboxers } from "./find.ts";

/**
 * Connects to a running sandboxer. What it needs is loaded here and not before, so a program that
 * opens sandboxers of its own pays nothing for it.
 *
 * @param address The sandboxer's socket, an absolute path, or its kind (`wasm`, `vmm`, `quark`) for
 *   the kind's default socket. Missing: what the environment variable `QUASAUR_ADDRESS` names, or else
 *   the one sandboxer that runs.
 * @returns The sandboxer; close the connection with `using`.
 * @throws {SandboxError} `Unavailable` or `PermissionDenied` where it cannot be reached;
 *   `InvalidArgument` where several run and none is named.
 */
export async function connect(address?: string): Promise<RunningSandboxer> {
  const { addresses, problems } = await findSandboxers(
    address === undefined ? {} : { addresses: [defaultAddress(address) ?? address] },
  );
  const [only, another] = addresses;
  if (only === undefined) throw problems[0] ?? nobody();
  if (another !== undefined) throw several(addresses);
  const [{ ConnectedSandboxer }, { ManagementClient }] = await Promise.all([
    import("./running_sandboxer.ts"),
    import("./management_client.ts"),
  ]);
  return new ConnectedSandboxer(new ManagementClient(only));
}

function defaultAddress(kind: string): string | undefined {
  return new Map(Object.entries(DEFAULT_ADDRESSES)).get(kind);
}

function nobody(): SandboxError {
  return new SandboxError(
    "Unavailable",
    "cannot connect: no sandboxer listens at its default socket below /run/quasaur; start one, or " +
      "name its socket",
  );
}

function several(addresses: readonly string[]): SandboxError {
  return new SandboxError(
    "InvalidArgument",
    `cannot connect: ${addresses.length} sandboxers run, name one of ${addresses.join(", ")}`,
  );
}
