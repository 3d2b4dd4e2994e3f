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

/** What names of directories for unpacked packages begin with. */
const SCRATCH_PREFIX = "scratch-";

/** No build takes so long, in milliseconds. */
const SCRATCH_MS = 60 * 60_000;

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
  await makeDirectory(directory);
  await makeDirectory(downloads);
  await removeOldScratch(directory);
  const scratch = await Deno.makeTempDir({ dir: directory, prefix: SCRATCH_PREFIX });
  try {
    const archive = new PackageArchive(scratch);
    const kernelPackages = await chooseKernel(archive);
    const programPackages = await choosePrograms(archive, console);
    const packages = [...kernelPackages, ...programPackages];
    const debs = await archive.download(packages, downloads);
    const parts = [
      getKernel(debs.slice(0, kernelPackages.length), `${scratch}/kernel`),
      getPrograms(debs.slice(kernelPackages.length), `${scratch}/programs`, console),
      readAgent(options.agent, `${scratch}/agent`),
    ] as const;
    // Nothing may still write there when the scratch directory is removed.
    await Promise.allSettled(parts);
    const [kernel, programs, agent] = await Promise.all(parts);
    const initrd = composeInitrd(agent, programs, kernel);
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

/** Makes a directory; those who run VMMs must be able to look into it, whatever the umask is. */
async function makeDirectory(path: string): Promise<void> {
  try {
    const isNew = await Deno.stat(path).then(() => false, () => true);
    await Deno.mkdir(path, { recursive: true });
    if (isNew) await Deno.chmod(path, 0o755);
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

/** Removes what builds left that were killed. */
async function removeOldScratch(directory: string): Promise<void> {
  for (const { name } of await Array.fromAsync(Deno.readDir(directory))) {
    if (!name.startsWith(SCRATCH_PREFIX)) continue;
    const path = `${directory}/${name}`;
    const changed = (await Deno.stat(path).catch(() => undefined))?.mtime?.getTime();
    if (changed === undefined || Date.now() - changed < SCRATCH_MS) continue;
    await Deno.remove(path, { recursive: true });
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
