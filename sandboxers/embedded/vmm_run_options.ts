/**
 * From what a program asks for to what the lifecycle runs in a machine, as far as it differs from
 * other kinds.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { SandboxSpec } from "../lifecycle/spec.ts";
import { linuxSandboxSpec, rootfsPathOf } from "./linux_run_options.ts";
import type { VmmRunOptions, VmmSandboxOptions } from "./vmm_api.ts";

/** The name server of the network behind address translation: it asks those of the host. */
const USER_DNS = ["10.0.2.3"];

/** Asks for a shared tree; see vmm/config/annotations.ts. */
const SHARE_FS = "quasaur.dev/share-fs";

/**
 * The sandbox that the lifecycle is asked for.
 *
 * @throws {SandboxError} `InvalidArgument`, naming the option.
 */
export function vmmSandboxSpec(id: string, options: VmmSandboxOptions): SandboxSpec {
  const { network = { kind: "none" }, sharedTree = false } = options;
  return linuxSandboxSpec(id, options, {
    network,
    dns: { servers: network.kind === "user" ? USER_DNS : [], searches: [], options: [] },
    annotations: sharedTree ? { [SHARE_FS]: "virtiofs" } : {},
  });
}

/**
 * A directory, or an image file: the driver sees which.
 *
 * @throws {SandboxError} `InvalidArgument`
 */
export function vmmRootfs({ rootfs, image }: VmmRunOptions): string {
  if (rootfs !== undefined && image !== undefined) {
    throw new SandboxError(
      "InvalidArgument",
      "cannot run the container: both rootfs and image are given: expected one of them",
    );
  }
  return rootfsPathOf(rootfs ?? image, "rootfs, a directory, or image, a file system image");
}
