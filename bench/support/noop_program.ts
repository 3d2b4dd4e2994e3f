/**
 * How a test bed runs the sandboxer that does nothing: like the wasm sandboxer, with its rights minus
 * those that it has no use for, so that checking them costs the same.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };
import { type SandboxerProgram, sandboxerProgram } from "../../tests/support/sandboxer.ts";

/** The sandboxer around the driver that does nothing. */
export const noopProgram: SandboxerProgram = {
  ...sandboxerProgram("wasm"),
  kind: "noop",
  main: "bench/support/noop_main.ts",
  permissions: noopPermissions(),
};

/**
 * The permission set of the wasm sandboxer with its own paths, without foreign functions, and with
 * containerd's directory instead: the FIFOs are there, which the wasm sandboxer opens through them.
 */
function noopPermissions(): Record<string, unknown> {
  const { ffi: _unused, net, read, write, ...rest } = config.permissions.wasm;
  return {
    ...rest,
    net: net.map((path) => path.replace("/quasaur/wasm", "/quasaur/noop")),
    read: [...read, "/run/containerd"],
    write: [...write, "/run/containerd"],
  };
}
