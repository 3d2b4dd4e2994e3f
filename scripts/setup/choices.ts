/**
 * Decides for one requirement which packages to install, and from which suite.
 *
 * @module
 */

import type { PackagePolicy } from "./apt_policy.ts";
import { type AptFacts, clangMajor } from "./machine.ts";
import type { PackageNeed, Requirement } from "./requirements.ts";
import { isAtLeast } from "../../sandboxers/versions.ts";

/** The priority of suites that are not pinned. Source: apt_preferences(5). */
const USUAL_PRIORITY = 500;

/** Packages for one requirement. */
export interface Choice {
  /** What they are for. */
  readonly requirement: Requirement;
  /** The suite to take them from; undefined for what apt takes by itself. */
  readonly suite: string | undefined;
  /** Their names; those that are installed and will do are left out. */
  readonly packages: readonly string[];
}

/**
 * The packages as apt would take them by itself.
 *
 * @param requirement What is missing.
 * @param apt What apt says.
 * @returns undefined where one of them is missing or too old.
 */
export function chooseOwn(requirement: Requirement, apt: AptFacts): Choice | undefined {
  const clang = apt.policies.get("clang");
  const names = new Map(
    requirement.packages.map((need) => [need, named(need, clang?.installed ?? clang?.candidate)]),
  );
  const packages = requirement.packages
    .filter((need) => !isInstalled(need, apt.policies.get(names.get(need) ?? "")))
    .map((need) => ({ need, name: names.get(need) ?? "" }));
  const offered = packages.every(({ need, name }) => {
    const policy = apt.policies.get(name);
    const offer = policy?.versions.find(({ version }) => version === policy.candidate);
    // What only a suite of low priority has, apt would take without what it needs from there.
    if (offer === undefined || offer.priority < USUAL_PRIORITY) return false;
    return isAtLeast(offer.version, need.atLeast);
  });
  if (!offered) return undefined;
  return { requirement, suite: undefined, packages: packages.map(({ name }) => name) };
}

/**
 * The packages as one suite has them.
 *
 * @param requirement What is missing.
 * @param apt What apt says.
 * @param suite A suite that apt has lists of.
 * @returns undefined where one of them is not in the suite or too old there.
 */
export function chooseFrom(
  requirement: Requirement,
  apt: AptFacts,
  suite: string,
): Choice | undefined {
  const names = namesOf(apt, suite);
  const versionIn = (policy: PackagePolicy | undefined) =>
    policy?.versions.find(({ suites }) => suites.some((name) => names.includes(name)))?.version;
  const clang = versionIn(apt.policies.get("clang"));
  const offered = requirement.packages.every((need) => {
    const version = versionIn(apt.policies.get(named(need, clang)));
    return version !== undefined && isAtLeast(version, need.atLeast);
  });
  if (!offered) return undefined;
  return { requirement, suite, packages: requirement.packages.map((need) => named(need, clang)) };
}

/**
 * Whether what apt would take by itself comes from a suite.
 *
 * @param choice What it would take.
 * @param apt What apt says.
 * @param suite The suite's code name; sources may also name it by what it is now, such as `stable`.
 */
export function offersFrom({ packages }: Choice, apt: AptFacts, suite: string): boolean {
  const names = namesOf(apt, suite);
  return packages.every((name) => {
    const policy = apt.policies.get(name);
    const offer = policy?.versions.find(({ version }) => version === policy.candidate);
    return offer?.suites.some((candidate) => names.includes(candidate)) ?? false;
  });
}

/** The names under which sources may have a suite. */
function namesOf(apt: AptFacts, suite: string): string[] {
  return apt.releases.filter(({ codename }) => codename === suite)
    .flatMap(({ codename, archive }) => [codename, archive]);
}

/** A package's name, with clang's major version where it has one in it. */
function named(need: PackageNeed, clang: string | undefined): string {
  return need.name.replace("{clang}", clangMajor(clang) ?? "N");
}

/** Whether a package is installed and new enough. */
function isInstalled(need: PackageNeed, policy: PackagePolicy | undefined): boolean {
  return policy?.installed !== undefined && isAtLeast(policy.installed, need.atLeast);
}
