/**
 * Files that a configuration of containerd imports. What they say goes before what the file itself
 * says, so a section that one of them has is there already, or cannot be set elsewhere.
 *
 * @module
 */

import { type AST, parseTOML } from "toml-eslint-parser";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/** A file that is imported. */
export interface Imported {
  /** Its path. */
  readonly path: string;
  /** Its text. */
  readonly text: string;
}

/** Most files that are followed: nobody has that many. */
const FILES_MAX = 200;

/**
 * Reads the files that a configuration imports, and those that these import. Files that are missing
 * are none, as for containerd.
 *
 * @param file The configuration's path, absolute.
 * @param text Its text; known to be TOML.
 * @throws {SandboxError} `InvalidArgument` where one is not TOML or there are too many.
 */
export async function readImports(file: string, text: string): Promise<Imported[]> {
  const found = new Map<string, Imported>();
  const waiting = [{ path: file, text }];
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    for (const pattern of patternsOf(next.text)) {
      for (const path of await filesOf(pattern, next.path)) {
        if (path === file || found.has(path)) continue;
        if (found.size >= FILES_MAX) {
          throw new SandboxError(
            "InvalidArgument",
            `cannot read the imports of ${file}: more than ${FILES_MAX} files`,
          );
        }
        const imported = { path, text: await Deno.readTextFile(path) };
        found.set(path, imported);
        waiting.push(imported);
      }
    }
  }
  return [...found.values()];
}

/** The value of `imports`. */
function patternsOf(text: string): string[] {
  const node = parseTOML(text, { tomlVersion: "1.0" }).body[0].body.find((it) =>
    it.type === "TOMLKeyValue" && isKey(it.key, "imports")
  );
  if (node?.type !== "TOMLKeyValue" || node.value.type !== "TOMLArray") return [];
  return node.value.elements.flatMap((element) =>
    element.type === "TOMLValue" && element.kind === "string" ? [element.value] : []
  );
}

function isKey({ keys }: AST.TOMLKey, name: string): boolean {
  const [part] = keys;
  return keys.length === 1 && (part?.type === "TOMLBare" ? part.name : part?.value) === name;
}

/** The files that a pattern stands for; wildcards in the last part only are followed. */
async function filesOf(pattern: string, from: string): Promise<string[]> {
  const base = from.slice(0, from.lastIndexOf("/"));
  const absolute = pattern.startsWith("/") ? pattern : `${base}/${pattern}`;
  const directory = absolute.slice(0, absolute.lastIndexOf("/"));
  const last = absolute.slice(directory.length + 1);
  if (!/[*?[]/.test(last)) return await isFile(absolute) ? [absolute] : [];
  const matches = wildcard(last);
  const paths: string[] = [];
  try {
    for await (const { name } of Deno.readDir(directory)) {
      if (matches.test(name) && await isFile(`${directory}/${name}`)) {
        paths.push(`${directory}/${name}`);
      }
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return paths.sort();
}

async function isFile(path: string): Promise<boolean> {
  return (await Deno.stat(path).catch(() => undefined))?.isFile ?? false;
}

/** The file names of a pattern as Go's filepath.Match has them. */
function wildcard(pattern: string): RegExp {
  const source = pattern.replace(/\[\^?[^\]]*\]|[*?]|[^*?[]+|\[/g, (part) => {
    if (part === "*") return "[^/]*";
    if (part === "?") return "[^/]";
    if (part.length > 1 && part.startsWith("[")) return part;
    return part.replaceAll(/[.\\+^$(){}|[\]]/g, "\\$&");
  });
  return new RegExp(`^${source}$`);
}
