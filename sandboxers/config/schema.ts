/**
 * A configuration as a declaration: sections with settings, each with its type, its default and what
 * it is for. Reading, printing and the sample file all follow the one declaration.
 *
 * @module
 */

import type { ValueType } from "./value_types.ts";

/** One setting. */
export interface Setting<T> {
  /** What it is. */
  readonly kind: "setting";
  /** What values it takes. */
  readonly type: ValueType<T>;
  /** Its value where nothing says otherwise. */
  readonly fallback: T;
  /** What it is for, a line each. */
  readonly help: readonly string[];
}

/** A table of settings and further sections, by name in the program (`memoryInMb`). */
export interface Section<T> {
  /** What it is. */
  readonly kind: "section";
  /** What it is about, a line each. */
  readonly help: readonly string[];
  /** What is in it. */
  readonly entries: { readonly [K in keyof T]: Setting<T[K]> | Section<T[K]> };
}

/**
 * Declares a setting.
 *
 * @param type What values it takes.
 * @param fallback Its value where nothing says otherwise.
 * @param help What it is for, a line each.
 */
export function setting<T>(type: ValueType<T>, fallback: T, ...help: string[]): Setting<T> {
  return { kind: "setting", type, fallback, help };
}

/**
 * Declares a section.
 *
 * @param help What it is about, a line each.
 * @param entries What is in it.
 */
export function section<T>(
  help: string | readonly string[],
  entries: Section<T>["entries"],
): Section<T> {
  return { kind: "section", help: typeof help === "string" ? [help] : help, entries };
}

/** The name of an entry in a file: `memoryInMb` is written `memory_in_mb`. */
export function fileKey(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Where an entry is, as messages and comments have it: `hypervisor.memory_in_mb`. */
export function joinPath(path: readonly string[]): string {
  return path.join(".");
}

/** The names of a section's entries, in its order. */
export function entryNames<T>({ entries }: Section<T>): Extract<keyof T, string>[] {
  const names: Extract<keyof T, string>[] = [];
  for (const name in entries) {
    if (Object.hasOwn(entries, name)) names.push(name);
  }
  return names;
}

/** The paths of all settings of a section, in its order. */
export function settingPaths<T>(of: Section<T>, path: readonly string[] = []): string[] {
  const paths: string[] = [];
  for (const name of entryNames(of)) {
    const entry = of.entries[name];
    const at = [...path, fileKey(name)];
    if (entry.kind === "setting") paths.push(joinPath(at));
    else paths.push(...settingPaths(entry, at));
  }
  return paths;
}
