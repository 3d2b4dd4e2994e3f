/**
 * TOML text to a tree that knows the line of every key and value, so that whoever finds fault with
 * one can say where it is.
 *
 * @module
 */

import { type AST, ParseError, parseTOML } from "toml-eslint-parser";
import { SandboxError } from "../lifecycle/errors.ts";

/** A table: its entries by key. */
export interface TomlTable {
  /** What it is. */
  readonly kind: "table";
  /** Where it begins, counted from 1. */
  readonly line: number;
  /** Its entries, in the order of the text. */
  readonly entries: ReadonlyMap<string, TomlEntry>;
}

/** A key with its value. */
export interface TomlEntry {
  /** The line of the key, counted from 1; of the first where a table is written in parts. */
  readonly line: number;
  /** The value. */
  readonly value: TomlValue;
}

/** A value. Lines are counted from 1. */
export type TomlValue =
  | TomlTable
  | { readonly kind: "list"; readonly line: number; readonly items: readonly TomlValue[] }
  | { readonly kind: "text"; readonly line: number; readonly value: string }
  | { readonly kind: "integer"; readonly line: number; readonly value: bigint }
  | { readonly kind: "float"; readonly line: number; readonly value: number }
  | { readonly kind: "flag"; readonly line: number; readonly value: boolean }
  | { readonly kind: "date"; readonly line: number; readonly text: string };

/** A table while it is being filled. */
interface OpenTable {
  readonly kind: "table";
  readonly line: number;
  readonly entries: Map<string, { readonly line: number; readonly value: TomlValue | OpenTable }>;
}

/**
 * Reads TOML 1.0.
 *
 * @param text The document.
 * @param name What it is called in messages, such as the file's path.
 * @throws {SandboxError} `InvalidArgument` with line and column where it is not TOML.
 */
export function parseToml(text: string, name: string): TomlTable {
  const root = openTable(1);
  for (const node of parse(text, name).body[0].body) {
    if (node.type === "TOMLKeyValue") {
      insert(root, node);
      continue;
    }
    const table = descend(root, node.resolvedKey, node.loc.start.line);
    for (const entry of node.body) insert(table, entry);
  }
  return root;
}

function parse(text: string, name: string): AST.TOMLProgram {
  try {
    return parseTOML(text, { tomlVersion: "1.0" });
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    const { message } = error;
    const place = errorPlace(error, text);
    const what = message.charAt(0).toLowerCase() + message.slice(1);
    throw new SandboxError("InvalidArgument", `cannot read ${name}: ${place}: not TOML: ${what}`, {
      cause: error,
    });
  }
}

/** Where an error is. Some are noticed only at the token after the line that is wrong. */
function errorPlace({ lineNumber, column, message }: ParseError, text: string): string {
  const here = `line ${lineNumber}, column ${column + 1}`;
  if (column > 0 || lineNumber === 1) return here;
  const lines = text.split("\n").slice(0, lineNumber - 1);
  const before = lines.findLastIndex((line) => !/^\s*(#|$)/.test(line));
  const late = /=\s*(#.*)?$/.test(lines[before] ?? "") || /must be on the same line/.test(message);
  return late ? `line ${before + 1}` : here;
}

function openTable(line: number): OpenTable {
  return { kind: "table", line, entries: new Map() };
}

/** The table at a path; it and those above it are made where they are missing. */
function descend(root: OpenTable, path: readonly (string | number)[], line: number): OpenTable {
  let at = root;
  for (const [i, key] of path.entries()) {
    // A number is the place in the array of tables before it.
    if (typeof key === "number") continue;
    const index = path[i + 1];
    at = typeof index === "number" ? itemTable(at, key, index, line) : childTable(at, key, line);
  }
  return at;
}

function childTable(table: OpenTable, key: string, line: number): OpenTable {
  const found = table.entries.get(key)?.value;
  if (found !== undefined && found.kind === "table") return writable(found);
  const made = openTable(line);
  table.entries.set(key, { line, value: made });
  return made;
}

function itemTable(table: OpenTable, key: string, index: number, line: number): OpenTable {
  const found = table.entries.get(key);
  const items = found?.value.kind === "list" ? found.value.items : [];
  const item = items[index];
  if (item !== undefined && item.kind === "table") return writable(item);
  const made = openTable(line);
  const value = { kind: "list", line: found?.line ?? line, items: [...items, made] } as const;
  table.entries.set(key, { line: value.line, value });
  return made;
}

/** Every table here was made by {@link openTable}. */
function writable(table: TomlTable | OpenTable): OpenTable {
  if (table.entries instanceof Map) return { ...table, entries: table.entries };
  throw new SandboxError("Internal", "cannot extend a TOML table: it is closed");
}

function insert(into: OpenTable, { key, value }: AST.TOMLKeyValue): void {
  const path = key.keys.map((part) => part.type === "TOMLBare" ? part.name : part.value);
  const last = path.pop();
  if (last === undefined) return;
  const { line } = key.loc.start;
  descend(into, path, line).entries.set(last, { line, value: convert(value) });
}

function convert(node: AST.TOMLContentNode): TomlValue {
  const { line } = node.loc.start;
  if (node.type === "TOMLArray") return { kind: "list", line, items: node.elements.map(convert) };
  if (node.type === "TOMLInlineTable") {
    const table = openTable(line);
    for (const entry of node.body) insert(table, entry);
    return table;
  }
  switch (node.kind) {
    case "string":
      return { kind: "text", line, value: node.value };
    case "integer":
      return { kind: "integer", line, value: node.bigint };
    case "float":
      return { kind: "float", line, value: node.value };
    case "boolean":
      return { kind: "flag", line, value: node.value };
    default:
      return { kind: "date", line, text: node.datetime };
  }
}

/** What a value is, for messages: `the text "two"`. */
export function describeToml(value: TomlValue): string {
  switch (value.kind) {
    case "table":
      return "a table";
    case "list":
      return `a list of ${value.items.length}`;
    case "text":
      return `the text ${JSON.stringify(value.value.slice(0, 100))}`;
    case "integer":
    case "float":
      return `the number ${value.value}`;
    case "flag":
      return String(value.value);
    case "date":
      return `the date ${value.text}`;
  }
}

/** Text as TOML writes it: a basic string. */
export function tomlText(text: string): string {
  // JSON escapes the same characters in the same way, but for DEL, which TOML does not take.
  return JSON.stringify(text).replaceAll("\x7f", "\\u007f");
}
