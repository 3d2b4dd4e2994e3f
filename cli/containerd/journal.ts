/**
 * What was changed in a configuration, kept beside it so that it can be taken back: a file of JSON
 * that only `quasaur containerd config` reads and writes.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import type { Edit } from "./edits.ts";

/** One run of `--apply`. */
export interface Step {
  /** The hash of the file before it; of no text where there was no file. */
  readonly before: string;
  /** The hash of the file after it. */
  readonly after: string;
  /** The changes, in order. */
  readonly edits: readonly Edit[];
  /** The copy of the file that was made before; undefined where there was no file. */
  readonly backup?: string;
}

/** All of it. */
export interface Journal {
  /** The version of this file. */
  readonly format: 1;
  /** Whether there was no file before the first step. */
  readonly made: boolean;
  /** Directories that were made for the file, the uppermost first. */
  readonly directories: readonly string[];
  /** The steps, in order. */
  readonly steps: readonly Step[];
}

/** The journal's path for a configuration. */
export function journalPath(file: string): string {
  return `${file}.quasaur-undo.json`;
}

/**
 * Reads the journal of a configuration.
 *
 * @param file The configuration's path.
 * @returns undefined where there is none.
 * @throws {SandboxError} `DataLoss` where it is damaged.
 */
export async function readJournal(file: string): Promise<Journal | undefined> {
  const path = journalPath(file);
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return undefined;
    }
    throw SandboxError.from(error, `cannot read ${path}`);
  }
  const value = parsed(text);
  if (isJournal(value)) return value;
  throw new SandboxError(
    "DataLoss",
    `cannot read ${path}: it is not what --apply wrote: take the sections out by hand, or put the ` +
      "copy of the file beside it back, and delete it",
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isJournal(value: unknown): value is Journal {
  return isRecord(value) && value["format"] === 1 && typeof value["made"] === "boolean" &&
    isListOf(value["directories"], isText) && isListOf(value["steps"], isStep);
}

function isStep(value: unknown): value is Step {
  return isRecord(value) && isText(value["before"]) && isText(value["after"]) &&
    isListOf(value["edits"], isEdit) &&
    (value["backup"] === undefined || isText(value["backup"]));
}

function isEdit(value: unknown): value is Edit {
  return isRecord(value) && isListOf(value["path"], isText) &&
    Number.isInteger(value["offset"]) && isText(value["removed"]) && isText(value["inserted"]);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isListOf<T>(value: unknown, is: (item: unknown) => item is T): value is T[] {
  return Array.isArray(value) && value.every(is);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
