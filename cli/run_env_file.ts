/**
 * `--env-file`: environment variables, one in each line, as other container tools read them: empty
 * lines and those that begin with `#` say nothing, and quotation marks are part of a value.
 *
 * @module
 */

import { UsageError } from "./usage_error.ts";

/** Largest file, in bytes. */
const BYTES_MAX = 4 * 2 ** 20;

/**
 * Reads a file.
 *
 * @param path The file.
 * @throws {UsageError} Naming the file, and the line where one is wrong.
 */
export function readEnvFile(path: string): Readonly<Record<string, string>> {
  const fail = (reason: string): never => {
    throw new UsageError(`Invalid --env-file ${JSON.stringify(path)}: ${reason}`);
  };
  let bytes: Uint8Array;
  try {
    bytes = Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return fail("there is no such file");
    return fail(error instanceof Error ? error.message : String(error));
  }
  if (bytes.length > BYTES_MAX) return fail(`it has more than ${BYTES_MAX} bytes`);
  return parseEnvFile(bytes, fail);
}

/**
 * Reads the content of a file.
 *
 * @param bytes The content.
 * @param fail Throws; gets the reason, with the number of the line.
 */
export function parseEnvFile(
  bytes: Uint8Array,
  fail: (reason: string) => never,
): Readonly<Record<string, string>> {
  const variables: Record<string, string> = {};
  for (const [index, line] of linesOf(bytes, fail).entries()) {
    const text = line.replace(/\r$/, "").replace(/^[ \t]+/, "");
    if (text === "" || text.startsWith("#")) continue;
    const at = text.indexOf("=");
    const name = at < 0 ? text : text.slice(0, at);
    const where = `line ${index + 1}`;
    if (at < 0) {
      fail(
        `${where}: expected NAME=VALUE, found ${
          JSON.stringify(text.slice(0, 100))
        }: variables of ` +
          "this command's own environment are not passed on",
      );
    }
    if (name === "" || /[\s\0]/.test(name)) {
      fail(`${where}: expected a name without spaces before "=", found ${JSON.stringify(name)}`);
    }
    if (text.includes("\0")) fail(`${where}: expected text without NUL`);
    variables[name] = text.slice(at + 1);
  }
  return variables;
}

function linesOf(bytes: Uint8Array, fail: (reason: string) => never): string[] {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  try {
    return decoder.decode(bytes).split("\n");
  } catch {
    // Which line it is, is found by reading them one by one.
  }
  let line = 1;
  for (let from = 0; from <= bytes.length; line++) {
    const end = bytes.indexOf(0x0a, from);
    const to = end < 0 ? bytes.length : end;
    try {
      decoder.decode(bytes.subarray(from, to));
    } catch {
      break;
    }
    from = to + 1;
  }
  return fail(`line ${line}: expected UTF-8`);
}
