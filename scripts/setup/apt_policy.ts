/**
 * Reads what apt says about releases, packages and what an installation would do.
 *
 * @module
 */

/** A release that apt has lists of. */
export interface Release {
  /** Who made it, such as `Debian`. */
  readonly origin: string;
  /** Its label; Debian's main archive has `Debian`, its security archive `Debian-Security`. */
  readonly label: string;
  /** Its code name, such as `bookworm`. */
  readonly codename: string;
  /** What it is now, such as `stable`. */
  readonly archive: string;
}

/** What apt knows of a package. */
export interface PackagePolicy {
  /** The installed version; undefined where it is not installed. */
  readonly installed: string | undefined;
  /** The version that a plain `apt-get install` would take; undefined where there is none. */
  readonly candidate: string | undefined;
  /** All versions that some suite has. */
  readonly versions: readonly OfferedVersion[];
}

/** A version of a package that can be had. */
export interface OfferedVersion {
  /** The version. */
  readonly version: string;
  /** The suites that have it. */
  readonly suites: readonly string[];
  /** The highest priority of these suites: 500 for usual ones, less for those pinned low. */
  readonly priority: number;
}

/** What an installation would do. */
export interface Simulation {
  /** Whether apt found a solution. */
  readonly solvable: boolean;
  /** Packages that would be installed or upgraded. */
  readonly installs: readonly string[];
  /** Packages that would be removed. */
  readonly removes: readonly string[];
  /** What apt printed. */
  readonly output: string;
}

/**
 * Reads `apt-cache policy` without packages.
 *
 * @param text Its output in the C locale.
 * @returns Each release once; none where the package lists were never fetched.
 */
export function parseReleases(text: string): Release[] {
  const releases = new Map<string, Release>();
  for (const [, line = ""] of text.matchAll(/^ +release (.*)$/gm)) {
    const fields = new Map(
      line.split(",").map((pair) => {
        const [key = "", value = ""] = pair.split("=");
        return [key, value];
      }),
    );
    const origin = fields.get("o");
    if (origin === undefined) continue;
    releases.set(line, {
      origin,
      label: fields.get("l") ?? "",
      codename: fields.get("n") ?? "",
      archive: fields.get("a") ?? "",
    });
  }
  return [...releases.values()];
}

/**
 * Reads `apt-cache policy PACKAGE...`.
 *
 * @param text Its output in the C locale.
 * @returns By package name; packages that apt does not know are missing.
 */
export function parsePolicies(text: string): Map<string, PackagePolicy> {
  const policies = new Map<string, PackagePolicy>();
  for (const block of text.split(/^(?=\S)/m)) {
    const [, name, body] = /^(\S+):\n([\s\S]*)$/.exec(block) ?? [];
    if (name === undefined || body === undefined) continue;
    const value = (field: string) => {
      const found = new RegExp(`^  ${field}: (.*)$`, "m").exec(body)?.[1];
      return found === "(none)" ? undefined : found;
    };
    policies.set(name, {
      installed: value("Installed"),
      candidate: value("Candidate"),
      versions: versionTable(body),
    });
  }
  return policies;
}

/** The version table of one package. */
function versionTable(body: string): OfferedVersion[] {
  const table: { version: string; suites: string[]; priority: number }[] = [];
  for (const line of body.split("\n")) {
    const version = /^ (?:\*{3}| {3}) (\S+) -?\d+$/.exec(line)?.[1];
    if (version !== undefined) table.push({ version, suites: [], priority: -Infinity });
    const [, priority, suite] = /^ {8} *(-?\d+) \S+ (\S+)\/\S+ \S+ Packages$/.exec(line) ?? [];
    const last = table.at(-1);
    if (suite === undefined || last === undefined) continue;
    last.suites.push(suite);
    last.priority = Math.max(last.priority, Number(priority));
  }
  return table.filter(({ suites }) => suites.length > 0);
}

/**
 * Reads `apt-get --simulate install`.
 *
 * @param status Its exit status.
 * @param output What it printed, in the C locale.
 */
export function parseSimulation(status: number, output: string): Simulation {
  const names = (verb: string) =>
    [...output.matchAll(new RegExp(`^${verb} (\\S+)`, "gm"))].map(([, name = ""]) => name);
  return {
    solvable: status === 0,
    installs: names("Inst"),
    removes: names("Remv"),
    output,
  };
}
