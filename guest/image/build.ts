/**
 * Builds what guests boot: the kernel, the initrd with the agent in it, and a manifest. It needs no
 * rights beyond those to its directory; the same packages and sources give the same bytes.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { buildAgent } from "../agent/build.ts";
import { checkInitrd, checkKernel } from "./check.ts";
import { sha256Hex } from "./digest.ts";
import { choosePrograms, composeInitrd, getPrograms } from "./initrd.ts";
import { chooseKernel, getKernel } from "./kernel.ts";
import { type BuiltFile, type GuestManifest, sourcesDigest } from "./manifest.ts";
import { PackageArchive } from "./packages.ts";
import { INITRD_FILE, KERNEL_FILE, MANIFEST_FILE } from "./paths.ts";

/** The repository's root. */
const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/** What to build. */
export interface GuestBuild {
  /** Where to; made where it is missing. */
  readonly directory: string;
  /** Whether the guest gets a shell for the debug console. Default false. */
  readonly console?: boolean;
  /** The agent, as a finished static program; built from its sources unless given. */
  readonly agent?: string;
}

/**
 * Builds kernel, initrd and manifest. The files of an earlier build are replaced at once each, the
 * manifest last.
 *
 * @param options See {@link GuestBuild}.
 * @returns The manifest.
 * @throws {SandboxError} `FailedPrecondition` with what is missing on this machine; `PermissionDenied`
 *   where the directory cannot be written to.
 */
export async function buildGuest(options: GuestBuild): Promise<GuestManifest> {
  const { directory, console = false } = options;
  const downloads = `${directory}/packages`;
  await makeDirectory(downloads);
  const scratch = await Deno.makeTempDir({ dir: directory, prefix: "scratch-" });
  try {
    const archive = new PackageArchive(scratch);
    const kernelPackages = await chooseKernel(archive);
    const programPackages = await choosePrograms(archive, console);
    const packages = [...kernelPackages, ...programPackages];
    const debs = await archive.download(packages, downloads);
    const [kernel, programs, agent] = await Promise.all([
      getKernel(debs.slice(0, kernelPackages.length), `${scratch}/kernel`),
      getPrograms(debs.slice(kernelPackages.length), `${scratch}/programs`, console),
      readAgent(options.agent, `${scratch}/agent`),
    ]);
    const initrd = composeInitrd(agent, programs, kernel.modules);
    checkKernel(kernel.bytes, KERNEL_FILE);
    checkInitrd(initrd, INITRD_FILE);
    const manifest: GuestManifest = {
      format: 1,
      kernelRelease: kernel.release,
      console,
      sources: await sourcesDigest(REPOSITORY),
      modules: kernel.modules.map(({ name }) => name),
      packages: packages.map(({ name, version, sha256 }) => ({ name, version, sha256 })),
      files: [
        await replace(directory, KERNEL_FILE, kernel.bytes),
        await replace(directory, INITRD_FILE, initrd),
      ],
    };
    const text = new TextEncoder().encode(`${JSON.stringify(manifest, undefined, 2)}\n`);
    await replace(directory, MANIFEST_FILE, text);
    await keepOnly(downloads, packages.map(({ sha256 }) => `${sha256}.deb`));
    return manifest;
  } finally {
    await Deno.remove(scratch, { recursive: true });
  }
}

/** The agent's bytes. */
async function readAgent(given: string | undefined, scratch: string): Promise<Uint8Array> {
  return await Deno.readFile(given ?? await buildAgent({ outDir: scratch }));
}

/** Makes the directory; those who run VMMs must be able to look into it. */
async function makeDirectory(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { recursive: true, mode: 0o755 });
    // An unwritable directory is told before anything is downloaded.
    await Deno.remove(await Deno.makeTempFile({ dir: path }));
  } catch (error) {
    if (!(error instanceof Deno.errors.PermissionDenied)) throw error;
    throw new SandboxError(
      "PermissionDenied",
      `cannot write to "${path}": permission denied: run as root, or name a directory of your own ` +
        "by --out (and its files in the configuration of the sandboxer)",
      { cause: error },
    );
  }
}

/** Puts a file in the place of an older one: a VMM that reads the old one keeps it. */
async function replace(
  directory: string,
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<BuiltFile> {
  const temporary = `${directory}/${name}.${Deno.pid}.new`;
  await Deno.writeFile(temporary, bytes, { mode: 0o644 });
  await Deno.chmod(temporary, 0o644);
  await Deno.rename(temporary, `${directory}/${name}`);
  return { name, bytes: bytes.length, sha256: await sha256Hex(bytes) };
}

/** Removes files of older builds. */
async function keepOnly(directory: string, names: readonly string[]): Promise<void> {
  for (const { name } of await Array.fromAsync(Deno.readDir(directory))) {
    if (!names.includes(name)) await Deno.remove(`${directory}/${name}`, { recursive: true });
  }
}
