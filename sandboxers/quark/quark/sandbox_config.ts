/**
 * The config.json of a pod's bundle: what Quark's sandbox process is started with. No process runs of
 * it; it says which network namespace the sandbox enters and how many CPUs it gets.
 *
 * Source: kuasar-io/kuasar quark/src/sandbox.rs (create_spec); QuarkContainer/Quark
 * qvisor/src/runc/oci/mod.rs and runc/runtime/sandbox_process.rs.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { SandboxSpec } from "../../lifecycle/spec.ts";
import type { JsonObject } from "../../oci/json.ts";
import { resourcesObject } from "../../oci/resources.ts";
import { typeAnnotations } from "./container_config.ts";

/**
 * Makes the configuration.
 *
 * @param spec The pod.
 * @param name What Quark calls it.
 * @throws {SandboxError} `FailedPrecondition` for a network that Quark cannot give.
 */
export function sandboxConfig(spec: SandboxSpec, name: string): JsonObject {
  return {
    ociVersion: "1.0.2",
    process: { user: { uid: 0, gid: 0 }, args: [], cwd: "/" },
    root: { path: "rootfs" },
    ...(spec.hostname === "" ? {} : { hostname: spec.hostname }),
    annotations: { ...spec.annotations, ...typeAnnotations("sandbox", name) },
    linux: {
      ...(spec.sysctls === undefined ? {} : { sysctl: { ...spec.sysctls } }),
      resources: resourcesObject(spec.resources),
      namespaces: networkNamespace(spec),
    },
  };
}

/** None for the host's network, which Quark stays in; without a path Quark makes an empty one. */
function networkNamespace({ id, network }: SandboxSpec): readonly JsonObject[] {
  switch (network.kind) {
    case "host":
      return [];
    case "none":
      return [{ type: "network" }];
    case "namespace":
      return [{ type: "network", path: network.path }];
    case "user":
      throw new SandboxError(
        "FailedPrecondition",
        `cannot start sandbox "${id}": Quark has no network of a plain user's: choose none or host`,
      );
  }
}
