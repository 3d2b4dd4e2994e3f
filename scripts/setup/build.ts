/**
 * Builds what set-up builds, where the sources are newer than what is there, and installs the stub
 * shim.
 *
 * @module
 */

import { buildGuest } from "../../guest/image/build.ts";
import { isGuestStale } from "../../guest/image/manifest.ts";
import { GUEST_DIRECTORY } from "../../guest/image/paths.ts";
import { HOST_LAUNCHER_FILE } from "../../sandboxers/host/launcher_file.ts";
import { buildHostLauncher } from "../../sandboxers/host/native/build.ts";
import { buildNative, lacksEngine } from "../../sandboxers/wasm/native/build.ts";
import { LAUNCHER_FILE } from "../../sandboxers/wasm/native/launcher_file.ts";
import { LIBRARY_FILE } from "../../sandboxers/wasm/native/library_file.ts";
import { buildGuests } from "../../tests/guests/build.ts";
import { REPOSITORY } from "../../tests/support/permissions.ts";

/** Something to build. */
export interface BuildStep {
  /** What it is, for people. */
  readonly title: string;
  /** Whether it has to be built. */
  isStale(): Promise<boolean>;
  /** Builds it. */
  build(): Promise<void>;
}

/** Where the example modules are built. */
export const GUESTS_DIRECTORY: string = `${REPOSITORY}/tests/guests/build`;

/** Where the native helper is built. */
const NATIVE_DIRECTORY = `${REPOSITORY}/sandboxers/wasm/native/build`;

/** Where the host launcher is built, from sources of its own; one of them is the helper's too. */
const HOST_SOURCES = `${REPOSITORY}/sandboxers/host/native`;
const HOST_DIRECTORY = `${HOST_SOURCES}/build`;

/** The stub shim's source. */
const SHIM_SOURCE = `${REPOSITORY}/task/shim/containerd-shim-quasaur`;

/** The runtime types that containerd wants a stub shim for, without what all of them share. */
const RUNTIMES = ["wasm", "wasm-process", "vmm", "gvisor", "quark"];

/** The native helper of the wasm sandboxer. */
export const nativeHelper: BuildStep = {
  title: "native helper of the wasm sandboxer",
  isStale: async () =>
    !await areThere(NATIVE_DIRECTORY, [LIBRARY_FILE, LAUNCHER_FILE]) ||
    await isOlder(
      NATIVE_DIRECTORY,
      `${REPOSITORY}/sandboxers/wasm/native`,
      /\.[ch]$|(build|pod_program)\.ts$/,
    ) ||
    await isOlder(NATIVE_DIRECTORY, HOST_SOURCES, /^relay\.[ch]$/) ||
    await lacksEngine(NATIVE_DIRECTORY),
  build: async () => {
    await buildNative({ outDir: NATIVE_DIRECTORY });
  },
};

/** The launcher of sandboxers that work without FFI. */
export const hostLauncher: BuildStep = {
  title: "host launcher",
  isStale: async () =>
    !await areThere(HOST_DIRECTORY, [HOST_LAUNCHER_FILE]) ||
    await isOlder(HOST_DIRECTORY, HOST_SOURCES, /\.[ch]$|build\.ts$/),
  build: async () => {
    await buildHostLauncher({ outDir: HOST_DIRECTORY });
  },
};

/** The example modules. */
export const exampleModules: BuildStep = {
  title: "example modules",
  isStale: () => isOlder(GUESTS_DIRECTORY, `${REPOSITORY}/tests/guests`, /\.(c|h|wat)$|build\.ts$/),
  build: async () => {
    await buildGuests(GUESTS_DIRECTORY);
  },
};

/** What microVMs boot: the kernel, and the initrd with the agent. */
export const guestImage: BuildStep = {
  title: "kernel and initrd of microVMs",
  isStale: () => isGuestStale(GUEST_DIRECTORY, REPOSITORY),
  build: async () => {
    await buildGuest({ directory: GUEST_DIRECTORY });
  },
};

/**
 * The stub shims, for a containerd of the system.
 *
 * @param prefix The directory whose `bin` takes them, such as /usr/local.
 */
export function stubShims(prefix: string): BuildStep {
  const paths = RUNTIMES.map((name) => `${prefix}/bin/containerd-shim-quasaur-${name}-v1`);
  return {
    title: `stub shim ${paths.join(", ")}`,
    isStale: async () => {
      const source = await Deno.readTextFile(SHIM_SOURCE);
      const there = await Promise.all(
        paths.map((path) => Deno.readTextFile(path).catch(() => undefined)),
      );
      return there.some((text) => text !== source);
    },
    build: async () => {
      await Deno.mkdir(`${prefix}/bin`, { recursive: true });
      for (const path of paths) {
        // A running containerd may execute the old file: replace it, never write into it.
        await Deno.copyFile(SHIM_SOURCE, `${path}.new`);
        await Deno.chmod(`${path}.new`, 0o755);
        await Deno.rename(`${path}.new`, path);
      }
    },
  };
}

/** Whether a directory has all of these files. */
async function areThere(directory: string, names: readonly string[]): Promise<boolean> {
  const files = await Promise.all(
    names.map((name) => Deno.stat(`${directory}/${name}`).catch(() => undefined)),
  );
  return files.every((file) => file?.isFile);
}

/** Whether an output directory is empty or has a file that is older than one of the sources. */
async function isOlder(outputs: string, sources: string, isSource: RegExp): Promise<boolean> {
  const built = await modificationTimes(outputs, /./);
  const oldest = Math.min(...built);
  const newest = Math.max(...await modificationTimes(sources, isSource));
  return built.length === 0 || newest > oldest;
}

/** When the files of a directory were changed, in milliseconds since the epoch. */
async function modificationTimes(directory: string, names: RegExp): Promise<number[]> {
  const entries = await Array.fromAsync(Deno.readDir(directory)).catch(() => []);
  const files = entries.filter(({ isFile, name }) => isFile && names.test(name));
  return await Promise.all(
    files.map(async ({ name }) => (await Deno.stat(`${directory}/${name}`)).mtime?.getTime() ?? 0),
  );
}
