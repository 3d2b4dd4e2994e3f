/**
 * Finds things in the text of a TOML file: where a table begins, where a value stands, and which
 * inline table a key would have to go into. It changes nothing.
 *
 * @module
 */

import { type AST, parseTOML } from "toml-eslint-parser";
import { parseToml } from "../../sandboxers/config/toml.ts";

/** A value in the text. */
export interface Leaf {
  /** Its keys from the root of the file. */
  readonly path: readonly (string | number)[];
  /** Its line, counted from 1. */
  readonly line: number;
  /** Where it begins and ends in the text, in UTF-16 units. */
  readonly range: readonly [number, number];
  /** Where the key that it is written with begins and ends. */
  readonly keyRange: readonly [number, number];
  /** Its text without quotes, where it is text. */
  readonly text: string | undefined;
  /** Whether it is a table in braces, and whether that has entries. */
  readonly inline: "no" | "empty" | "filled";
  /** Whether it is a value of a table in braces itself. */
  readonly inBraces: boolean;
}

/** A table's header, such as `[proxy_plugins.name]`. */
export interface Header {
  /** Its keys from the root; a number is the place in an array of tables. */
  readonly path: readonly (string | number)[];
  /** Where the header and all below it begins and ends. */
  readonly range: readonly [number, number];
  /** Where the brackets end. */
  readonly bracketsEnd: number;
  /** Where its last entry ends; undefined where it has none. */
  readonly lastEntry: readonly [number, number] | undefined;
}

/** What a file holds. */
export interface Places {
  /** All values, tables in braces included, in the order of the text. */
  readonly leaves: readonly Leaf[];
  /** All headers. */
  readonly headers: readonly Header[];
}

/**
 * Reads a file.
 *
 * @param text Its text.
 * @param name What it is called in messages.
 * @throws {SandboxError} `InvalidArgument` with line and column where it is not TOML.
 */
export function findPlaces(text: string, name: string): Places {
  // Says where a mistake is, in our words.
  parseToml(text, name);
  const leaves: Leaf[] = [];
  const headers: Header[] = [];
  for (const node of parseTOML(text, { tomlVersion: "1.0" }).body[0].body) {
    if (node.type === "TOMLKeyValue") {
      addLeaves(leaves, [], node, false);
      continue;
    }
    headers.push({
      path: node.resolvedKey,
      range: node.range,
      bracketsEnd: text.indexOf("]", node.key.range[1]) + (node.kind === "array" ? 2 : 1),
      lastEntry: node.body.at(-1)?.range,
    });
    for (const entry of node.body) addLeaves(leaves, node.resolvedKey, entry, false);
  }
  return { leaves, headers };
}

function addLeaves(
  leaves: Leaf[],
  above: readonly (string | number)[],
  { key, value }: AST.TOMLKeyValue,
  inBraces: boolean,
): void {
  const path = [
    ...above,
    ...key.keys.map((part) => part.type === "TOMLBare" ? part.name : part.value),
  ];
  const isTable = value.type === "TOMLInlineTable";
  leaves.push({
    path,
    line: key.loc.start.line,
    range: value.range,
    keyRange: key.range,
    text: value.type === "TOMLValue" && value.kind === "string" ? value.value : undefined,
    inline: isTable ? (value.body.length === 0 ? "empty" : "filled") : "no",
    inBraces,
  });
  if (isTable) { for (const entry of value.body) addLeaves(leaves, path, entry, true); }
}

/**
 * Whether a path begins with another one, or is it.
 *
 * @param path The longer one.
 * @param start The shorter one.
 */
export function beginsWith(
  path: readonly (string | number)[],
  start: readonly (string | number)[],
): boolean {
  return path.length >= start.length && start.every((key, i) => path[i] === key);
}

/**
 * The value at a path.
 *
 * @param places What the file holds.
 * @param path The keys.
 */
export function leafAt({ leaves }: Places, path: readonly string[]): Leaf | undefined {
  return leaves.find((leaf) => leaf.path.length === path.length && beginsWith(leaf.path, path));
}
