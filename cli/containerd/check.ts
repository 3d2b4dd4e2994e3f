/**
 * Has the real containerd read a configuration, so that a file that it would not start with is
 * never put in place.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { compare } from "./merge.ts";
import { type Section, sectionsFor, type Wanted } from "./sections.ts";

/** The oldest containerd with the Sandbox API that sandboxers speak, as major and minor version. */
const MINIMUM = [2, 1] as const;

/** How long containerd may take, in milliseconds. */
const TIMEOUT_MS = 30_000;

/** Most of its messages that are shown, in characters. */
const MESSAGE_MAX = 600;

/**
 * Has containerd read a configuration and looks whether the sections are in what it understood.
 *
 * @param containerd The program: a path, or a name that is looked up in PATH.
 * @param file The configuration.
 * @param wanted What has to be in it.
 * @throws {SandboxError} `FailedPrecondition` where containerd is missing, too old, does not take
 *   the file, or understands something else.
 */
export async function checkWithContainerd(
  containerd: string,
  file: string,
  wanted: Wanted,
): Promise<void> {
  checkVersion(await run(containerd, ["--version"]));
  const dump = await run(containerd, ["--config", file, "config", "dump"]);
  const wrong = sectionsFor(3, wanted).flatMap((section) => wrongInDump(dump, section));
  if (wrong.length === 0) return;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot use the configuration: containerd reads it and finds something else in it: ${
      wrong.join("; ")
    }: look for files that it imports`,
  );
}

function wrongInDump(dump: string, section: Section): string[] {
  const differences = compare(dump, section, "containerd config dump");
  if (differences === undefined) return [`${section.path.join(".")} is missing`];
  return differences.map(({ text }) => text);
}

/** What `containerd --version` says: name, package, version, revision. */
function checkVersion(text: string): void {
  const [found, major, minor] = /\bv?(\d+)\.(\d+)[^\s]*/.exec(text) ?? [];
  const isOld = Number(major) < MINIMUM[0] ||
    Number(major) === MINIMUM[0] && Number(minor) < MINIMUM[1];
  if (found !== undefined && !isOld) return;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot use this containerd: ${
      found === undefined
        ? `it does not tell its version: ${JSON.stringify(text)}`
        : `version ${found}`
    }: expected ${MINIMUM.join(".")} or newer`,
  );
}

/** What it prints; stands for its standard output. */
async function run(program: string, args: readonly string[]): Promise<string> {
  const command = new Deno.Command(program, {
    args: [...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const { success, stdout, stderr } = await command.output().catch((cause: unknown) => {
    throw notStarted(program, cause);
  });
  if (success) return new TextDecoder().decode(stdout);
  const said = new TextDecoder().decode(stderr).trim().slice(0, MESSAGE_MAX);
  throw new SandboxError(
    "FailedPrecondition",
    `cannot use the configuration: ${program} ${args.join(" ")} failed: ${said}`,
  );
}

function notStarted(program: string, cause: unknown): SandboxError {
  const advice = "install the Debian package containerd, name the program with --containerd, or " +
    "leave this check out with --no-check";
  if (cause instanceof Deno.errors.NotFound) {
    return new SandboxError(
      "FailedPrecondition",
      `cannot check the configuration: no program ${JSON.stringify(program)}: ${advice}`,
      { cause },
    );
  }
  return SandboxError.from(cause, `cannot check the configuration with ${program}`);
}
