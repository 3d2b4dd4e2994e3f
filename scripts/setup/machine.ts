/**
 * What set-up knows of the machine: plain facts, gathered in one place, so that planning can be
 * tested without a machine.
 *
 * @module
 */

import { run, type RunResult } from "../../tests/support/command.ts";
import {
  type PackagePolicy,
  parsePolicies,
  parseReleases,
  parseSimulation,
  type Release,
  type Simulation,
} from "./apt_policy.ts";
import { parseSources, type SourceEntry } from "./apt_sources.ts";
import { probe } from "./probes.ts";
import type { Requirement, RequirementId } from "./requirements.ts";

/** What apt says. */
export interface AptFacts {
  /** The releases that there are lists of. */
  readonly releases: readonly Release[];
  /** Where packages come from. */
  readonly sources: readonly SourceEntry[];
  /** What is known of each package that may be needed. */
  readonly policies: ReadonlyMap<string, PackagePolicy>;
  /** What an installation would do; it changes nothing. */
  simulate(packages: readonly string[], suite?: string): Promise<Simulation>;
}

/** The facts of a machine. */
export interface Machine {
  /** What it calls itself, for messages. */
  readonly osName: string;
  /** Whether this process may install packages. */
  readonly isRoot: boolean;
  /** What is there of the requirements, by id. */
  readonly found: ReadonlyMap<RequirementId, string>;
  /** undefined on a machine without apt. */
  readonly apt: AptFacts | undefined;
  /** Files of set-up's own that are there, by path. */
  readonly ownFiles: ReadonlyMap<string, string>;
}

/**
 * The packages that may be needed for a requirement, with every version of clang that apt offers.
 *
 * @param requirements What is required.
 * @param clang What is known of the package clang.
 */
export function packageNames(
  requirements: readonly Requirement[],
  clang: PackagePolicy | undefined,
): string[] {
  const majors = new Set(
    [clang?.installed, ...clang?.versions.map(({ version }) => version) ?? []]
      .flatMap((version) => clangMajor(version) ?? []),
  );
  return requirements.flatMap(({ packages }) => packages).flatMap(({ name }) =>
    name.includes("{clang}") ? [...majors].map((major) => name.replace("{clang}", major)) : [name]
  );
}

/**
 * The major version in the version of the package clang.
 *
 * @param version Such as `1:14.0-55.7~deb12u1`.
 */
export function clangMajor(version: string | undefined): string | undefined {
  return /^\d+:(\d+)\./.exec(version ?? "")?.[1];
}

/**
 * Looks at this machine. Changes nothing.
 *
 * @param requirements What is required.
 * @param ownFiles Paths of set-up's own files.
 */
export async function inspectMachine(
  requirements: readonly Requirement[],
  ownFiles: readonly string[],
): Promise<Machine> {
  const files = new Map<string, string>();
  for (const path of ownFiles) {
    const text = await Deno.readTextFile(path).catch(() => undefined);
    if (text !== undefined) files.set(path, text);
  }
  return {
    osName: await osName(),
    isRoot: Deno.uid() === 0,
    found: await probe(requirements.map(({ id }) => id)),
    apt: await inspectApt(requirements),
    ownFiles: files,
  };
}

/** The name in /etc/os-release, for messages only: an upgraded package can change it. */
async function osName(): Promise<string> {
  const text = await Deno.readTextFile("/etc/os-release").catch(() => "");
  return /^PRETTY_NAME="?([^"\n]*)/m.exec(text)?.[1] ?? "an unknown system";
}

/** What apt says. */
async function inspectApt(requirements: readonly Requirement[]): Promise<AptFacts | undefined> {
  try {
    const clang = parsePolicies(await aptCache("policy", "clang")).get("clang");
    const names = packageNames(requirements, clang);
    return {
      releases: parseReleases(await aptCache("policy")),
      sources: await readSources(),
      policies: parsePolicies(await aptCache("policy", ...names)),
      simulate: async (packages, suite) => {
        const { status, stdout, stderr } = await simulateInstall(packages, suite);
        return parseSimulation(status, stdout + stderr);
      },
    };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Runs apt-cache in the locale whose output is fixed. */
async function aptCache(...args: string[]): Promise<string> {
  return (await run(["apt-cache", ...args], { env: { LC_ALL: "C" } })).stdout;
}

/** Asks apt-get what it would do. */
async function simulateInstall(
  packages: readonly string[],
  suite: string | undefined,
): Promise<RunResult> {
  const [program, ...args] = installCommand(packages, suite);
  return await run([program, "--simulate", "-o", "Debug::NoLocking=1", ...args], {
    env: { LC_ALL: "C" },
    check: false,
  });
}

/**
 * The command that installs packages.
 *
 * @param packages Their names.
 * @param suite The suite to take them from, and whatever they need; the machine's own where missing.
 */
export function installCommand(
  packages: readonly string[],
  suite: string | undefined,
): [string, ...string[]] {
  const target = suite === undefined ? [] : ["-t", suite];
  return ["apt-get", "install", "--yes", "--no-install-recommends", ...target, ...packages];
}

/** All sources of the machine, in apt's order. */
async function readSources(): Promise<SourceEntry[]> {
  const directory = "/etc/apt/sources.list.d";
  const names = await Array.fromAsync(Deno.readDir(directory), ({ name }) => name).catch(() => []);
  const paths = names.filter((name) => /\.(list|sources)$/.test(name)).sort()
    .map((name) => `${directory}/${name}`);
  const sources: SourceEntry[] = [];
  for (const path of ["/etc/apt/sources.list", ...paths]) {
    const text = await Deno.readTextFile(path).catch(() => "");
    sources.push(...parseSources(path, text));
  }
  return sources;
}
