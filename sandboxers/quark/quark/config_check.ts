/**
 * Quark's own configuration, as far as this driver depends on it: it has to be in sandbox mode, in
 * which its sandbox process serves tasks by itself.
 *
 * Source: kuasar-io/kuasar docs/quark/README.md; QuarkContainer/Quark qlib/config.rs.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { type JsonObject, parseJsonObject } from "../../oci/json.ts";

/**
 * Checks that Quark is set up for sandboxes.
 *
 * @param path Its configuration.
 * @param action What is about to be done, for errors.
 * @throws {SandboxError} `FailedPrecondition`, with what to do.
 */
export async function checkQuarkConfig(path: string, action: string): Promise<void> {
  const config = await read(path, action);
  expect(config, { name: "Sandboxed", value: true }, path, action);
  expect(config, { name: "ShimMode", value: false }, path, action);
}

async function read(path: string, action: string): Promise<JsonObject> {
  try {
    return parseJsonObject(await Deno.readTextFile(path), `"${path}"`);
  } catch (error) {
    const { message } = SandboxError.from(error);
    const found = error instanceof Deno.errors.NotFound ? "no such file" : message;
    throw new SandboxError(
      "FailedPrecondition",
      `${action}: cannot use Quark's configuration "${path}": ${found}: expected the file that ` +
        `Quark's installation makes, with "Sandboxed": true, or another path in quark.config_path`,
      { cause: error },
    );
  }
}

/** A setting that is missing is false, as it is to Quark. */
function expect(
  config: JsonObject,
  { name, value }: { readonly name: string; readonly value: boolean },
  path: string,
  action: string,
): void {
  const found = config[name] ?? false;
  if (found === value) return;
  throw new SandboxError(
    "FailedPrecondition",
    `${action}: "${name}" is ${JSON.stringify(found)} in Quark's configuration "${path}": set it ` +
      `to ${value}, so that Quark serves the containers of a sandbox by itself`,
  );
}
