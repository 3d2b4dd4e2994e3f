/**
 * Which runsc is installed, and whether it is one that is known to crash.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";

/** How long runsc may take to say its version, in milliseconds. */
const VERSION_MS = 10_000;

/** How a Go program's build information begins (package debug/buildinfo). */
const BUILD_INFO = "\u00ff Go buildinf:";

/** How much of it is looked at from its beginning, in bytes. */
const INFO_BYTES_MAX = 96;

/** Most bytes of the program that are searched for it. */
const PROGRAM_BYTES_MAX = 256 * 1024 * 1024;

/** Bytes that are read at a time. */
const CHUNK_BYTES = 1024 * 1024;

/** A version of runsc. */
export interface RunscVersion {
  /** Such as `0.0~20240729.0` or `release-20240729.0`. */
  readonly version: string;
  /** The version of the OCI runtime specification that it implements; empty where it does not say. */
  readonly spec: string;
}

/** What {@link checkRunsc} found. */
export interface RunscCheck extends RunscVersion {
  /** The Go that built it, such as `1.24.4`; undefined where the program does not tell. */
  readonly go: string | undefined;
  /** What is wrong with this build and what to do; undefined where nothing is known. */
  readonly problem: string | undefined;
}

/** A build that crashes. */
interface BadBuild {
  /** Its version. */
  readonly version: RegExp;
  /** The first minor version of Go 1 with which it does. */
  readonly goMinor: number;
  /** What happens. */
  readonly problem: string;
}

/** Builds that are known to crash. */
const BAD_BUILDS: readonly BadBuild[] = [{
  version: /20240729\.0$/,
  // It finds the number of a goroutine at an offset that a newer Go has changed.
  goMinor: 26,
  problem: "about one run in ten of this build ends with a panic of its kernel: install Debian " +
    "trixie's package runsc, or gVisor's own release",
}];

/**
 * Asks a runsc for its version.
 *
 * @param program An absolute path.
 * @throws {SandboxError} `FailedPrecondition` where it is missing or is no runsc.
 */
export async function runscVersion(program: string): Promise<RunscVersion> {
  const action = `cannot ask "${program}" for its version`;
  const output = await runProgram(program, ["--version"]).catch((thrown: unknown) => {
    throw missingRunsc(action, program, thrown);
  });
  const text = new TextDecoder().decode(output.stdout);
  const version = parseRunscVersion(text);
  if (output.success && version !== undefined) return version;
  const said = text.trim().slice(0, 200);
  throw new SandboxError(
    "FailedPrecondition",
    `${action}: it is no runsc: ${said === "" ? "it says nothing" : `it says "${said}"`}`,
  );
}

/** Asynchronous also where the program is missing, which Deno tells at once. */
async function runProgram(program: string, args: string[]): Promise<Deno.CommandOutput> {
  const signal = AbortSignal.timeout(VERSION_MS);
  return await new Deno.Command(program, { args, stdin: "null", clearEnv: true, signal }).output();
}

/**
 * Reads what `runsc --version` says.
 *
 * @returns Undefined where a runsc would not say that.
 */
export function parseRunscVersion(text: string): RunscVersion | undefined {
  const version = /^runsc version (\S+)$/m.exec(text)?.[1];
  if (version === undefined) return undefined;
  return { version, spec: /^spec: (\S+)$/m.exec(text)?.[1] ?? "" };
}

/**
 * The error of a runsc that could not be started.
 *
 * @param action What was being done.
 * @param program The program.
 * @param thrown What was caught.
 */
export function missingRunsc(action: string, program: string, thrown: unknown): SandboxError {
  if (!(thrown instanceof Deno.errors.NotFound)) return SandboxError.from(thrown, action);
  return new SandboxError(
    "FailedPrecondition",
    `${action}: "${program}" is missing: run "deno task setup", install Debian trixie's package ` +
      "runsc, or set gvisor.path",
    { cause: thrown },
  );
}

/**
 * Looks at the installed runsc: its version, the Go that built it, and whether that is a build that
 * is known to crash. Reads the program's file.
 *
 * @param program An absolute path.
 * @throws {SandboxError} As {@link runscVersion}.
 */
export async function checkRunsc(program: string): Promise<RunscCheck> {
  const version = await runscVersion(program);
  const go = await goVersion(program).catch(() => undefined);
  return { ...version, go, problem: knownProblem(version.version, go) };
}

/**
 * What is known to be wrong with a build.
 *
 * @param version As runsc says it.
 * @param go The Go that built it; undefined where that is not known.
 * @returns Undefined where nothing is known.
 */
export function knownProblem(version: string, go: string | undefined): string | undefined {
  const minor = Number(/^1\.(\d+)/.exec(go ?? "")?.[1] ?? "0");
  return BAD_BUILDS.find((bad) => bad.version.test(version) && minor >= bad.goMinor)?.problem;
}

/**
 * The version of Go that built a program, from the build information in its file.
 *
 * @param program An absolute path.
 * @returns Such as `1.24.4`; undefined where the file has none.
 */
export async function goVersion(program: string): Promise<string | undefined> {
  using file = await Deno.open(program);
  const chunk = new Uint8Array(CHUNK_BYTES);
  // A character for each byte: then the engine's own search does it.
  const decoder = new TextDecoder("latin1");
  let kept = 0;
  for (let total = 0; total < PROGRAM_BYTES_MAX;) {
    const got = await file.read(chunk.subarray(kept));
    if (got === null) return undefined;
    total += got;
    const filled = chunk.subarray(0, kept + got);
    const text = decoder.decode(filled);
    const at = text.indexOf(BUILD_INFO);
    // The version comes soon after; one that is cut off is found whole with the next chunk.
    const info = at < 0 ? "" : text.slice(at + BUILD_INFO.length, at + INFO_BYTES_MAX);
    const version = /go(\d+\.\d+(?:\.\d+)?)/.exec(info)?.[1];
    if (version !== undefined && at + INFO_BYTES_MAX <= filled.length) return version;
    const rest = filled.slice(-INFO_BYTES_MAX);
    chunk.set(rest);
    kept = rest.length;
  }
  return undefined;
}
