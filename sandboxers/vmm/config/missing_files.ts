/**
 * Looks for the files that a configuration names, and says how to get those that are missing.
 *
 * @module
 */

import type { VmmConfig } from "./config.ts";
import { guestFiles } from "./machine.ts";

/** A file that machines need. */
interface NeededFile {
  /** The setting that names it. */
  readonly setting: string;
  /** The file. */
  readonly path: string;
  /** How to get it. */
  readonly advice: string;
}

/**
 * Tells which files of a configuration are not there, a line each.
 *
 * @param config The configuration.
 */
export async function missingFiles(config: VmmConfig): Promise<string[]> {
  const missing: string[] = [];
  for (const { setting, path, advice } of neededFiles(config)) {
    const found = await whatIsAt(path);
    if (found !== undefined) missing.push(`${setting}: "${path}": ${found}: ${advice}`);
  }
  return missing;
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

/** What is wrong with a path; undefined where it is a file. */
async function whatIsAt(path: string): Promise<string | undefined> {
  try {
    return (await Deno.stat(path)).isFile ? undefined : "it is no file";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "no such file";
    if (error instanceof Deno.errors.NotADirectory) return "what is above it is no directory";
    return error instanceof Error ? error.message : String(error);
  }
}
