/**
 * The OCI configuration of a container as its caller left it.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { ContainerSpec } from "../lifecycle/spec.ts";
import { defaultConfig } from "./default_config.ts";
import { type JsonObject, parseJsonObject } from "./json.ts";

/** Most bytes of a config.json. */
const CONFIG_BYTES_MAX = 8 << 20;

/**
 * Reads the config.json of a container's bundle; makes one from the specification alone where it has
 * no bundle.
 *
 * @param spec The container.
 * @throws {SandboxError} `InvalidArgument` for a document that is missing or cannot be read.
 */
export async function readConfig(spec: ContainerSpec): Promise<JsonObject> {
  return spec.bundle === "" ? defaultConfig(spec) : await readFile(spec.bundle);
}

async function readFile(bundle: string): Promise<JsonObject> {
  const path = `${bundle}/config.json`;
  const action = `cannot read "${path}"`;
  try {
    const { size } = await Deno.stat(path);
    if (size > CONFIG_BYTES_MAX) {
      throw new SandboxError(
        "InvalidArgument",
        `${action}: found ${size} bytes, expected at most ${CONFIG_BYTES_MAX}`,
      );
    }
    return parseJsonObject(await Deno.readTextFile(path), `"${path}"`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw SandboxError.from(error, action);
    throw new SandboxError("InvalidArgument", `${action}: no such file`, { cause: error });
  }
}
