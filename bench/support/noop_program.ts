/**
 * How a test bed runs the sandboxer that does nothing: with the rights of the wasm sandboxer, minus
 * those that it has no use for, so that checking them costs the same.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };
import type { SandboxerProgram } from "../../tests/support/sandboxer.ts";

/** The sandboxer around the driver that does nothing. */
export const noopProgram: SandboxerProgram = {
  kind: "noop",
  main: "bench/support/noop_main.ts",
  permissions: noopPermissions(),
};

/** The permission set of the wasm sandboxer with its own paths and without foreign functions. */
function noopPermissions(): Record<string, unknown> {
  const { ffi: _unused, net, ...rest } = config.permissions.wasm;
  return { ...rest, net: net.map((path) => path.replace("/quasaur/wasm", "/quasaur/noop")) };
}
