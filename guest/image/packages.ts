/**
 * Gets Debian packages from the archive that this machine uses, without installing them and without
 * rights: which versions there are is asked of apt, the newest one is taken, and what was downloaded
 * is checked against apt's own signed lists.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { parsePolicies } from "../../scripts/setup/apt_policy.ts";
import { compareVersions } from "../../sandboxers/versions.ts";
import { sha256Hex } from "./digest.ts";
import { runTool, runToolText } from "./tool.ts";

/** A package in one version, as apt's lists have it. */
export interface PackageRecord {
  /** Its name. */
  readonly name: string;
  /** Its version. */
  readonly version: string;
  /** The SHA-256 of its file, in hexadecimal. */
  readonly sha256: string;
  /** The names of the packages that it needs; the first of each choice. */
  readonly depends: readonly string[];
  /** The name of its file. */
  readonly file: string;
}

/** Most packages that one thing needs, with what these need: more is a mistake. */
const PACKAGES_MAX = 64;

/**
 * The package archive of this machine, as its apt knows it.
 */
export class PackageArchive {
  readonly #scratch: string;
  readonly #options: readonly string[];

  /**
   * Opens it.
   *
   * @param scratch An existing directory of this caller's own, for apt's caches and fresh downloads.
   */
  constructor(scratch: string) {
    this.#scratch = scratch;
    // Without caches, as in many container images, every call of apt would read all lists again.
    this.#options = [
      "-qq",
      "-o",
      `Dir::Cache::pkgcache=${scratch}/pkgcache.bin`,
      "-o",
      `Dir::Cache::srcpkgcache=${scratch}/srcpkgcache.bin`,
      "-o",
      "Acquire::Retries=2",
    ];
  }

  /**
   * Finds a package and all that it needs, each in the newest version that apt offers.
   *
   * @param root The name to begin with.
   * @param follow Which of the needed packages to look at.
   * @returns All of them, in the order of names.
   * @throws {SandboxError} `FailedPrecondition` where apt does not have one of them.
   */
  async resolve(root: string, follow: (name: string) => boolean): Promise<PackageRecord[]> {
    const found = new Map<string, PackageRecord>();
    let wanted = [root];
    while (wanted.length > 0) {
      const records = await this.#newest(wanted);
      for (const record of records) found.set(record.name, record);
      if (found.size > PACKAGES_MAX) {
        throw new SandboxError(
          "Internal",
          `cannot choose packages for ${root}: it needs more than ${PACKAGES_MAX}`,
        );
      }
      const needed = new Set(records.flatMap(({ depends }) => depends));
      wanted = [...needed].filter((name) => !found.has(name) && follow(name));
    }
    return [...found.values()].sort((a, b) => a.name < b.name ? -1 : 1);
  }

  /** The newest version of each package. */
  async #newest(names: readonly string[]): Promise<PackageRecord[]> {
    const policies = parsePolicies(await this.#aptCache("policy", ...names));
    const chosen = names.map((name) => {
      const versions = policies.get(name)?.versions.map(({ version }) => version) ?? [];
      const newest = versions.sort(compareVersions).at(-1);
      if (newest !== undefined) return `${name}=${newest}`;
      throw new SandboxError(
        "FailedPrecondition",
        `cannot find the Debian package ${name}: apt offers no version of it: run ` +
          `"deno task setup", or "apt-get update" where the package lists were never fetched`,
      );
    });
    return parseRecords(await this.#aptCache("show", ...chosen));
  }

  async #aptCache(...args: string[]): Promise<string> {
    return await runToolText(["apt-cache", ...this.#options, ...args], { package: "apt" });
  }

  /**
   * Downloads packages, those that are not there yet.
   *
   * @param records Which.
   * @param directory Where to, on the same file system as the scratch directory.
   * @returns The paths of their files, in the order of `records`.
   * @throws {SandboxError} `FailedPrecondition` where they cannot be downloaded, or are not what
   *   apt's lists say.
   */
  async download(records: readonly PackageRecord[], directory: string): Promise<string[]> {
    const pathOf = ({ sha256 }: PackageRecord) => `${directory}/${sha256}.deb`;
    const there = await Promise.all(
      records.map(async (record) => await digestOf(pathOf(record)) === record.sha256),
    );
    const missing = records.filter((_, index) => there[index] === false);
    if (missing.length > 0) await this.#fetch(missing, pathOf);
    return records.map(pathOf);
  }

  /** Downloads packages and takes them only where they are what they should be. */
  async #fetch(
    records: readonly PackageRecord[],
    pathOf: (record: PackageRecord) => string,
  ): Promise<void> {
    const fresh = await Deno.makeTempDir({ dir: this.#scratch, prefix: "download-" });
    const names = records.map(({ name, version }) => `${name}=${version}`);
    await runTool(["apt-get", ...this.#options, "download", ...names], {
      directory: fresh,
      package: "apt",
    });
    const files = new Map<string, string>();
    for await (const { name } of Deno.readDir(fresh)) {
      files.set(await digestOf(`${fresh}/${name}`) ?? "", `${fresh}/${name}`);
    }
    for (const record of records) {
      const file = files.get(record.sha256);
      if (file !== undefined) await Deno.rename(file, pathOf(record));
      else throw notAsListed(record);
    }
  }
}

/**
 * Reads `apt-cache show`.
 *
 * @param text Its output.
 * @returns A record for each paragraph that can be downloaded, each name once.
 */
export function parseRecords(text: string): PackageRecord[] {
  const records = new Map<string, PackageRecord>();
  for (const paragraph of text.split(/\n\n+/)) {
    const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(paragraph)?.[1];
    const [name, version, sha256] = [field("Package"), field("Version"), field("SHA256")];
    const file = field("Filename")?.split("/").at(-1);
    if (name === undefined || version === undefined || sha256 === undefined) continue;
    if (file === undefined || records.has(name)) continue;
    const needs = [field("Pre-Depends"), field("Depends")].filter((value) => value !== undefined);
    const depends = needs.flatMap((value) => value.split(","))
      .map((choice) => /^\s*([^\s:(|]+)/.exec(choice)?.[1] ?? "")
      .filter((needed) => needed !== "");
    records.set(name, { name, version, sha256, depends, file });
  }
  return [...records.values()];
}

/**
 * Unpacks packages into one directory, without running any of their scripts.
 *
 * @param files Their files.
 * @param directory Where to.
 */
export async function unpackPackages(files: readonly string[], directory: string): Promise<void> {
  await Deno.mkdir(directory, { recursive: true });
  for (const file of files) {
    await runTool(["dpkg-deb", "--extract", file, directory], { package: "dpkg" });
  }
}

/** The SHA-256 of a file; undefined where there is none. */
async function digestOf(path: string): Promise<string | undefined> {
  try {
    return await sha256Hex(await Deno.readFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function notAsListed({ name, version, sha256 }: PackageRecord): SandboxError {
  return new SandboxError(
    "FailedPrecondition",
    `cannot download ${name} ${version}: what came has not the SHA-256 of apt's lists, ${sha256}: ` +
      'run "apt-get update" and try again',
  );
}
