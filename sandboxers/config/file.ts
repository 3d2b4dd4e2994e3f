/**
 * Reads configuration files.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { ConfigSource } from "./read.ts";
import { parseToml, tomlText } from "./toml.ts";

/** Largest file that is read, in bytes: no configuration comes near it. */
const FILE_BYTES_MAX = 1 << 20;

/**
 * Reads a file. Once, when a program starts: nothing else waits for it.
 *
 * @param path The file.
 * @throws {SandboxError} `NotFound`; `PermissionDenied`; `InvalidArgument` where it is not TOML, or
 *   too large to be a configuration.
 */
export function readConfigFile(path: string): ConfigSource {
  const text = readText(path);
  return {
    table: parseToml(text, `the configuration ${path}`),
    place: (line) => `${path}:${line}`,
  };
}

/**
 * Reads a file that need not be there.
 *
 * @returns undefined where it is missing.
 * @throws {SandboxError} See {@link readConfigFile}, but for `NotFound`.
 */
export function readOptionalConfigFile(path: string): ConfigSource | undefined {
  try {
    return readConfigFile(path);
  } catch (error) {
    if (error instanceof SandboxError && error.code === "NotFound") return undefined;
    throw error;
  }
}

/**
 * A setting from a command line, as TOML: `hypervisor.vcpus=2`. Text needs no quotes, as shells take
 * them away.
 *
 * @param text What was written.
 * @param flag The flag that it came with, for messages.
 * @throws {SandboxError} `InvalidArgument` where it is not TOML.
 */
export function configFromFlag(text: string, flag: string): ConfigSource {
  const place = (): string => flag;
  const name = `${flag} ${JSON.stringify(text)}`;
  try {
    return { table: parseToml(text, name), place };
  } catch (error) {
    const [, key, value] = /^([\w.-]+)\s*=\s*([^"'\s][^"']*)$/.exec(text) ?? [];
    if (key === undefined || value === undefined) throw error;
    return { table: parseToml(`${key} = ${tomlText(value)}`, name), place };
  }
}

function readText(path: string): string {
  try {
    // A FIFO or a device would be waited for, or never end.
    const { isFile, size } = Deno.statSync(path);
    if (!isFile) throw invalid(path, "it is no regular file");
    if (size > FILE_BYTES_MAX) {
      throw invalid(path, `it has ${size} bytes, more than ${FILE_BYTES_MAX}`);
    }
    return new TextDecoder("utf-8", { fatal: true }).decode(Deno.readFileSync(path));
  } catch (error) {
    if (error instanceof TypeError) throw invalid(path, "it is not UTF-8 text", error);
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      throw new SandboxError("NotFound", `cannot read the configuration ${path}: no such file`, {
        cause: error,
      });
    }
    throw SandboxError.from(error, `cannot read the configuration ${path}`);
  }
}

function invalid(path: string, reason: string, cause?: unknown): SandboxError {
  return new SandboxError(
    "InvalidArgument",
    `cannot read the configuration ${path}: ${reason}`,
    { cause },
  );
}
