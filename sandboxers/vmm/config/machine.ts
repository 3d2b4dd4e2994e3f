/**
 * From the configuration and a pod to the machine that the pod gets: how many CPUs, how much memory,
 * which devices. Sizes are rounded, so that many pods fit the same template.
 *
 * @module
 */

import { INITRD_FILE, KERNEL_FILE } from "../../../guest/image/paths.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { ResourceSpec, SandboxSpec } from "../../lifecycle/spec.ts";
import type { MachineSpec } from "../hypervisor.ts";
import { ANNOTATION_PREFIX, type PodWishes, wishesOf } from "./annotations.ts";
import type { HypervisorSection, VmmConfig } from "./config.ts";
import { GUEST_MEMORY_MIN_MB } from "./schema.ts";

const MIB = 1 << 20;

/** Memory comes in pages of this many MiB. */
const MEMORY_UNIT_MB = 2;

/**
 * What a guest needs of its memory before containers have any: measured on a guest of 128 MiB, 39 for
 * the kernel, the rest for the initrd's files, the agent and what runs while a container is made.
 */
const GUEST_OVERHEAD_MB = 72;

/** The kernel's own account of memory: 64 bytes for each page of 4096. */
const PAGE_ACCOUNT_SHARE = 1 / 64;

/** What the host has to do with a pod's machine. */
export interface HostFacts {
  /** Who executes the code of guests here. */
  readonly accelerator: "kvm" | "tcg";
  /** How many CPUs it has. */
  readonly cpus: number;
}

/** The machine of a pod. */
export interface PodMachine {
  /** What it is made of. */
  readonly spec: MachineSpec;
  /** Whether it may be the clone of a template. */
  readonly template: boolean;
  /** Whether it may be made anew with a shared tree, once a volume asks for one. */
  readonly mayShare: boolean;
}

/** What the machine of a pod depends on. */
export type PodShape = Pick<SandboxSpec, "id" | "resources" | "annotations" | "network">;

/**
 * The machine of a pod.
 *
 * @param config The configuration.
 * @param pod The pod.
 * @param host The host.
 * @param interfaces How many network interfaces the pod has beside its loopback, where it has a
 *   network namespace and that has been looked at.
 * @throws {SandboxError} `InvalidArgument` for an annotation that cannot be fulfilled, more memory
 *   than the configuration allows, or less than a guest needs; `Unimplemented` for the host's
 *   network.
 */
export function machineFor(
  config: VmmConfig,
  pod: PodShape,
  host: HostFacts,
  interfaces: number = config.network.interfaces,
): PodMachine {
  const { hypervisor, template, storage } = config;
  const wishes = wishesOf(pod, config.limits);
  const cpus = cpusFor(config, pod, wishes, host);
  const memoryBytes = memoryInMbFor(config, pod, wishes) * MIB;
  const shareFs = wishes.shareFs ?? hypervisor.shareFs;
  const maxima = maximaFor(config, host, cpus, memoryBytes);
  return {
    spec: {
      machine: hypervisor.machineType,
      machineOptions: hypervisor.machineAccelerators,
      accelerator: host.accelerator,
      cpuModel: hypervisor.cpuModel,
      cpus,
      memoryBytes,
      ...maxima,
      hugepages: hypervisor.hugepages,
      ...guestFiles(hypervisor),
      kernelParams: hypervisor.kernelParams,
      entropySource: hypervisor.entropySource,
      ...networkFor(pod, Math.max(interfaces, config.network.interfaces)),
      diskSlots: storage.diskSlots,
      sharedTree: shareFs === "virtiofs",
      console: hypervisor.debug,
    },
    template: (wishes.template ?? true) && template.enable && !hypervisor.hugepages,
    mayShare: shareFs !== "none",
  };
}

/**
 * The kernel and the initrd that the configuration names.
 *
 * @param hypervisor Its section of the configuration.
 */
export function guestFiles(
  { imagePath, kernelPath, initrdPath }: HypervisorSection,
): { readonly kernel: string; readonly initrd: string } {
  return {
    kernel: kernelPath === "" ? `${imagePath}/${KERNEL_FILE}` : kernelPath,
    initrd: initrdPath === "" ? `${imagePath}/${INITRD_FILE}` : initrdPath,
  };
}

/**
 * How much memory a machine needs for containers that may use a number of bytes together, in bytes
 * and not yet rounded.
 */
export function guestMemoryBytes(containersBytes: number): number {
  return Math.ceil((containersBytes + GUEST_OVERHEAD_MB * MIB) / (1 - PAGE_ACCOUNT_SHARE));
}

function cpusFor(
  { hypervisor, limits }: VmmConfig,
  pod: PodShape,
  wishes: PodWishes,
  host: HostFacts,
): number {
  const max = limits.maxVcpus === 0 ? host.cpus : limits.maxVcpus;
  if (wishes.vcpus !== undefined) {
    if (wishes.vcpus <= max) return wishes.vcpus;
    const bound = limits.maxVcpus === 0
      ? `this host has ${host.cpus}`
      : `limits.max_vcpus of the configuration is ${max}`;
    throw refused(pod, `annotation "${ANNOTATION_PREFIX}vcpus" is ${wishes.vcpus}: ${bound}`);
  }
  const { cpuQuotaUs = 0, cpuPeriodUs = 100_000 } = pod.resources;
  // More than there are would not make it faster; the pod's cgroup holds the quota itself.
  if (cpuQuotaUs > 0) return Math.max(1, Math.min(Math.ceil(cpuQuotaUs / cpuPeriodUs), max));
  return hypervisor.vcpus;
}

function memoryInMbFor(
  { hypervisor, template, limits }: VmmConfig,
  pod: PodShape,
  { memoryInMb }: PodWishes,
): number {
  const max = limits.maxMemoryInMb;
  if (memoryInMb !== undefined) {
    const label = `annotation "${ANNOTATION_PREFIX}memory-in-mb" is ${memoryInMb}`;
    if (memoryInMb < GUEST_MEMORY_MIN_MB) {
      throw refused(pod, `${label}: a guest needs at least ${GUEST_MEMORY_MIN_MB} MiB`);
    }
    if (memoryInMb > max) throw refused(pod, `${label}: ${maxText(max)}`);
    return roundUp(memoryInMb, MEMORY_UNIT_MB);
  }
  const limitBytes = podMemoryBytes(pod.resources);
  if (limitBytes === undefined) return roundUp(hypervisor.memoryInMb, MEMORY_UNIT_MB);
  const neededMb = Math.ceil(guestMemoryBytes(limitBytes) / MIB);
  if (neededMb > max) {
    const limitMb = Math.ceil(limitBytes / MIB);
    throw refused(pod, `its memory limit of ${limitMb} MiB needs ${neededMb}: ${maxText(max)}`);
  }
  const rounded = roundUp(Math.max(neededMb, GUEST_MEMORY_MIN_MB), template.memoryStepInMb);
  return Math.min(rounded, roundUp(max, MEMORY_UNIT_MB));
}

function podMemoryBytes({ memoryBytes }: ResourceSpec): number | undefined {
  return memoryBytes !== undefined && memoryBytes > 0 ? memoryBytes : undefined;
}

function maxText(maxMb: number): string {
  return `limits.max_memory_in_mb of the configuration is ${maxMb}`;
}

function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}

/** How far a machine can grow: q35 takes CPUs and memory while it runs. */
function maximaFor(
  { hypervisor, limits }: VmmConfig,
  host: HostFacts,
  cpus: number,
  memoryBytes: number,
): Pick<MachineSpec, "cpusMax" | "memoryMaxBytes"> {
  if (hypervisor.machineType !== "q35") return { cpusMax: cpus, memoryMaxBytes: memoryBytes };
  return {
    cpusMax: Math.max(cpus, limits.maxVcpus === 0 ? host.cpus : limits.maxVcpus),
    memoryMaxBytes: Math.max(memoryBytes, roundUp(limits.maxMemoryInMb, MEMORY_UNIT_MB) * MIB),
  };
}

function networkFor(
  pod: PodShape,
  interfaces: number,
): Pick<MachineSpec, "network" | "interfaces"> {
  switch (pod.network.kind) {
    case "namespace":
      return { network: "tap", interfaces };
    case "user":
      return { network: "user", interfaces: 1 };
    case "none":
      return { network: "none", interfaces: 0 };
    case "host":
      throw new SandboxError(
        "Unimplemented",
        `cannot start sandbox "${pod.id}": a machine cannot use the host's network: leave out ` +
          "hostNetwork, or use another runtime handler",
      );
  }
}

function refused(pod: PodShape, reason: string): SandboxError {
  return new SandboxError("InvalidArgument", `cannot start sandbox "${pod.id}": ${reason}`);
}
