/**
 * Loads the configuration of microVMs from its file and the command line, and checks what the values
 * have to do with each other.
 *
 * @module
 */

import { configFromFlag, readConfigFile, readOptionalConfigFile } from "../../config/file.ts";
import { printConfig, sampleConfig } from "../../config/print.ts";
import {
  type ConfigSource,
  type ReadConfig,
  readConfig,
  valuesOrThrow,
} from "../../config/read.ts";
import { DEFAULT_CONFIG_FILE, type VmmConfig } from "./config.ts";
import { FOREIGN_KEYS, VMM_SCHEMA } from "./schema.ts";

/** What the configuration is made of. */
export interface VmmConfigOptions {
  /** The file; it has to be there. Default: {@link DEFAULT_CONFIG_FILE}, where that is there. */
  readonly file?: string | undefined;
  /** Settings that go before those of the file, as TOML: `hypervisor.vcpus=2`. */
  readonly set?: readonly string[];
}

/**
 * Reads the configuration, with all that is wrong with it.
 *
 * @throws {SandboxError} `NotFound` for a named file that is missing; `PermissionDenied`;
 *   `InvalidArgument` where it is not TOML.
 */
export function readVmmConfig(options: VmmConfigOptions = {}): ReadConfig<VmmConfig> {
  return readConfig(VMM_SCHEMA, sourcesOf(options), { foreign: FOREIGN_KEYS, check });
}

/**
 * The configuration, which is right.
 *
 * @throws {SandboxError} As {@link readVmmConfig}, and `InvalidArgument` with all that is wrong.
 */
export function loadVmmConfig(options: VmmConfigOptions = {}): VmmConfig {
  return valuesOrThrow(readVmmConfig(options), "of the vmm sandboxer");
}

/** The configuration without any file. */
export function defaultVmmConfig(): VmmConfig {
  return valuesOrThrow(readConfig(VMM_SCHEMA, [], { check }), "of the vmm sandboxer");
}

/** The configuration as TOML, each value with where it comes from. */
export function printVmmConfig({ values, places }: ReadConfig<VmmConfig>): string {
  return printConfig(VMM_SCHEMA, values, places);
}

/** A file with every key, commented out. */
export function sampleVmmConfig(): string {
  return sampleConfig(VMM_SCHEMA, [
    "Configuration of the vmm sandboxer. Copy it to /etc/quasaur/vmm.toml, or name it with --config.",
    "Every key is shown with its default; `quasaur config vmm` prints what is in effect.",
  ]);
}

function sourcesOf({ file, set = [] }: VmmConfigOptions): ConfigSource[] {
  const fromFile = file === undefined
    ? readOptionalConfigFile(DEFAULT_CONFIG_FILE)
    : readConfigFile(file);
  const fromFlags = set.map((text) => configFromFlag(text, "--set"));
  return [...(fromFile === undefined ? [] : [fromFile]), ...fromFlags];
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
