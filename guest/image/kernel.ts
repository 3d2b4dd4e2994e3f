/**
 * Gets the guest's kernel and its modules out of Debian packages.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { extractKernel } from "./bz_image.ts";
import { filesBelow } from "./files.ts";
import { wantedModules } from "./kernel_config.ts";
import { type KernelModule, pickModules } from "./modules.ts";
import { type PackageArchive, type PackageRecord, unpackPackages } from "./packages.ts";

/** The package that stands for the newest kernel made for virtual machines. */
const KERNEL_PACKAGE = "linux-image-cloud-amd64";

/** The packages behind it that have its files: the kernel, its modules and its configuration. */
const KERNEL_PARTS = /^linux-(image|binary|modules|base)-\d/;

/** A kernel for guests. */
export interface GuestKernel {
  /** Its release, such as `7.2.12+deb14-cloud-amd64`. */
  readonly release: string;
  /** The kernel as an ELF file. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The modules that every guest loads, in order. */
  readonly modules: readonly KernelModule[];
  /** The modules that guests load after these whose agent is reached over vsock, in order. */
  readonly vsockModules: readonly KernelModule[];
}

/**
 * Chooses the newest kernel that apt offers.
 *
 * @param archive Where from.
 * @returns The packages that have its parts.
 * @throws {SandboxError} `FailedPrecondition` where apt does not have it.
 */
export async function chooseKernel(archive: PackageArchive): Promise<PackageRecord[]> {
  const packages = await archive.resolve(KERNEL_PACKAGE, (name) => KERNEL_PARTS.test(name));
  return packages.filter(({ name }) => name !== KERNEL_PACKAGE);
}

/**
 * Gets the kernel out of its packages.
 *
 * @param packages The files of the packages.
 * @param scratch A directory to unpack to.
 * @throws {SandboxError} `FailedPrecondition` where it lacks something that guests need.
 */
export async function getKernel(
  packages: readonly string[],
  scratch: string,
): Promise<GuestKernel> {
  await unpackPackages(packages, scratch);
  const found = await findParts(scratch);
  const { always, vsock } = wantedModules(await Deno.readTextFile(found.config), found.release);
  const modules = await pickModules(found.modules, always);
  const all = await pickModules(found.modules, [...always, ...vsock]);
  return {
    release: found.release,
    bytes: await extractKernel(await Deno.readFile(found.image)),
    modules,
    vsockModules: all.slice(modules.length),
  };
}

/** Finds the kernel's parts; suites differ in where they are. */
async function findParts(
  root: string,
): Promise<{ release: string; image: string; config: string; modules: string }> {
  const paths: string[] = [];
  for await (const { path } of filesBelow(root)) paths.push(path.slice(root.length));
  const find = (pattern: RegExp, what: string) => {
    const path = paths.find((candidate) => pattern.test(candidate));
    if (path !== undefined) return path;
    throw new SandboxError(
      "FailedPrecondition",
      `cannot find ${what} in the packages behind ${KERNEL_PACKAGE}`,
    );
  };
  const modules = find(/^(\/usr)?\/lib\/modules\/[^/]+\/kernel\//, "the kernel's modules");
  const directory = /^.*\/modules\/[^/]+/.exec(modules)?.[0] ?? "";
  return {
    release: directory.split("/").at(-1) ?? "",
    image: root + find(/\/(boot\/vmlinuz-[^/]+|modules\/[^/]+\/vmlinuz)$/, "the kernel"),
    config: root + find(/\/(boot\/config-[^/]+|modules\/[^/]+\/config)$/, "its configuration"),
    modules: root + directory,
  };
}
