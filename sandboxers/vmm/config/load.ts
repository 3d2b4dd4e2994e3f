/**
 * Loads the configuration of microVMs from its file and the command line, and checks what the values
 * have to do with each other.
 *
 * @module
 */

import { type ConfigOptions, KindConfig } from "../../config/kind_config.ts";
import type { ReadConfig } from "../../config/read.ts";
import { DEFAULT_CONFIG_FILE, type VmmConfig } from "./config.ts";
import { FOREIGN_KEYS, VMM_SCHEMA } from "./schema.ts";

/** Reads, checks and prints it. */
export const VMM_CONFIG: KindConfig<VmmConfig> = new KindConfig({
  kind: "vmm",
  schema: VMM_SCHEMA,
  file: DEFAULT_CONFIG_FILE,
  foreign: FOREIGN_KEYS,
  check,
});

/** See {@link KindConfig.read}. */
export function readVmmConfig(options: ConfigOptions = {}): ReadConfig<VmmConfig> {
  return VMM_CONFIG.read(options);
}

/** See {@link KindConfig.load}. */
export function loadVmmConfig(options: ConfigOptions = {}): VmmConfig {
  return VMM_CONFIG.load(options);
}

/** The configuration without any file. */
export function defaultVmmConfig(): VmmConfig {
  return VMM_CONFIG.defaults();
}

/** See {@link KindConfig.print}. */
export function printVmmConfig(read: ReadConfig<VmmConfig>): string {
  return VMM_CONFIG.print(read);
}

/** See {@link KindConfig.sample}. */
export function sampleVmmConfig(): string {
  return VMM_CONFIG.sample();
}

/** Finds values that do not go together. */
function check(
  { hypervisor, template, limits }: VmmConfig,
  problem: (path: string, message: string) => void,
): void {
  const { vcpus, memoryInMb } = hypervisor;
  if (limits.maxVcpus > 0 && vcpus > limits.maxVcpus) {
    problem("hypervisor.vcpus", `is ${vcpus}: limits.max_vcpus is ${limits.maxVcpus}`);
  }
  if (memoryInMb > limits.maxMemoryInMb) {
    problem(
      "hypervisor.memory_in_mb",
      `is ${memoryInMb}: limits.max_memory_in_mb is ${limits.maxMemoryInMb}`,
    );
  }
  if (template.memoryStepInMb % 2 !== 0) {
    problem(
      "template.memory_step_in_mb",
      `is ${template.memoryStepInMb}: expected an even number, as memory comes in pages of 2 MiB`,
    );
  }
  if (template.pool > 0 && !template.enable) {
    problem("template.pool", `is ${template.pool}, but template.enable is false`);
  }
  if (template.pool > 0 && hypervisor.hugepages) {
    problem("template.pool", `is ${template.pool}, but machines with huge pages cannot be cloned`);
  }
  if (template.pool > 0 && hypervisor.shareFs === "virtiofs") {
    problem(
      "template.pool",
      `is ${template.pool}, but hypervisor.share_fs is "virtiofs": such machines cannot be kept ready`,
    );
  }
}
