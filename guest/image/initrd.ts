/**
 * Composes the guest's first and only root file system: the agent as `/init`, the container runtime
 * with its libraries, and the kernel's modules in the order in which the agent loads them.
 *
 * @module
 */

import { type CpioEntry, writeCpio } from "./cpio.ts";
import { type ProgramNeeds, programNeeds } from "./libraries.ts";
import type { GuestKernel } from "./kernel.ts";
import type { KernelModule } from "./modules.ts";
import { type PackageArchive, type PackageRecord, unpackPackages } from "./packages.ts";

/** Where the agent finds the modules: `10-overlay.ko` and so on, loaded in the order of names. */
export const MODULE_DIRECTORY = "modules";

/** Those of guests whose agent is reached over vsock. */
export const VSOCK_MODULE_DIRECTORY = "modules-vsock";

/** The container runtime in the guest. */
const RUNTIME_PATH = "usr/bin/crun";

/** Directories that are there from the start: mount points, and what programs expect. */
const DIRECTORIES = [
  "dev",
  "etc",
  "mnt",
  "proc",
  "root",
  "run",
  "sys",
  "usr",
  "usr/bin",
  "usr/lib",
  "usr/lib/x86_64-linux-gnu",
  MODULE_DIRECTORY,
  VSOCK_MODULE_DIRECTORY,
];

/** What a person wants at hand on the debug console, as links to busybox. */
const CONSOLE_COMMANDS = [
  "cat",
  "date",
  "dd",
  "df",
  "dmesg",
  "env",
  "free",
  "grep",
  "head",
  "id",
  "ip",
  "kill",
  "less",
  "ls",
  "lsmod",
  "mount",
  "nc",
  "netstat",
  "ping",
  "ps",
  "sh",
  "sleep",
  "stty",
  "tail",
  "top",
  "umount",
  "vi",
  "wget",
];

/** Programs for the initrd, unpacked. */
export interface GuestPrograms {
  /** The container runtime. */
  readonly runtime: Uint8Array;
  /** What it needs. */
  readonly needs: ProgramNeeds;
  /** A shell and tools for the debug console; undefined without one. */
  readonly busybox: Uint8Array | undefined;
}

/**
 * Chooses the packages of the programs, in the newest versions that apt offers.
 *
 * @param archive Where from.
 * @param console Whether there is to be a shell for the debug console.
 * @throws {SandboxError} `FailedPrecondition` where apt does not have one of them.
 */
export async function choosePrograms(
  archive: PackageArchive,
  console: boolean,
): Promise<PackageRecord[]> {
  const runtime = await archive.resolve("crun", (name) => name.startsWith("lib"));
  const tools = console ? await archive.resolve("busybox-static", () => false) : [];
  return [...runtime, ...tools];
}

/**
 * Gets the programs out of their packages.
 *
 * @param packages The files of the packages.
 * @param scratch A directory to unpack to.
 * @param console As for {@link choosePrograms}.
 * @throws {SandboxError} `FailedPrecondition` where a library is in none of them.
 */
export async function getPrograms(
  packages: readonly string[],
  scratch: string,
  console: boolean,
): Promise<GuestPrograms> {
  await unpackPackages(packages, scratch);
  const runtime = await Deno.readFile(`${scratch}/${RUNTIME_PATH}`);
  return {
    runtime,
    needs: await programNeeds(runtime, "crun", scratch),
    busybox: console ? await readBusybox(scratch) : undefined,
  };
}

/** Suites differ in where it is. */
async function readBusybox(root: string): Promise<Uint8Array> {
  return await Deno.readFile(`${root}/usr/bin/busybox`)
    .catch(() => Deno.readFile(`${root}/bin/busybox`));
}

/**
 * Composes the initrd.
 *
 * @param agent The agent, a program that needs no libraries.
 * @param programs See {@link getPrograms}.
 * @param kernel What has the modules.
 * @returns The archive, uncompressed.
 */
export function composeInitrd(
  agent: Uint8Array,
  programs: GuestPrograms,
  kernel: Pick<GuestKernel, "modules" | "vsockModules">,
): Uint8Array<ArrayBuffer> {
  const { libraries, loader } = programs.needs;
  const entries: CpioEntry[] = [
    ...DIRECTORIES.map((path) => directory(path)),
    { kind: "directory", path: "tmp", mode: 0o1777 },
    { kind: "link", path: "bin", target: "usr/bin" },
    { kind: "link", path: "sbin", target: "usr/bin" },
    { kind: "link", path: "lib", target: "usr/lib" },
    program("init", agent),
    program(RUNTIME_PATH, programs.runtime),
    ...libraries.map(({ name, bytes }) => program(`usr/lib/x86_64-linux-gnu/${name}`, bytes)),
    ...moduleEntries(MODULE_DIRECTORY, kernel.modules),
    ...moduleEntries(VSOCK_MODULE_DIRECTORY, kernel.vsockModules),
  ];
  if (loader !== undefined) entries.push(...loaderEntries(loader.path.slice(1), loader.bytes));
  if (programs.busybox !== undefined) {
    entries.push(program("usr/bin/busybox", programs.busybox));
    entries.push(...CONSOLE_COMMANDS.map((name): CpioEntry => ({
      kind: "link",
      path: `usr/bin/${name}`,
      target: "busybox",
    })));
  }
  return writeCpio(entries);
}

/** Modules, by names whose order is that in which to load them. */
function moduleEntries(directory: string, modules: readonly KernelModule[]): CpioEntry[] {
  return modules.map(({ name, bytes }, index) => ({
    kind: "file",
    path: `${directory}/${index + 10}-${name}.ko`,
    mode: 0o644,
    bytes,
  }));
}

/** The loader, at the path that programs ask for. */
function loaderEntries(path: string, bytes: Uint8Array): CpioEntry[] {
  const parent = path.slice(0, path.lastIndexOf("/"));
  return [directory(parent), program(path, bytes)];
}

function directory(path: string): CpioEntry {
  return { kind: "directory", path, mode: 0o755 };
}

function program(path: string, bytes: Uint8Array): CpioEntry {
  return { kind: "file", path, mode: 0o755, bytes };
}
