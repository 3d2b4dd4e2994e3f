/**
 * Decides what to install, and from where. It reads facts and returns steps; it changes nothing.
 *
 * The rule: the machine's own suites where they have what is needed and apt finds a solution;
 * otherwise a newer suite, from a source that is there already or from one that set-up adds with so
 * low a priority that nothing else is ever taken from it. What must come from one suite comes from
 * there, in the same way.
 *
 * @module
 */

import { type Choice, chooseFrom, chooseOwn, offersFrom } from "./choices.ts";
import type { AptFacts, Machine } from "./machine.ts";
import {
  debianSource,
  FIXED_SUITE,
  fixedSuiteFiles,
  NEWER_SUITE,
  newerSuiteFiles,
  type NewFile,
} from "./newer_suite.ts";
import type { Requirement } from "./requirements.ts";

/** One thing to do with the package manager. */
export type PackageStep =
  | { readonly kind: "write" } & NewFile
  | { readonly kind: "update"; readonly why: string }
  | {
    readonly kind: "install";
    readonly packages: readonly string[];
    /** The suite to take them from; what apt takes by itself where missing. */
    readonly suite?: string;
    readonly why: string;
  };

/** What to do. */
export type Plan =
  | {
    readonly kind: "steps";
    /** In this order; none where everything is there. */
    readonly steps: readonly PackageStep[];
  }
  | {
    readonly kind: "impossible";
    /** Why, and what a person can do. */
    readonly message: string;
  };

/**
 * Makes a plan. After an `update` step the facts are others: then plan again.
 *
 * @param machine The facts.
 * @param requirements What the machine must have.
 */
export async function makePlan(
  machine: Machine,
  requirements: readonly Requirement[],
): Promise<Plan> {
  const missing = requirements.filter(({ id }) => !machine.found.has(id));
  if (missing.length === 0) return { kind: "steps", steps: [] };
  const { apt } = machine;
  if (apt === undefined) return unknownSystem(machine, missing, "it has no apt");
  if (apt.releases.length === 0) {
    const why = "package lists were never fetched; what to install is decided after that";
    return { kind: "steps", steps: [{ kind: "update", why }] };
  }
  const own: Choice[] = [];
  const newer: Choice[] = [];
  const lacking: Requirement[] = [];
  for (const requirement of missing) {
    const choice = chooseKnown(requirement, apt);
    if (choice === undefined) lacking.push(requirement);
    else if (choice.packages.length === 0) return broken(requirement);
    else (choice.suite === undefined ? own : newer).push(choice);
  }
  const steps = await installs(own, newer, apt);
  if (lacking.length === 0) return { kind: "steps", steps };
  return withMoreSuites(machine, apt, steps, lacking);
}

/**
 * The packages as apt would take them by itself, or else from a suite that it has lists of; always
 * from the one suite that will do, where there is such.
 */
function chooseKnown(requirement: Requirement, apt: AptFacts): Choice | undefined {
  const { suite } = requirement;
  const own = chooseOwn(requirement, apt);
  if (own !== undefined && (suite === undefined || offersFrom(own, apt, suite))) return own;
  if (suite !== undefined) return chooseFrom(requirement, apt, suite);
  for (const { codename } of apt.releases) {
    const choice = chooseFrom(requirement, apt, codename);
    if (choice !== undefined) return choice;
  }
  return undefined;
}

/**
 * The steps that install from known suites, the machine's own first: while nothing newer is
 * installed they always fit. Once packages of the newer suite are there the own ones may not fit any
 * more; then they come from the newer suite too.
 */
async function installs(
  own: readonly Choice[],
  newer: readonly Choice[],
  apt: AptFacts,
): Promise<PackageStep[]> {
  if (own.length === 0) return bySuite(newer);
  const [step] = bySuite(own);
  if (step?.kind === "install" && !(await apt.simulate(step.packages)).solvable) {
    const moved = own.map(({ requirement }) =>
      chooseFrom(requirement, apt, requirement.suite ?? NEWER_SUITE)
    );
    const known = moved.filter((choice) => choice !== undefined);
    if (known.length === own.length) return bySuite([...newer, ...known]);
  }
  return [...bySuite(own), ...bySuite(newer)];
}

/** One installation for each suite. */
function bySuite(choices: readonly Choice[]): PackageStep[] {
  return [...Map.groupBy(choices, ({ suite }) => suite)].map(([suite, group]) => ({
    kind: "install",
    packages: group.flatMap(({ packages }) => packages),
    ...(suite === undefined ? {} : { suite }),
    why: group.map(({ requirement }) => requirement.title).join(", "),
  }));
}

/** Adds suites for what no known suite has. */
function withMoreSuites(
  machine: Machine,
  apt: AptFacts,
  before: readonly PackageStep[],
  lacking: readonly Requirement[],
): Plan {
  const bySuite = [...Map.groupBy(lacking, ({ suite }) => suite ?? NEWER_SUITE)];
  const hopeless = bySuite.flatMap(([suite, group]) =>
    apt.releases.some(({ codename }) => codename === suite) ? group : []
  );
  if (hopeless.length > 0) return tooOld(hopeless, apt);
  const source = debianSource(apt.releases, apt.sources);
  if (source === undefined) {
    return unknownSystem(machine, lacking, "its packages do not come from Debian");
  }
  const added = bySuite.map(([suite, group]) => {
    const packages = group.flatMap((requirement) => requirement.packages)
      .map(({ name }) => name.replace("{clang}", "N"));
    const makeFiles = suite === FIXED_SUITE ? fixedSuiteFiles : newerSuiteFiles;
    const why = group.map(({ title }) => title).join(", ");
    return { suite, packages, why, files: makeFiles(source, packages) };
  });
  const files = added.flatMap((suite) => suite.files)
    .filter(({ path, text }) => machine.ownFiles.get(path) !== text);
  const suites = added.map(({ suite }) => suite).join(" and ");
  return {
    kind: "steps",
    steps: [
      ...before,
      ...files.map((file) => ({ kind: "write", ...file } as const)),
      { kind: "update", why: `fetches the package lists of ${suites}` },
      ...added.map(({ suite, packages, why }) => (
        { kind: "install", packages, suite, why } as const
      )),
    ],
  };
}

/** No source has what is needed. */
function tooOld(lacking: readonly Requirement[], apt: AptFacts): Plan {
  const lines = lacking.flatMap(({ packages }) => packages).map(({ name, atLeast = "any" }) => {
    const versions = apt.policies.get(name)?.versions.map(({ version }) => version) ?? [];
    return `  ${name} (needs ${atLeast}): apt offers ${versions.join(", ") || "none"}`;
  });
  return {
    kind: "impossible",
    message: [
      `Cannot install what is missing: no package source of this machine has it, and it has`,
      `${[...new Set(lacking.map(({ suite }) => suite ?? NEWER_SUITE))].join(" and ")} already:`,
      ...lines,
      "Run apt-get update, or install these by hand, and run set-up again",
    ].join("\n"),
  };
}

/** Packages are installed, but what they should bring does not work. */
function broken({ title, packages }: Requirement): Plan {
  const names = packages.map(({ name }) => name.replace("{clang}", "N")).join(" ");
  return {
    kind: "impossible",
    message: [
      `Cannot find a working ${title}, though its packages are installed: ${names}`,
      `Try apt-get install --reinstall ${names}, and run set-up again`,
    ].join("\n"),
  };
}

/** A system that set-up cannot install packages on. */
function unknownSystem(machine: Machine, missing: readonly Requirement[], why: string): Plan {
  const lines = missing.map(({ title, why, packages }) => {
    const names = packages.map(({ name }) => name.replace("{clang}", "N")).join(", ");
    return `  ${title}: ${why} (Debian's packages: ${names})`;
  });
  return {
    kind: "impossible",
    message: [
      `Cannot install packages on ${machine.osName}: ${why}, and set-up knows Debian only`,
      "Install these in the way of your system, and run set-up again:",
      ...lines,
    ].join("\n"),
  };
}
