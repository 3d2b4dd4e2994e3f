/**
 * Remembers what was found out about runsc until the host is started again, in small files.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";

/** What a choice holds for. */
export interface ChoiceKey {
  /** This start of the host; without one nothing is remembered. */
  readonly bootId: string;
  /** The program and its version: see {@link runscIdentity}. */
  readonly runsc: string;
  /** What the configuration says. */
  readonly wanted: string;
}

/**
 * Names a runsc, so that another one is tried anew.
 *
 * @param program An absolute path.
 * @param version What it says.
 */
export async function runscIdentity(program: string, version: string): Promise<string> {
  const info = await Deno.stat(program).catch(() => undefined);
  return `${program} ${version} ${info?.size ?? 0} ${info?.mtime?.getTime() ?? 0}`;
}

/**
 * Reads a choice.
 *
 * @param file The file, an absolute path.
 * @param key What it must hold for.
 * @param parse Reads what was chosen; undefined where it is something else.
 * @returns Undefined where there is none for that.
 */
export async function readChoice<T>(
  file: string,
  key: ChoiceKey,
  parse: (fields: ReadonlyMap<string, unknown>) => T | undefined,
): Promise<T | undefined> {
  let value: unknown;
  try {
    value = JSON.parse(await Deno.readTextFile(file));
  } catch {
    // Missing, unreadable or damaged: it is found out again.
    return undefined;
  }
  if (typeof value !== "object" || value === null || key.bootId === "") return undefined;
  const fields = new Map<string, unknown>(Object.entries(value));
  const isSame = Object.entries(key).every(([name, wanted]) => fields.get(name) === wanted);
  return isSame ? parse(fields) : undefined;
}

/**
 * Writes a choice.
 *
 * @param file The file, an absolute path; replaced as a whole. Its directory is made where it is
 *   missing.
 * @param key What it holds for.
 * @param chosen What was chosen.
 * @throws {SandboxError} Where it cannot be written.
 */
export async function writeChoice(
  file: string,
  key: ChoiceKey,
  chosen: Readonly<Record<string, Json>>,
): Promise<void> {
  const temporary = `${file}.${crypto.randomUUID()}.new`;
  try {
    await Deno.mkdir(file.slice(0, file.lastIndexOf("/")), { recursive: true });
    await Deno.writeTextFile(temporary, `${JSON.stringify({ ...key, ...chosen })}\n`);
    await Deno.rename(temporary, file);
  } catch (error) {
    await Deno.remove(temporary).catch(() => undefined);
    throw SandboxError.from(error, `cannot write "${file}"`);
  }
}
