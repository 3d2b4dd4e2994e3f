/**
 * The values of the options of `quasaur run`. Each function takes what was written and gives what it
 * means, or says what is wrong with it.
 *
 * @module
 */

import type { DirectoryMount, WasmEngine } from "../mod.ts";
import { isUser, USER_SYNTAX } from "../sandboxers/images/users.ts";
import { parseSpan } from "./show/times.ts";
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
  if (at < 1) {
    const own = "NAME=VALUE: variables of this command's own environment are not passed on";
    throw bad("--env", text, own);
  }
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

/**
 * Reads how far a module is kept apart from others.
 *
 * @throws {UsageError}
 */
export function parseIsolation(text: string): "thread" | "process" {
  if (text === "thread" || text === "process") return text;
  throw bad("--isolation", text, "thread or process");
}

/**
 * Reads a number of CPUs, which may have a fraction.
 *
 * @throws {UsageError}
 */
export function parseCpus(text: string): number {
  if (/^\d{1,4}(\.\d{1,3})?$/.test(text) && Number(text) > 0) return Number(text);
  throw bad("--cpus", text, "a number above 0, such as 2 or 1.5");
}

/**
 * Reads what a machine reaches.
 *
 * @throws {UsageError}
 */
export function parseNet(text: string): "none" | "user" {
  if (text === "none" || text === "user") return text;
  throw bad("--net", text, "none or user");
}

/** What a module reaches. */
export type WasmNet =
  | { readonly kind: "host" }
  | { readonly kind: "namespace"; readonly path: string };

/** What a sandbox of gVisor reaches. */
export type GvisorNet =
  | { readonly kind: "none" | "host" }
  | { readonly kind: "namespace"; readonly path: string };

/**
 * Reads what a sandbox of gVisor reaches.
 *
 * @throws {UsageError}
 */
export function parseGvisorNet(text: string): GvisorNet {
  if (text === "none" || text === "host") return { kind: text };
  if (isNamespacePath(text)) return { kind: "namespace", path: text };
  throw bad("--net", text, "none, host, or the absolute path of a network namespace");
}

/**
 * Reads `UID` or `UID:GID`.
 *
 * @throws {UsageError}
 */
export function parseUser(text: string): { readonly uid: number; readonly gid: number } {
  const [, uid, gid = uid] = /^(\d{1,10})(?::(\d{1,10}))?$/.exec(text) ?? [];
  if (uid !== undefined && gid !== undefined) return { uid: Number(uid), gid: Number(gid) };
  throw bad("--user", text, "UID or UID:GID, as numbers");
}

/**
 * Reads `USER` or `USER:GROUP`, names or numbers. Numbers alone are no question to anybody: a group
 * that is missing is that of the user's number.
 *
 * @throws {UsageError}
 */
export function parseUserName(
  text: string,
): { readonly uid: number; readonly gid: number } | string {
  if (/^\d+(:\d+)?$/.test(text)) return parseUser(text);
  if (isUser(text)) return text;
  throw bad("--user", text, USER_SYNTAX);
}

/**
 * Reads a name for a sandbox.
 *
 * @throws {UsageError}
 */
export function parseName(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(text)) return text;
  throw bad(
    "--name",
    text,
    'at most 64 letters, digits, ".", "_" and "-", a letter or digit first',
  );
}

/**
 * Reads a hostname.
 *
 * @throws {UsageError}
 */
export function parseHostname(text: string): string {
  if (/^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$/.test(text)) return text;
  throw bad("--hostname", text, 'at most 63 letters, digits, "." and "-"');
}

/**
 * Reads `NAME` or `NAME=VALUE`.
 *
 * @throws {UsageError}
 */
export function parseLabel(text: string): readonly [string, string] {
  const [name = "", ...value] = text.split("=");
  if (/^[\x21-\x7e]{1,256}$/.test(name)) return [name, value.join("=")];
  throw bad("--label", text, "NAME=VALUE, the name without spaces");
}

/**
 * Reads what a module reaches.
 *
 * @throws {UsageError}
 */
export function parseWasmNet(text: string): WasmNet {
  if (text === "host") return { kind: text };
  if (isNamespacePath(text)) return { kind: "namespace", path: text };
  throw bad("--net", text, "host, or the absolute path of a network namespace");
}

function isNamespacePath(text: string): boolean {
  return text.startsWith("/") && text.length > 1 && !text.split("/").includes("..");
}

/**
 * Reads `SOURCE:DESTINATION`, with `:ro` or `:rw` behind it.
 *
 * @throws {UsageError} Also when SOURCE is not there.
 */
export function parseVolume(text: string): DirectoryMount {
  const syntax = "SOURCE:DESTINATION or SOURCE:DESTINATION:ro";
  const [source = "", destination = "", mode = "rw", ...more] = text.split(":");
  if (source === "" || destination === "" || more.length > 0 || (mode !== "ro" && mode !== "rw")) {
    throw bad("--volume", text, syntax);
  }
  const parts = destination.split("/");
  if (!destination.startsWith("/") || parts.includes("..") || /^\/+$/.test(destination)) {
    throw bad("--volume", text, `DESTINATION to be an absolute path below "/" without ".."`);
  }
  if (!isThere(source)) throw bad("--volume", text, `SOURCE to be there, "${source}" is not`);
  return { source, destination, readonly: mode === "ro" };
}

function isThere(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return false;
    }
    throw error;
  }
}

const MS_PER_DAY = 86_400_000;
/** The longest time that a timer can count, in milliseconds: some 24 days. */
const TIMER_MS_MAX = 2_147_483_647;

/**
 * Reads a duration, in seconds where it has no unit.
 *
 * @param text What was written.
 * @param option The option, for the message.
 * @param maxMs The longest one that is taken, in milliseconds.
 * @returns Milliseconds.
 * @throws {UsageError}
 */
export function parseDuration(text: string, option = "--timeout", maxMs = TIMER_MS_MAX): number {
  const span = parseSpan(/^\d+(\.\d+)?$/.test(text) ? `${text}s` : text) ?? 0;
  const ms = Math.ceil(span);
  if (ms > 0 && ms <= maxMs) return ms;
  throw bad(
    option,
    text,
    "a duration such as 30s or 1h30m: numbers with ms, s, m, h or d" +
      (ms > maxMs ? `, at most ${Math.floor(maxMs / MS_PER_DAY)}d` : ""),
  );
}
