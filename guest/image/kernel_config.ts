/**
 * What the guest needs of its kernel, and which modules have to be loaded for it. Distributions
 * differ in what is built in: the configuration that comes with the kernel tells.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/** Something that a kernel can do. */
interface Feature {
  /** The option that switches it on, without `CONFIG_`. */
  readonly option: string;
  /** The module that has it, where it is one. */
  readonly module: string;
  /** Whether no pod works without it. */
  readonly required: boolean;
  /** Whether only guests need it whose agent is reached over vsock. */
  readonly isForVsock?: boolean;
}

/** Modules to load, without those that they need, in the order in which to load them. */
export interface WantedModules {
  /** In every guest. */
  readonly always: readonly string[];
  /** In guests whose agent is reached over vsock, after the others. */
  readonly vsock: readonly string[];
}

/** What has to be in the kernel itself: there is no module of it. */
const BUILT_IN = [
  "PVH",
  "BLK_DEV_INITRD",
  "DEVTMPFS",
  "TMPFS",
  "UNIX",
  "INET",
  "CGROUPS",
  "MEMCG",
  "CGROUP_PIDS",
  "CGROUP_FREEZER",
  "NAMESPACES",
  "PID_NS",
  "IPC_NS",
  "SECCOMP_FILTER",
  "EPOLL",
  "SIGNALFD",
];

/** What may be in modules: those that every start needs first. */
const FEATURES: readonly Feature[] = [
  { option: "VIRTIO_PCI", module: "virtio_pci", required: true },
  { option: "VIRTIO_CONSOLE", module: "virtio_console", required: true },
  { option: "HW_RANDOM_VIRTIO", module: "virtio_rng", required: false },
  { option: "VIRTIO_BLK", module: "virtio_blk", required: true },
  { option: "VIRTIO_NET", module: "virtio_net", required: true },
  { option: "OVERLAY_FS", module: "overlay", required: true },
  { option: "EROFS_FS", module: "erofs", required: true },
  { option: "EXT4_FS", module: "ext4", required: false },
  { option: "FUSE_FS", module: "fuse", required: true },
  { option: "VIRTIO_FS", module: "virtiofs", required: true },
  { option: "VIRTIO_BALLOON", module: "virtio_balloon", required: false },
  { option: "PVPANIC_PCI", module: "pvpanic_pci", required: false },
  { option: "PACKET", module: "af_packet", required: false },
  {
    option: "VIRTIO_VSOCKETS",
    module: "vmw_vsock_virtio_transport",
    required: false,
    isForVsock: true,
  },
];

/**
 * Decides which modules an initrd must have.
 *
 * @param config The kernel's configuration, in its text form.
 * @param release The kernel's release, for messages.
 * @returns Names of modules.
 * @throws {SandboxError} `FailedPrecondition` where something is neither built in nor a module, with
 *   all that is missing.
 */
export function wantedModules(config: string, release: string): WantedModules {
  const options = new Map(
    [...config.matchAll(/^CONFIG_([A-Z0-9_]+)=(.*)$/gm)].map(([, name = "", value = ""]) => [
      name,
      value,
    ]),
  );
  const missing = [
    ...BUILT_IN.filter((option) => options.get(option) !== "y").map((option) => `${option}=y`),
    ...FEATURES.filter(({ option, required }) => required && !options.has(option))
      .map(({ option }) => `${option}=y or =m`),
  ];
  if (missing.length > 0) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot use the kernel ${release}: it was built without what guests need: ` +
        missing.map((what) => `CONFIG_${what}`).join(", "),
    );
  }
  const modular = FEATURES.filter(({ option }) => options.get(option) === "m");
  const [vsock, always] = [true, false].map((isForVsock) =>
    modular.filter((feature) => (feature.isForVsock ?? false) === isForVsock)
      .map(({ module }) => module)
  );
  return { always: always ?? [], vsock: vsock ?? [] };
}
