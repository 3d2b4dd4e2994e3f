/**
 * What can be configured of microVMs, as the program has it. The names in a file are the same with
 * underscores: `memoryInMb` is `memory_in_mb`.
 *
 * @module
 */

import type { LogLevel } from "../../log.ts";

/** The file that is read unless another is named. It need not be there. */
export const DEFAULT_CONFIG_FILE = "/etc/quasaur/vmm.toml";

/** The whole configuration. */
export interface VmmConfig {
  /** The sandboxer's own. */
  readonly sandbox: SandboxSection;
  /** The machines. */
  readonly hypervisor: HypervisorSection;
  /** Machines that are started from a saved one. */
  readonly template: TemplateSection;
  /** How machines are connected. */
  readonly network: NetworkSection;
  /** Files of containers. */
  readonly storage: StorageSection;
  /** How far pods may go. */
  readonly limits: LimitsSection;
}

/** `[sandbox]` */
export interface SandboxSection {
  /** Below it nothing is logged. */
  readonly logLevel: LogLevel;
}

/** Who executes the code of guests; `auto` for KVM where it works, else TCG. */
export type AcceleratorChoice = "auto" | "kvm" | "tcg";

/** Whether pods get a shared tree of files; `auto` for those whose volumes need one. */
export type ShareFs = "auto" | "virtiofs" | "none";

/** `[hypervisor]` */
export interface HypervisorSection {
  /** The VMM's program. */
  readonly path: string;
  /** Who executes the code of guests. */
  readonly accelerator: AcceleratorChoice;
  /** The machine type. */
  readonly machineType: "microvm" | "q35";
  /** Further machine options; empty for none. */
  readonly machineAccelerators: string;
  /** The CPU model; empty for the accelerator's best. */
  readonly cpuModel: string;
  /** CPUs of a pod that says nothing. */
  readonly vcpus: number;
  /** Memory of a pod that says nothing, in MiB. */
  readonly memoryInMb: number;
  /** The directory of the guest's kernel and initrd. */
  readonly imagePath: string;
  /** The kernel; empty for that in `imagePath`. */
  readonly kernelPath: string;
  /** The initrd; empty for that in `imagePath`. */
  readonly initrdPath: string;
  /** Kernel parameters beside our own; empty for none. */
  readonly kernelParams: string;
  /** Whether guests have huge pages. */
  readonly hugepages: boolean;
  /** The host's source of entropy. */
  readonly entropySource: string;
  /** See {@link ShareFs}. */
  readonly shareFs: ShareFs;
  /** How disks are attached. */
  readonly blockDeviceDriver: "virtio-blk";
  /** Whether the guest's console is kept and the agent has a console for debugging. */
  readonly debug: boolean;
  /** How long a guest may take from its start until its agent answers, in seconds. */
  readonly readyTimeoutInS: number;
  /** The first of the user ids that VMMs run as; `root` for the sandboxer's own. */
  readonly runAs: number | "root";
  /** Of the file server for shared trees. */
  readonly virtiofsd: VirtiofsdSection;
}

/** `[hypervisor.virtiofsd]` */
export interface VirtiofsdSection {
  /** The program. */
  readonly path: string;
  /** What guests may keep of files. */
  readonly cache: "never" | "auto" | "always";
  /** Threads; 0 for none beside its own. */
  readonly threadPoolSize: number;
  /** What it logs. */
  readonly logLevel: "error" | "warn" | "info" | "debug" | "trace" | "off";
}

/** `[template]` */
export interface TemplateSection {
  /** Whether machines are started from a saved one. */
  readonly enable: boolean;
  /** How many paused machines are kept ready. */
  readonly pool: number;
  /** What of a start these have walked through before. */
  readonly rehearse: "none" | "setup" | "container";
  /** Where saved machines are kept; empty for below the state directory. */
  readonly directory: string;
  /** How many saved machines are kept. */
  readonly countMax: number;
  /** Sizes of memory are rounded up to multiples of this, in MiB. */
  readonly memoryStepInMb: number;
}

/** `[network]` */
export interface NetworkSection {
  /** How many network interfaces a pod can have. */
  readonly interfaces: number;
}

/** `[storage]` */
export interface StorageSection {
  /** Where images of root file systems are kept. */
  readonly cacheDirectory: string;
  /** How much they may take together, in MiB. */
  readonly cacheMaxInMb: number;
  /** Whether file content in images is compressed. */
  readonly compression: "none" | "lz4";
  /** How many disks a machine takes without plugging in a device. */
  readonly diskSlots: number;
}

/** What an annotation can ask for. */
export const ANNOTATION_NAMES = ["vcpus", "memory-in-mb", "share-fs", "template"] as const;

/** See {@link ANNOTATION_NAMES}. */
export type AnnotationName = typeof ANNOTATION_NAMES[number];

/** `[limits]` */
export interface LimitsSection {
  /** Most CPUs of a pod; 0 for as many as the host has. */
  readonly maxVcpus: number;
  /** Most memory of a pod's machine, in MiB. */
  readonly maxMemoryInMb: number;
  /** Annotations that pods may use, without their prefix. */
  readonly annotations: readonly AnnotationName[];
}
