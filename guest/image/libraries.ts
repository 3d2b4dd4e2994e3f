/**
 * Finds the libraries that a program wants, and those that they want, among the files of unpacked
 * packages. The libraries of the machine that builds are never looked at.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { ElfFile } from "./elf.ts";
import { filesBelow } from "./files.ts";

/** A library. */
export interface Library {
  /** The name that programs want it by, such as `libc.so.6`. */
  readonly name: string;
  /** Its content. */
  readonly bytes: Uint8Array;
}

/** What a program needs beside itself. */
export interface ProgramNeeds {
  /** What loads it: the path that the program says, and the content; undefined for a static one. */
  readonly loader: { readonly path: string; readonly bytes: Uint8Array } | undefined;
  /** Its libraries, in the order of names. */
  readonly libraries: readonly Library[];
}

/** Where a library's file may be, by a part of its path. */
const LIBRARY_DIRECTORY = /\/lib(?:64)?\/(?:[^/]+-linux-gnu\/)?[^/]+$/;

/** Most symbolic links from a name to a file. */
const LINKS_MAX = 8;

/**
 * Finds what a program needs.
 *
 * @param program The program's content.
 * @param name Its name, for messages.
 * @param root The directory that the packages were unpacked to.
 * @throws {SandboxError} `FailedPrecondition` where a library is in none of the packages.
 */
export async function programNeeds(
  program: Uint8Array,
  name: string,
  root: string,
): Promise<ProgramNeeds> {
  const paths = new Map<string, string>();
  for await (const file of filesBelow(root)) {
    if (LIBRARY_DIRECTORY.test(file.path)) paths.set(file.name, file.path);
  }
  const read = async (wanted: string, by: string) => {
    const path = paths.get(wanted);
    if (path === undefined) throw missing(wanted, by);
    return await Deno.readFile(await followLinks(path, root));
  };
  const elf = new ElfFile(program, name);
  const interpreter = elf.interpreter();
  const loaderName = interpreter?.split("/").at(-1) ?? "";
  const libraries = new Map<string, Library>();
  const collect = async (wanted: string, by: string): Promise<void> => {
    // The loader is a library too, and stands at a place of its own.
    if (libraries.has(wanted) || wanted === loaderName) return;
    const bytes = await read(wanted, by);
    libraries.set(wanted, { name: wanted, bytes });
    for (const next of new ElfFile(bytes, wanted).neededLibraries()) await collect(next, wanted);
  };
  for (const wanted of elf.neededLibraries()) await collect(wanted, name);
  return {
    loader: interpreter === undefined
      ? undefined
      : { path: interpreter, bytes: await read(loaderName, name) },
    libraries: [...libraries.values()].sort((a, b) => a.name < b.name ? -1 : 1),
  };
}

/** Follows symbolic links as if the packages' root were the root of everything. */
async function followLinks(path: string, root: string): Promise<string> {
  let at = path;
  for (let links = 0; links < LINKS_MAX; links++) {
    if (!(await Deno.lstat(at)).isSymlink) return at;
    const target = await Deno.readLink(at);
    const directory = at.slice(0, at.lastIndexOf("/"));
    at = target.startsWith("/") ? `${root}${target}` : `${directory}/${target}`;
  }
  throw new SandboxError("FailedPrecondition", `cannot read "${path}": too many symbolic links`);
}

function missing(name: string, by: string): SandboxError {
  return new SandboxError(
    "FailedPrecondition",
    `cannot find the library "${name}", which "${by}" needs, in the packages that it depends on`,
  );
}
