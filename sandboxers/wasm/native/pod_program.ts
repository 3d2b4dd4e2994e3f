/**
 * The program that the launcher turns into the process of a pod, as it is built into the launcher:
 * nobody who starts the launcher can name another one. Used when building only.
 *
 * @module
 */

import { fileURLToPath } from "node:url";

/** A program and what it is made of. */
export interface PodProgram {
  /** The executable's absolute path, and its arguments. */
  readonly command: readonly string[];
  /** Its whole environment, as `NAME=value`. */
  readonly environment: readonly string[];
  /** Files and directories that it reads: all that it sees of the host beside system libraries. */
  readonly files: readonly string[];
}

/** A program for Deno. */
export interface DenoProgram {
  /** The main module, an absolute path. */
  readonly main: string;
  /** The configuration with the permission set `wasm-pod`, an absolute path. */
  readonly config: string;
  /** Directories with the modules, absolute paths. */
  readonly modules: readonly string[];
  /** Deno's cache, an absolute path; the program only reads it. */
  readonly cache: string;
  /** The deno that runs it, an absolute path; the one that runs this, where it is missing. */
  readonly deno?: string;
  /**
   * The directory that holds all of this, and the launcher in a directory of its own: it may be moved
   * as a whole. What is named above stays where it is, where this is missing.
   */
  readonly home?: string;
}

/** Where the sources of this project are. */
const ROOT = fileURLToPath(new URL("../../..", import.meta.url)).replace(/\/$/, "");

/** The main module of a pod's process, in the sources. */
const MAIN = `${ROOT}/sandboxers/wasm/pod_process/main.ts`;

/**
 * A small process, without a compiler for the little JavaScript that runs in it: so nothing in it ever
 * has to be writable and executable. Guests run in WasmEdge, not in V8.
 */
const V8_FLAGS = "--lite-mode,--single-threaded,--max-semi-space-size=1";

/**
 * The program as the sources have it.
 *
 * @param outDir Where the launcher is built; the cache lies beside it.
 */
export function sourceProgram(outDir: string): DenoProgram {
  return {
    main: MAIN,
    config: `${ROOT}/deno.json`,
    modules: [`${ROOT}/sandboxers`],
    cache: `${outDir}/deno-dir`,
  };
}

/**
 * A program as this very Deno runs it, with the rights of the set `wasm-pod` and no others.
 *
 * @param program What it is made of.
 */
export async function denoCommand(program: DenoProgram): Promise<PodProgram> {
  const { main, config, modules, cache } = program;
  const deno = program.deno ?? await Deno.realPath(Deno.execPath());
  return {
    command: [
      ...[deno, "run", "--quiet", "--no-prompt", "--no-remote", "--no-npm", "--no-lock"],
      // Its directories cannot be written to: code is not cached, and not looked for.
      ...["--no-code-cache", `--v8-flags=${V8_FLAGS}`, `--config=${config}`, "-P=wasm-pod", main],
    ],
    environment: [`DENO_DIR=${cache}`, "DENO_NO_UPDATE_CHECK=1", "NO_COLOR=1"],
    files: [deno, config, ...modules, cache],
  };
}

/**
 * Fills Deno's cache: the program starts three times as fast where the sources need not be
 * translated.
 *
 * @param program What it is made of.
 * @throws {Error} When a module cannot be found.
 */
export async function fillCache({ main, config, cache }: DenoProgram): Promise<void> {
  await Deno.mkdir(cache, { recursive: true });
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["cache", "--no-lock", "--no-remote", "--no-npm", `--config=${config}`, main],
    env: { DENO_DIR: cache, NO_COLOR: "1" },
  }).output();
  if (!success) throw new Error(`cannot cache ${main}: ${new TextDecoder().decode(stderr)}`);
}

/** What the launcher replaces by the directory above its own: see launcher_pod.c. */
const HERE = "@HERE@";

/**
 * Flags for the C compiler that name a program to launcher_pod.c.
 *
 * @param program Absolute paths, and arguments without control characters.
 * @param home See {@link DenoProgram.home}.
 */
export function compilerFlags(
  { command, environment, files }: PodProgram,
  home?: string,
): string[] {
  const movable = (text: string) =>
    home === undefined ? text : text.replaceAll(`${home}/`, `${HERE}/`);
  const list = (texts: readonly string[]) =>
    texts.map((text) => JSON.stringify(movable(text))).join(",");
  return [
    `-DQUASAUR_POD_COMMAND=${list(command)}`,
    `-DQUASAUR_POD_ENVIRONMENT=${list(environment)}`,
    `-DQUASAUR_POD_FILES=${list(files)}`,
  ];
}
