/**
 * Reads a configuration: every key is checked against the schema, and everything that is wrong is
 * told at once, each with where it is, what was found and what is expected.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import { closest } from "./closest.ts";
import {
  entryNames,
  fileKey,
  joinPath,
  type Section,
  type Setting,
  settingPaths,
} from "./schema.ts";
import { describeToml, type TomlEntry, type TomlTable } from "./toml.ts";

/** Where settings come from. Of several, the last that has a key counts. */
export interface ConfigSource {
  /** What it says. */
  readonly table: TomlTable;
  /** Where a line of it is, such as `/etc/quasaur/vmm.toml:12`. */
  readonly place: (line: number) => string;
}

/** What a schema has beside its sections. */
export interface SchemaNotes<T> {
  /** Keys that people know from elsewhere, by path, and what to do instead. */
  readonly foreign?: Readonly<Record<string, string>>;
  /** Finds values that do not go together; calls `problem` for each. */
  readonly check?: (values: T, problem: (path: string, message: string) => void) => void;
}

/** A configuration that was read. */
export interface ReadConfig<T> {
  /** The values. */
  readonly values: T;
  /** Where each setting's value comes from, by path; a setting with its default is missing. */
  readonly places: ReadonlyMap<string, string>;
  /** What is wrong; empty where all is well. Values that are wrong have their defaults. */
  readonly problems: readonly string[];
}

/** Most problems that an error tells. */
const PROBLEMS_TOLD_MAX = 10;

/**
 * Reads a configuration. Nothing is thrown: what is wrong is in the result.
 *
 * @param root The schema.
 * @param sources Where settings come from; none for the defaults.
 * @param notes See {@link SchemaNotes}.
 */
export function readConfig<T>(
  root: Section<T>,
  sources: readonly ConfigSource[],
  notes: SchemaNotes<T> = {},
): ReadConfig<T> {
  const reading = new Reading(settingPaths(root), notes.foreign ?? {});
  const values = reading.section(root, sources.map(({ table, place }) => ({ table, place })), []);
  if (reading.problems.length === 0) {
    notes.check?.(values, (path, message) => reading.conflict(path, message));
  }
  return { values, places: reading.places, problems: reading.problems };
}

/**
 * The values of a configuration that is right.
 *
 * @param what What was read, for the message, such as `/etc/quasaur/vmm.toml`.
 * @throws {SandboxError} `InvalidArgument` that tells all problems.
 */
export function valuesOrThrow<T>({ values, problems }: ReadConfig<T>, what: string): T {
  if (problems.length === 0) return values;
  const told = problems.slice(0, PROBLEMS_TOLD_MAX);
  const more = problems.length - told.length;
  throw new SandboxError(
    "InvalidArgument",
    `cannot use the configuration ${what}: ${told.join("; ")}` +
      (more > 0 ? `; and ${more} more` : ""),
  );
}

/** One reading: what it has found so far. */
class Reading {
  readonly places = new Map<string, string>();
  readonly problems: string[] = [];
  readonly #known: readonly string[];
  readonly #foreign: Readonly<Record<string, string>>;

  constructor(known: readonly string[], foreign: Readonly<Record<string, string>>) {
    this.#known = known;
    this.#foreign = foreign;
  }

  section<T>(of: Section<T>, sources: readonly ConfigSource[], path: readonly string[]): T {
    const names = new Set(entryNames(of).map(fileKey));
    for (const source of sources) this.#checkKeys(source, names, path);
    const values: Partial<T> = {};
    for (const name of entryNames(of)) {
      const entry = of.entries[name];
      const key = fileKey(name);
      const at = [...path, key];
      const found = sources.flatMap(({ table, place }) => {
        const inside = table.entries.get(key);
        return inside === undefined ? [] : [{ entry: inside, place }];
      });
      values[name] = entry.kind === "setting"
        ? this.#setting(entry, found, joinPath(at))
        : this.section(entry, this.#tables(found, joinPath(at)), at);
    }
    // SAFETY: every name of the section has been given a value.
    return values as T;
  }

  #checkKeys({ table, place }: ConfigSource, names: Set<string>, path: readonly string[]): void {
    for (const [key, { line }] of table.entries) {
      if (names.has(key)) continue;
      const at = joinPath([...path, key]);
      this.problems.push(`${place(line)}: unknown key "${at}"${this.#hint(at)}`);
    }
  }

  #hint(path: string): string {
    const foreign = Object.hasOwn(this.#foreign, path) ? this.#foreign[path] : undefined;
    if (foreign !== undefined) return `: ${foreign}`;
    const meant = closest(path, this.#known);
    return meant === undefined ? "" : `: did you mean "${meant}"?`;
  }

  #setting<T>(of: Setting<T>, found: readonly FoundEntry[], path: string): T {
    let value = of.fallback;
    for (const { entry, place } of found) {
      const read = of.type.read(entry.value);
      if (read === undefined) {
        this.problems.push(
          `${place(entry.line)}: "${path}" is ${describeToml(entry.value)}: expected ` +
            of.type.expected,
        );
        continue;
      }
      value = read;
      this.places.set(path, place(entry.line));
    }
    return value;
  }

  /** The tables among what was found for a section. */
  #tables(found: readonly FoundEntry[], path: string): ConfigSource[] {
    return found.flatMap(({ entry: { line, value }, place }) => {
      if (value.kind === "table") return [{ table: value, place }];
      this.problems.push(
        `${place(line)}: "${path}" is ${describeToml(value)}: expected a table, [${path}]`,
      );
      return [];
    });
  }

  /** A value that does not go with another. */
  conflict(path: string, message: string): void {
    const place = this.places.get(path) ?? "default";
    this.problems.push(`${place}: "${path}" ${message}`);
  }
}

/** An entry in one of the sources. */
interface FoundEntry {
  readonly entry: TomlEntry;
  readonly place: ConfigSource["place"];
}
