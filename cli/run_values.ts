/**
 * The values of the options of `quasaur run`. Each function takes what was written and gives what it
 * means, or says what is wrong with it.
 *
 * @module
 */

import type { DirectoryMount, WasmEngine } from "../mod.ts";
import { parseSize, SIZE_SYNTAX } from "./units.ts";
import { UsageError } from "./usage_error.ts";

function bad(option: string, found: string, expected: string): UsageError {
  return new UsageError(`Invalid ${option} ${JSON.stringify(found)}: expected ${expected}`);
}

/**
 * Reads `HOST:GUEST`, `HOST:GUEST:ro` or `HOST:GUEST:rw`.
 *
 * @throws {UsageError} Also when HOST is not a directory.
 */
export function parseDirectory(text: string): DirectoryMount {
  const syntax = "HOST:GUEST or HOST:GUEST:ro";
  const [source = "", destination = "", mode = "rw", ...more] = text.split(":");
  if (!text.includes(":") || source === "" || destination === "" || more.length > 0) {
    throw bad("--dir", text, syntax);
  }
  if (mode !== "ro" && mode !== "rw") {
    throw bad("--dir", text, `${syntax}, found ${JSON.stringify(mode)} after the second colon`);
  }
  const parts = destination.split("/");
  if (!destination.startsWith("/") || parts.includes("..") || /^\/+$/.test(destination)) {
    throw bad("--dir", text, `GUEST to be an absolute path below "/" without ".."`);
  }
  if (!isDirectory(source)) {
    throw bad("--dir", text, `HOST to be a directory, "${source}" is none`);
  }
  return { source, destination, readonly: mode === "ro" };
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return false;
    }
    throw error;
  }
}

/**
 * Reads `NAME=VALUE`; the value may be empty and may have more `=`.
 *
 * @throws {UsageError}
 */
export function parseEnvironment(text: string): readonly [string, string] {
  const at = text.indexOf("=");
  if (at < 1) throw bad("--env", text, "NAME=VALUE");
  return [text.slice(0, at), text.slice(at + 1)];
}

/**
 * Reads a size in bytes.
 *
 * @throws {UsageError}
 */
export function parseMemory(text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined) throw bad("--memory", text, SIZE_SYNTAX);
  return bytes;
}

/**
 * Reads a directory inside of the container.
 *
 * @throws {UsageError}
 */
export function parseWorkdir(text: string): string {
  if (text.startsWith("/") && !text.split("/").includes("..")) return text;
  throw bad("--workdir", text, `an absolute path without ".."`);
}

/**
 * Reads the name of an engine.
 *
 * @throws {UsageError}
 */
export function parseEngine(text: string): WasmEngine {
  if (text === "wasmedge" || text === "v8") return text;
  throw bad("--engine", text, "wasmedge or v8");
}
