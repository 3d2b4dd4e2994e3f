/**
 * A configuration as TOML: the one in effect with a comment on where each value comes from, and a
 * sample with every key, its default and what it is for.
 *
 * @module
 */

import { entryNames, fileKey, joinPath, type Section, type Setting } from "./schema.ts";

/**
 * The configuration in effect. Reading it back gives the same values.
 *
 * @param root The schema.
 * @param values The values.
 * @param places Where they come from; see `ReadConfig.places`.
 */
export function printConfig<T>(
  root: Section<T>,
  values: T,
  places: ReadonlyMap<string, string>,
): string {
  return text(lines(root, values, [], {
    heading: () => [],
    setting: ({ type }, key, value, path) => [
      `${key} = ${type.write(value)}  # ${places.get(path) ?? "default"}`,
    ],
  }));
}

/**
 * A file with every key commented out and its default as its value.
 *
 * @param root The schema.
 * @param head What the file begins with, a line each.
 */
export function sampleConfig<T>(root: Section<T>, head: readonly string[]): string {
  const body = lines(root, undefined, [], {
    heading: comments,
    setting: ({ type, help, fallback }, key) => [
      "",
      ...comments([...help, `Takes ${type.expected}.`]),
      `# ${key} = ${type.write(fallback)}`,
    ],
  });
  return text([...comments(head), ...body]);
}

function comments(lines: readonly string[]): string[] {
  return lines.map((line) => line === "" ? "#" : `# ${line}`);
}

function text(lines: readonly string[]): string {
  return `${lines.join("\n").trimStart()}\n`;
}

/** How the parts of a configuration are written, a line each. */
interface Style {
  /** What is before the name of a section. */
  readonly heading: (help: readonly string[]) => readonly string[];
  /** A setting. */
  readonly setting: <V>(
    setting: Setting<V>,
    key: string,
    value: V,
    path: string,
  ) => readonly string[];
}

/** The lines of a section: its own settings first, as TOML wants it, then the sections in it. */
function lines<T>(
  of: Section<T>,
  values: T | undefined,
  path: readonly string[],
  style: Style,
): string[] {
  const own: string[] = [];
  const inner: string[] = [];
  for (const name of entryNames(of)) {
    const entry = of.entries[name];
    const value = values?.[name];
    const key = fileKey(name);
    const at = [...path, key];
    if (entry.kind === "setting") {
      own.push(...style.setting(entry, key, value ?? entry.fallback, joinPath(at)));
    } else {
      inner.push("", ...lines(entry, value, at, style));
    }
  }
  const head = path.length === 0 ? [] : [...style.heading(of.help), `[${joinPath(path)}]`];
  return [...head, ...own, ...inner];
}
