/**
 * Looks for the programs that a configuration names, and says how to get those that are missing.
 *
 * @module
 */

import { missingFilesOf, type NeededFile } from "../../config/needed_files.ts";
import { APP_KERNELS, type AppKernelName } from "../app_kernel.ts";
import type { QuarkConfig } from "./config.ts";

/**
 * Tells which files of a configuration are not there, a line each.
 *
 * @param config The configuration.
 * @param kernels The application kernels that count; all unless given.
 */
export async function missingFiles(
  config: QuarkConfig,
  kernels: readonly AppKernelName[] = APP_KERNELS,
): Promise<string[]> {
  return await missingFilesOf(kernels.flatMap((kernel) => kernelFiles(config, kernel)));
}

function kernelFiles(
  { gvisor, quark }: QuarkConfig,
  kernel: AppKernelName,
): readonly NeededFile[] {
  if (kernel === "gvisor") {
    return [{
      setting: "gvisor.path",
      path: gvisor.path,
      advice: "install the Debian package runsc, or set the path of runsc",
    }];
  }
  return [
    {
      setting: "quark.path",
      path: quark.path,
      advice: "build Quark from its sources and install it there, or set the path of quark",
    },
    {
      setting: "quark.config_path",
      path: quark.configPath,
      advice: "install Quark's config.json there, or set its path",
    },
  ];
}
