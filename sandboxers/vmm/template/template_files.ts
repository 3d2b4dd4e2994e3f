/**
 * Templates on disk: each is a directory with what the VMM saved and a note of what that was. A
 * template whose files are not as they were written is none.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { TemplateHost } from "./key.ts";

/** The note's file in a template's directory. */
const NOTE_FILE = "template.json";

/** Files up to this size are compared byte by byte (by their digest); larger ones by size and time. */
const DIGEST_BYTES_MAX = 4 << 20;

/** Most files of a template. */
const FILES_MAX = 16;

/** A file of a template as it was written. */
interface TemplateFile {
  readonly name: string;
  readonly bytes: number;
  readonly changedMs: number;
  readonly sha256: string;
}

/** What a template is. */
export interface TemplateNote {
  /** Its key. */
  readonly key: string;
  /** What it depends on. */
  readonly host: TemplateHost;
  /** Its files. */
  readonly files: readonly TemplateFile[];
}

/** The part of a key that is in the names of its templates. */
export function shortKey(key: string): string {
  return key.slice(0, 16);
}

/**
 * Finishes a template: writes its note and gives it its name, in one step.
 *
 * @param unfinished Its directory so far.
 * @param directory Its directory from now on: a new one for every template, also of the same key.
 * @param what Its key and what it depends on.
 * @returns Its note.
 */
export async function finish(
  unfinished: string,
  directory: string,
  what: Omit<TemplateNote, "files">,
): Promise<TemplateNote> {
  const files: TemplateFile[] = [];
  for (const { name } of await Array.fromAsync(Deno.readDir(unfinished))) {
    files.push(await look(unfinished, name));
  }
  const note: TemplateNote = { ...what, files };
  await Deno.writeTextFile(`${unfinished}/${NOTE_FILE}`, JSON.stringify(note), { mode: 0o444 });
  await Deno.rename(unfinished, directory);
  return note;
}

/**
 * When a template was used last, in milliseconds since the epoch.
 *
 * @param directory The template.
 * @returns Undefined where it is not there.
 */
export async function lastUse(directory: string): Promise<number | undefined> {
  const found = await Deno.stat(`${directory}/${NOTE_FILE}`).catch(() => undefined);
  return found?.mtime?.getTime();
}

/**
 * Takes note that a template is used.
 *
 * @param directory The template.
 * @param atMs When, in milliseconds since the epoch.
 */
export async function markUsed(directory: string, atMs: number): Promise<void> {
  await Deno.utime(`${directory}/${NOTE_FILE}`, new Date(atMs), new Date(atMs));
}

/**
 * Reads a template's note and compares its files with it.
 *
 * @param directory The template.
 * @throws {SandboxError} `DataLoss` where it is not whole.
 */
export async function readTemplate(directory: string): Promise<TemplateNote> {
  const note = await readNote(directory);
  if (note === undefined) throw damaged(directory, "it has no note that can be read");
  for (const file of note.files) {
    const now = await look(directory, file.name).catch((error: unknown) => {
      throw damaged(directory, SandboxError.from(error).message);
    });
    if (
      now.bytes === file.bytes && now.changedMs === file.changedMs && now.sha256 === file.sha256
    ) {
      continue;
    }
    throw damaged(directory, `"${file.name}" is not as it was written`);
  }
  return note;
}

/**
 * Whether a template's files are still there in their sizes. Quicker than {@link readTemplate}.
 *
 * @param directory The template.
 * @param note Its note.
 */
export async function isThere(directory: string, note: TemplateNote): Promise<boolean> {
  for (const { name, bytes, changedMs } of note.files) {
    const now = await Deno.stat(`${directory}/${name}`).catch(() => undefined);
    if (now?.size !== bytes || now.mtime?.getTime() !== changedMs) return false;
  }
  return true;
}

/** Looks at a file. */
async function look(directory: string, name: string): Promise<TemplateFile> {
  const path = `${directory}/${name}`;
  const { size, mtime } = await Deno.stat(path);
  const sha256 = size > DIGEST_BYTES_MAX
    ? ""
    : createHash("sha256").update(await Deno.readFile(path)).digest("hex");
  return { name, bytes: size, changedMs: mtime?.getTime() ?? 0, sha256 };
}

/** Reads a note; undefined where there is none that makes sense. */
async function readNote(directory: string): Promise<TemplateNote | undefined> {
  try {
    const value: unknown = JSON.parse(await Deno.readTextFile(`${directory}/${NOTE_FILE}`));
    return isNote(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Whether it has the form of a note; only this process's user can write there. */
function isNote(value: unknown): value is TemplateNote {
  if (typeof value !== "object" || value === null) return false;
  if (!("key" in value && typeof value.key === "string")) return false;
  if (!("host" in value && typeof value.host === "object" && value.host !== null)) return false;
  if (!("files" in value && Array.isArray(value.files))) return false;
  const names = value.files.map((file: { readonly name?: unknown }) => file?.name);
  return names.length > 0 && names.length <= FILES_MAX &&
    names.every((name) => typeof name === "string" && /^[\w.-]+$/.test(name));
}

function damaged(directory: string, why: string): SandboxError {
  return new SandboxError("DataLoss", `cannot use the template "${directory}": ${why}`);
}
