/**
 * The sources that set-up adds where the machine's own suites will not do: a newer suite of the same
 * archive, and one for packages of which only its version will do. Of neither anything is taken
 * unasked.
 *
 * @module
 */

import type { Release } from "./apt_policy.ts";
import { findSource, type SourceEntry, writeSource } from "./apt_sources.ts";

/** The suite for what the machine's own suites lack: the first Debian that has all of it. */
export const NEWER_SUITE = "forky";

/** The source that set-up adds. */
export const SOURCE_PATH = "/etc/apt/sources.list.d/quasaur.sources";

/** The priorities of what that source has. */
export const PREFERENCES_PATH = "/etc/apt/preferences.d/quasaur";

/** The suite of packages that are to come from this one and no other, also from no newer one. */
export const FIXED_SUITE = "trixie";

/** The source that set-up adds for it. */
export const FIXED_SOURCE_PATH = "/etc/apt/sources.list.d/quasaur-trixie.sources";

/** The priorities of what that source has. */
export const FIXED_PREFERENCES_PATH = "/etc/apt/preferences.d/quasaur-trixie";

/** The files of set-up's own. */
export const OWN_FILES: readonly string[] = [
  SOURCE_PATH,
  PREFERENCES_PATH,
  FIXED_SOURCE_PATH,
  FIXED_PREFERENCES_PATH,
];

/** A file to write. */
export interface NewFile {
  /** Where. */
  readonly path: string;
  /** Its content. */
  readonly text: string;
  /** What it does, for people. */
  readonly why: string;
}

/**
 * The source of Debian's main archive that a machine uses.
 *
 * @param releases The releases that apt has lists of.
 * @param sources Where packages come from.
 * @returns undefined on a machine whose packages are not Debian's.
 */
export function debianSource(
  releases: readonly Release[],
  sources: readonly SourceEntry[],
): SourceEntry | undefined {
  const names = releases
    .filter(({ origin, label, codename }) =>
      origin === "Debian" && label === "Debian" && !codename.includes("-")
    )
    .flatMap(({ codename, archive }) => [codename, archive]);
  return findSource(sources, names);
}

/**
 * The two files that bring a newer suite: its source, and the pin that keeps apt from using it by
 * itself.
 *
 * @param source The source that the machine has already.
 * @param packages The packages that are to come from the newer suite, for the comment.
 */
export function newerSuiteFiles(source: SourceEntry, packages: readonly string[]): NewFile[] {
  return [
    {
      path: SOURCE_PATH,
      text: writeSource(source, NEWER_SUITE, [
        "Written by Quasaur's set-up: the other sources of this machine lack these packages, or have",
        `too old a version of them: ${packages.join(", ")}.`,
        `The archive and its keys are those of this machine's source of ${source.suites[0]}.`,
        `Nothing is taken from here unasked: see ${PREFERENCES_PATH}.`,
      ]),
      why: `adds the suite ${NEWER_SUITE} of this machine's archive, ${source.uris.join(" ")}`,
    },
    {
      path: PREFERENCES_PATH,
      text: [
        `# Written by Quasaur's set-up: packages of ${NEWER_SUITE} are installed only where asked for`,
        "# by name, and upgraded only once they are installed.",
        "Package: *",
        `Pin: release n=${NEWER_SUITE}`,
        "Pin-Priority: 100",
        "",
      ].join("\n"),
      why: `keeps apt from taking anything else from ${NEWER_SUITE}`,
    },
  ];
}

/**
 * The two files that bring the suite of packages that come from it and no other: its source, and the
 * pins that keep apt from using it for anything else, and from taking these from anywhere else.
 *
 * @param source The source that the machine has already.
 * @param packages The packages.
 */
export function fixedSuiteFiles(source: SourceEntry, packages: readonly string[]): NewFile[] {
  return [
    {
      path: FIXED_SOURCE_PATH,
      text: writeSource(source, FIXED_SUITE, [
        `Written by Quasaur's set-up: of these packages only those of ${FIXED_SUITE} will do:`,
        `${packages.join(", ")}.`,
        `The archive and its keys are those of this machine's source of ${source.suites[0]}.`,
        `Nothing else is taken from here unasked: see ${FIXED_PREFERENCES_PATH}.`,
      ]),
      why: `adds the suite ${FIXED_SUITE} of this machine's archive, ${source.uris.join(" ")}`,
    },
    {
      path: FIXED_PREFERENCES_PATH,
      text: [
        "# Written by Quasaur's set-up: these packages come from this suite, and all else stays where",
        "# it is.",
        "Package: *",
        `Pin: release n=${FIXED_SUITE}`,
        "Pin-Priority: 90",
        "",
        `Package: ${packages.join(" ")}`,
        `Pin: release n=${FIXED_SUITE}`,
        "Pin-Priority: 990",
        "",
      ].join("\n"),
      why: `takes ${packages.join(", ")} from ${FIXED_SUITE}, and keeps apt from all else there`,
    },
  ];
}
