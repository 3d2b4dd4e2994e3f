/**
 * Merges sections into the text of a configuration. What is there keeps its order, its comments and
 * its form; the text is only ever changed at the places that are named in the result.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { tomlText } from "../../sandboxers/config/toml.ts";
import { applyEdit, type Edit } from "./edits.ts";
import { beginsWith, findPlaces, type Header, type Leaf, leafAt, type Places } from "./places.ts";
import { type ConfigVersion, keyText, pathText, type Section, sectionText } from "./sections.ts";

/** Something that is there and is not as it has to be. */
export interface Difference {
  /** The section's keys. */
  readonly path: readonly string[];
  /** Where it is, such as `config.toml:12`. */
  readonly place: string;
  /** What is there and what has to be, for people. */
  readonly text: string;
}

/** What came of a merge. */
export interface Merged {
  /** The text with the sections. */
  readonly text: string;
  /** How it came about, in order. */
  readonly edits: readonly Edit[];
  /** Sections that were there already. */
  readonly equal: readonly Section[];
  /** Sections that were added. */
  readonly added: readonly Section[];
  /** Differences: they were mended where that was asked for, and are otherwise still there. */
  readonly differences: readonly Difference[];
}

/**
 * The version of a configuration.
 *
 * @param text The file's text.
 * @param name What it is called in messages.
 * @throws {SandboxError} `InvalidArgument` where it is not TOML; `FailedPrecondition` where it has
 *   another version or none.
 */
export function configVersion(text: string, name: string): ConfigVersion {
  const leaf = leafAt(findPlaces(text, name), ["version"]);
  const found = leaf === undefined ? undefined : text.slice(...leaf.range);
  if (found === "2") return 2;
  if (found === "3") return 3;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot merge into ${name}: ${
      found === undefined ? "it has no version" : `version ${found}`
    }: ` +
      "expected version 2 or 3: run `containerd config migrate`, which prints the same " +
      "configuration in the newest version",
  );
}

/**
 * Merges sections into a text.
 *
 * @param text The file's text.
 * @param sections The sections.
 * @param options `name`: what the file is called in messages; `force`: whether values that differ
 *   are replaced.
 * @throws {SandboxError} `InvalidArgument` where the text is not TOML; `FailedPrecondition` where a
 *   section has no place in it.
 */
export function merge(
  text: string,
  sections: readonly Section[],
  options: { readonly name: string; readonly force: boolean },
): Merged {
  const edits: Edit[] = [];
  const equal: Section[] = [];
  const added: Section[] = [];
  const differences: Difference[] = [];
  let now = text;
  const make = (edit: Edit) => {
    edits.push(edit);
    now = applyEdit(now, edit);
  };
  for (const section of sections) {
    const places = findPlaces(now, options.name);
    if (!isThere(places, section)) {
      make(addition(now, places, section, options.name));
      added.push(section);
      continue;
    }
    const found = differencesOf(now, places, section, options.name);
    if (found.length === 0) equal.push(section);
    differences.push(...found);
    if (options.force) mend(() => now, section, options.name, make);
  }
  checkMerged(now, sections, differences, options);
  return { text: now, edits, equal, added, differences };
}

/**
 * How a section of a file differs from what it has to be; nothing where it is not in it.
 *
 * @param text The file's text.
 * @param section The section.
 * @param name What the file is called in messages.
 * @returns undefined where the file does not have the section.
 */
export function compare(text: string, section: Section, name: string): Difference[] | undefined {
  const places = findPlaces(text, name);
  return isThere(places, section) ? differencesOf(text, places, section, name) : undefined;
}

/** Whether anything of a section is in the file. */
function isThere({ headers, leaves }: Places, { path }: Section): boolean {
  return headers.some((header) => beginsWith(header.path, path)) ||
    leaves.some((leaf) => beginsWith(leaf.path, path));
}

function differencesOf(text: string, places: Places, section: Section, name: string): Difference[] {
  return section.entries.flatMap(([key, wanted]) => {
    const leaf = leafAt(places, [...section.path, key]);
    if (leaf?.text === wanted) return [];
    const found = leaf === undefined ? "missing" : text.slice(...leaf.range);
    return [{
      path: section.path,
      place: `${name}:${leaf?.line ?? lineOf(text, places, section)}`,
      text: `${pathText([...section.path, key])} is ${found}, expected ${tomlText(wanted)}`,
    }];
  });
}

/** The line where a section that is there begins, counted from 1. */
function lineOf(text: string, { headers, leaves }: Places, { path }: Section): number {
  const header = headers.find((candidate) => beginsWith(candidate.path, path));
  const leaf = leaves.find((candidate) => beginsWith(candidate.path, path));
  const at = header?.range[0] ?? leaf?.keyRange[0] ?? 0;
  return text.slice(0, at).split("\n").length;
}

/** How a section comes into a text that has nothing of it. */
function addition(text: string, places: Places, section: Section, name: string): Edit {
  const closed = places.leaves
    .filter(({ path }) => path.length < section.path.length && beginsWith(section.path, path))
    .at(-1);
  if (closed !== undefined) return inlineAddition(text, closed, section, name);
  const gap = text === "" || text.endsWith("\n\n") ? "" : text.endsWith("\n") ? "\n" : "\n\n";
  return {
    path: section.path,
    offset: text.length,
    removed: "",
    inserted: `${gap}${sectionText(section)}`,
  };
}

/** A table in braces is closed: a header cannot add to it. */
function inlineAddition(text: string, closed: Leaf, section: Section, name: string): Edit {
  if (closed.inline === "no") {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot merge into ${name}: line ${closed.line}: ${
        pathText(closed.path.map(String))
      } is no ` +
        `table: expected one that can hold ${pathText(section.path)}`,
    );
  }
  const key = section.path.slice(closed.path.length).map(keyText).join(".");
  const entries = section.entries.map(([name, value]) => `${name} = ${tomlText(value)}`);
  const table = `${key} = { ${entries.join(", ")} }`;
  const inside = text.slice(closed.range[0] + 1, closed.range[1] - 1);
  return {
    path: section.path,
    offset: closed.range[0] + 1 + inside.trimEnd().length,
    removed: "",
    inserted: closed.inline === "filled" ? `, ${table}` : ` ${table} `.trimEnd(),
  };
}

/** Replaces what differs and adds what is missing in a section that is there. */
function mend(
  now: () => string,
  section: Section,
  name: string,
  make: (edit: Edit) => void,
): void {
  for (const [key, wanted] of section.entries) {
    const path = [...section.path, key];
    const text = now();
    const places = findPlaces(text, name);
    const leaf = leafAt(places, path);
    if (leaf?.text === wanted) continue;
    const value = tomlText(wanted);
    if (leaf !== undefined) {
      const [offset, end] = leaf.range;
      make({ path, offset, removed: text.slice(offset, end), inserted: value });
    } else make(missingKey(text, places, section, key, value));
  }
}

/** Adds a key to a section that is there, in the form that the section has. */
function missingKey(
  text: string,
  places: Places,
  { path, ...section }: Section,
  key: string,
  value: string,
): Edit {
  const edit = (offset: number, inserted: string): Edit => ({
    path: [...path, key],
    offset,
    removed: "",
    inserted,
  });
  const braces = leafAt(places, path);
  if (braces !== undefined && braces.inline !== "no") {
    const inside = text.slice(braces.range[0] + 1, braces.range[1] - 1).trimEnd();
    const comma = braces.inline === "filled" ? ", " : " ";
    return edit(braces.range[0] + 1 + inside.length, `${comma}${key} = ${value}`);
  }
  const header = places.headers.find((it) =>
    it.path.length === path.length && beginsWith(it.path, path)
  );
  if (header !== undefined) return edit(endOfTable(text, header), `\n  ${key} = ${value}`);
  // Its keys are written with dots, or only tables below it are there.
  const dotted = places.leaves.findLast((leaf) =>
    leaf.path.length === path.length + 1 && beginsWith(leaf.path, path)
  );
  if (dotted !== undefined) {
    const written = text.slice(...dotted.keyRange);
    const before = written.slice(0, written.lastIndexOf(".") + 1);
    const comma = dotted.inBraces ? ", " : "\n";
    const end = dotted.inBraces ? dotted.range[1] : endOfLine(text, dotted.range[1]);
    return edit(end, `${comma}${before}${key} = ${value}`);
  }
  const gap = text.endsWith("\n") ? "\n" : "\n\n";
  const whole = sectionText({ path, ...section, entries: [] });
  return edit(text.length, `${gap}${whole}  ${key} = ${value}\n`);
}

/** Where the next key of a table goes: behind the line of its last one. */
function endOfTable(text: string, { bracketsEnd, lastEntry }: Header): number {
  return endOfLine(text, lastEntry?.[1] ?? bracketsEnd);
}

function endOfLine(text: string, from: number): number {
  const at = text.indexOf("\n", from);
  return at < 0 ? text.length : text[at - 1] === "\r" ? at - 1 : at;
}

/** A merge that did not come out as it should is a fault of ours, and is not written. */
function checkMerged(
  text: string,
  sections: readonly Section[],
  differences: readonly Difference[],
  { name, force }: { readonly name: string; readonly force: boolean },
): void {
  const wrong = sections.flatMap((section) => {
    if (!force && differences.some(({ path }) => path === section.path)) return [];
    const found = compare(text, section, `${name} after the merge`);
    return found === undefined ? [pathText(section.path)] : found.map((it) => it.text);
  });
  if (wrong.length === 0) return;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot merge into ${name}: its form leaves no place for ${wrong.join("; ")}: add what ` +
      "`quasaur containerd config --print` prints by hand",
  );
}

export type { ConfigVersion, Section };
