/**
 * Looks for the files that a configuration names, and says how to get those that are missing.
 *
 * @module
 */

import { missingFilesOf, type NeededFile } from "../../config/needed_files.ts";
import type { VmmConfig } from "./config.ts";
import { guestFiles } from "./machine.ts";

/**
 * Tells which files of a configuration are not there, a line each.
 *
 * @param config The configuration.
 */
export async function missingFiles(config: VmmConfig): Promise<string[]> {
  return await missingFilesOf(neededFiles(config));
}

function neededFiles({ hypervisor }: VmmConfig): NeededFile[] {
  const { kernel, initrd } = guestFiles(hypervisor);
  const { kernelPath, initrdPath, shareFs } = hypervisor;
  const build = "build it with `deno task guest:image`";
  return [
    {
      setting: "hypervisor.path",
      path: hypervisor.path,
      advice: "install the Debian package qemu-system-x86, or set the path of QEMU",
    },
    kernelPath === ""
      ? { setting: "hypervisor.image_path", path: kernel, advice: build }
      : { setting: "hypervisor.kernel_path", path: kernel, advice: "set the path of a kernel" },
    initrdPath === ""
      ? { setting: "hypervisor.image_path", path: initrd, advice: build }
      : { setting: "hypervisor.initrd_path", path: initrd, advice: "set the path of an initrd" },
    ...(shareFs === "none" ? [] : [{
      setting: "hypervisor.virtiofsd.path",
      path: hypervisor.virtiofsd.path,
      advice: 'install the Debian package virtiofsd, or set hypervisor.share_fs to "none"',
    }]),
  ];
}
