/**
 * Types of the values in a configuration file: what each takes, what it says it expects, and how it
 * writes a value.
 *
 * @module
 */

import { tomlText, type TomlValue } from "./toml.ts";

/** A type of value. */
export interface ValueType<T> {
  /** What it takes, for messages and for the sample, such as `an integer from 1 to 8`. */
  readonly expected: string;
  /** The value; undefined for what is not of this type. */
  read(found: TomlValue): T | undefined;
  /** The value as TOML writes it. */
  write(value: T): string;
}

/** `true` or `false`. */
export const FLAG: ValueType<boolean> = {
  expected: "true or false",
  read: (found) => found.kind === "flag" ? found.value : undefined,
  write: String,
};

/**
 * A whole number in a range, both ends included.
 *
 * @param unit What is counted, for messages; empty for none.
 */
export function integer(min: number, max: number, unit = ""): ValueType<number> {
  return {
    expected: `an integer from ${min} to ${max}${unit === "" ? "" : ` (${unit})`}`,
    read(found) {
      if (found.kind !== "integer") return undefined;
      return found.value >= min && found.value <= max ? Number(found.value) : undefined;
    },
    write: String,
  };
}

/** Characters that no setting has a use for, and that would break what it is put into. */
// deno-lint-ignore no-control-regex
const CONTROL = /[\u0000-\u001f\u007f]/;

/**
 * A line of text.
 *
 * @param pattern What it has to match; anything where it is left out.
 * @param expected What that means, for messages.
 */
export function text(pattern: RegExp = /^/, expected = "a line of text"): ValueType<string> {
  return {
    expected,
    read(found) {
      if (found.kind !== "text" || CONTROL.test(found.value)) return undefined;
      return pattern.test(found.value) ? found.value : undefined;
    },
    write: tomlText,
  };
}

/** An absolute path without `..`. */
export const PATH: ValueType<string> = {
  expected: `an absolute path without ".."`,
  read(found) {
    if (found.kind !== "text" || CONTROL.test(found.value)) return undefined;
    const { value } = found;
    if (!value.startsWith("/") || value.split("/").includes("..")) return undefined;
    return value.length > 1 ? value.replace(/\/+$/, "") : value;
  },
  write: tomlText,
};

/** {@link PATH}, or an empty text for none. */
export const PATH_OR_NONE: ValueType<string> = {
  expected: `${PATH.expected}, or ""`,
  read: (found) => found.kind === "text" && found.value === "" ? "" : PATH.read(found),
  write: tomlText,
};

/**
 * One of several words.
 *
 * @param words The words.
 * @param aliases Other spellings of them.
 */
export function choice<T extends string>(
  words: readonly T[],
  aliases: Readonly<Record<string, T>> = {},
): ValueType<T> {
  const quoted = words.map((word) => `"${word}"`);
  return {
    expected: words.length < 3 ? quoted.join(" or ") : `one of ${quoted.join(", ")}`,
    read(found) {
      if (found.kind !== "text") return undefined;
      const { value } = found;
      const alias = Object.hasOwn(aliases, value) ? aliases[value] : undefined;
      return alias ?? words.find((word) => word === value);
    },
    write: tomlText,
  };
}

/** A list, each item of a type. */
export function list<T>(item: ValueType<T>): ValueType<readonly T[]> {
  return {
    expected: `a list, each item ${item.expected}`,
    read(found) {
      if (found.kind !== "list") return undefined;
      const items: T[] = [];
      for (const each of found.items) {
        const value = item.read(each);
        if (value === undefined) return undefined;
        items.push(value);
      }
      return items;
    },
    write: (values) => `[${values.map((value) => item.write(value)).join(", ")}]`,
  };
}

/** A number, or one of several words. */
export function numberOr<W extends string>(
  number: ValueType<number>,
  words: ValueType<W>,
): ValueType<number | W> {
  return {
    expected: `${number.expected}, or ${words.expected}`,
    read: (found) => number.read(found) ?? words.read(found),
    write: (value) => typeof value === "number" ? number.write(value) : words.write(value),
  };
}
