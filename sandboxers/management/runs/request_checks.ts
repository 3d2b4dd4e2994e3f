/**
 * Checks of what a caller asks for, with messages that name the field and what is expected. Everything
 * is bounded: it is stored with each sandbox.
 *
 * @module
 */

import type {
  ProcessSpec as ProcessMessage,
  Resources,
  TerminalSize,
} from "../../../proto/gen/quasaur/management/v1/management_pb.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { ProcessSpec, ResourceSpec, StdioSpec } from "../../lifecycle/spec.ts";

/** The period of CPU quotas, in microseconds. */
const CPU_PERIOD_US = 100_000;
/** The least that the kernel takes for a quota, in thousandths of a CPU. */
const CPU_MILLIS_MIN = 10n;
/** More CPUs than any machine has, in thousandths. */
const CPU_MILLIS_MAX = 10_000_000n;
const MEMORY_BYTES_MIN = 1n << 20n;
const PIDS_MAX = 4_194_304n;
/** Largest number of a user or group; the one after it means none. */
const USER_ID_MAX = 2 ** 32 - 2;
const TERMINAL_MAX = 65_535;
const PATH_LENGTH_MAX = 4095;
const WORDS_MAX = 4096;
const WORDS_LENGTH_MAX = 1 << 20;
const GROUPS_MAX = 1024;
const PAIRS_MAX = 256;
const PAIRS_LENGTH_MAX = 256 * 1024;

/**
 * An error about a field.
 *
 * @param field Its name, as in the protocol.
 * @param found What it says.
 * @param expected What was expected.
 */
export function bad(
  field: string,
  found: string | number | bigint,
  expected: string,
): SandboxError {
  const text = typeof found === "string" ? JSON.stringify(found.slice(0, 200)) : `${found}`;
  return new SandboxError("InvalidArgument", `invalid ${field} ${text}: expected ${expected}`);
}

/**
 * Checks a path.
 *
 * @throws {SandboxError} `InvalidArgument`
 */
export function checkPath(field: string, path: string): string {
  const isPlain = path.startsWith("/") && !path.includes("\0") && !path.split("/").includes("..");
  if (isPlain && path.length <= PATH_LENGTH_MAX) return path;
  throw bad(field, path, `an absolute path without ".."`);
}

/**
 * Checks words that become the arguments or the environment of a process.
 *
 * @throws {SandboxError} `InvalidArgument`
 */
export function checkWords(field: string, words: readonly string[]): readonly string[] {
  const length = words.reduce((sum, word) => sum + word.length, 0);
  if (words.length > WORDS_MAX || length > WORDS_LENGTH_MAX) {
    const expected = `at most ${WORDS_MAX} with ${WORDS_LENGTH_MAX} characters`;
    throw bad(field, `${words.length} with ${length} characters`, expected);
  }
  for (const word of words) {
    if (word.includes("\0")) throw bad(field, word, "text without NUL");
  }
  return words;
}

/**
 * Checks labels or annotations.
 *
 * @throws {SandboxError} `InvalidArgument`
 */
export function checkPairs(
  field: string,
  pairs: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const entries = Object.entries(pairs);
  const length = entries.reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  if (entries.length > PAIRS_MAX || length > PAIRS_LENGTH_MAX) {
    const expected = `at most ${PAIRS_MAX} with ${PAIRS_LENGTH_MAX} characters`;
    throw bad(field, `${entries.length} with ${length} characters`, expected);
  }
  for (const [key] of entries) {
    if (!/^[\x21-\x7e]{1,256}$/.test(key)) {
      throw bad(`${field} key`, key, "1 to 256 printable ASCII characters without spaces");
    }
  }
  return pairs;
}

/**
 * Limits as the lifecycle has them.
 *
 * @throws {SandboxError} `InvalidArgument`
 */
export function resourcesOf(resources: Resources | undefined): ResourceSpec {
  const { memoryBytes = 0n, cpuMillis = 0n, pids = 0n } = resources ?? {};
  if (memoryBytes !== 0n && (memoryBytes < MEMORY_BYTES_MIN || memoryBytes > 1n << 52n)) {
    throw bad("resources.memory_bytes", memoryBytes, "0 for no limit, or at least 1 MiB");
  }
  if (cpuMillis !== 0n && (cpuMillis < CPU_MILLIS_MIN || cpuMillis > CPU_MILLIS_MAX)) {
    const expected = `0 for no limit, or ${CPU_MILLIS_MIN} to ${CPU_MILLIS_MAX}`;
    throw bad("resources.cpu_millis", cpuMillis, expected);
  }
  if (pids > PIDS_MAX) throw bad("resources.pids", pids, `0 for no limit, or up to ${PIDS_MAX}`);
  return {
    ...(memoryBytes === 0n ? {} : { memoryBytes: Number(memoryBytes) }),
    ...(cpuMillis === 0n ? {} : {
      cpuQuotaUs: Number(cpuMillis) * CPU_PERIOD_US / 1000,
      cpuPeriodUs: CPU_PERIOD_US,
    }),
    ...(pids === 0n ? {} : { pids: Number(pids) }),
  };
}

/**
 * A process as the lifecycle has it.
 *
 * @param message What was asked for.
 * @param defaults Environment that it has unless it says otherwise, as `NAME=value`.
 * @throws {SandboxError} `InvalidArgument`
 */
export function processOf(
  message: ProcessMessage | undefined,
  defaults: readonly string[],
): ProcessSpec {
  const { args = [], env = [], cwd = "", uid = 0, gid = 0, additionalGids = [] } = message ?? {};
  const [command = ""] = checkWords("process.args", args);
  if (command === "") throw bad("process.args", command, "a command with its arguments");
  for (const entry of checkWords("process.env", env)) {
    if (!/^[^=]+=/s.test(entry)) throw bad("process.env", entry, "NAME=value");
  }
  for (const [field, id] of [["uid", uid], ["gid", gid]] as const) checkUserId(field, id);
  if (additionalGids.length > GROUPS_MAX) {
    throw bad("process.additional_gids", additionalGids.length, `at most ${GROUPS_MAX}`);
  }
  for (const id of additionalGids) checkUserId("additional_gids", id);
  return {
    args: [...args],
    env: mergeEnvironment(defaults, env),
    cwd: checkPath("process.cwd", cwd === "" ? "/" : cwd),
    user: { uid, gid, additionalGids: [...additionalGids] },
  };
}

function checkUserId(field: string, id: number): void {
  if (id > USER_ID_MAX) throw bad(`process.${field}`, id, `0 to ${USER_ID_MAX}`);
}

/** Entries of an environment; later ones count. */
export function mergeEnvironment(
  ...environments: readonly (readonly string[])[]
): readonly string[] {
  const entries = new Map<string, string>();
  for (const entry of environments.flat()) entries.set(entry.split("=", 1)[0] ?? "", entry);
  return [...entries.values()];
}

/**
 * The size of a terminal.
 *
 * @param field Its name, as in the protocol.
 * @returns Undefined where none is given.
 * @throws {SandboxError} `InvalidArgument`
 */
export function terminalSizeOf(
  field: string,
  size: TerminalSize | undefined,
): StdioSpec["terminalSize"] {
  if (size === undefined || (size.columns === 0 && size.rows === 0)) return undefined;
  const { columns, rows } = size;
  for (const [name, value] of [["columns", columns], ["rows", rows]] as const) {
    if (value < 1 || value > TERMINAL_MAX) {
      throw bad(`${field}.${name}`, value, `1 to ${TERMINAL_MAX}`);
    }
  }
  return { columns, rows };
}
