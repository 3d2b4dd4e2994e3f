/**
 * The oldest versions of what Quasaur stands on that will do: for set-up, which installs them, and for
 * `quasaur doctor`, which looks for them.
 *
 * @module
 */

/** The oldest containerd with the sandbox API that the sandboxers speak. */
export const CONTAINERD_MINIMUM = "2.1";

/** The oldest WasmEdge with the C API that the wasm sandboxer is written for. */
export const WASMEDGE_MINIMUM = "0.17";

/** The oldest QEMU that the vmm sandboxer was run with. */
export const QEMU_MINIMUM = "11.1";

/** The oldest mkfs.erofs that the vmm sandboxer was run with. */
export const EROFS_MINIMUM = "1.9";

/** The oldest runsc that the gVisor sandboxes were run with, by the day of its release. */
export const RUNSC_MINIMUM = "20240729";
