/**
 * Builds the host launcher with the system's C compiler. Run at set-up
 * (`deno run -A sandboxers/host/native/build.ts`); nothing here runs inside a sandboxer.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { SandboxError } from "../../lifecycle/errors.ts";
import { HOST_LAUNCHER_FILE, PAUSE_FILE } from "../launcher_file.ts";

/** Warnings are errors, and the usual hardening is on. */
const FLAGS = [
  "-std=c11",
  "-Wall",
  "-Wextra",
  "-Wconversion",
  "-Wshadow",
  "-Wstrict-prototypes",
  "-Werror",
  "-g",
  "-O2",
  "-D_FORTIFY_SOURCE=2",
  "-fstack-protector-strong",
  // A program without libraries starts in half the time.
  "-static-pie",
  "-fPIE",
  "-Wl,-z,relro,-z,now,-z,noexecstack",
];

/** Where the C sources are. */
const SOURCE_DIR = fileURLToPath(new URL(".", import.meta.url));

const SOURCES = [
  "answers.c",
  "bounded.c",
  "cgroups.c",
  "facts.c",
  "fifos.c",
  "launcher.c",
  "mounts.c",
  "netns.c",
  "netns_mask.c",
  "no_rights.c",
  "processes.c",
  "programs.c",
  "relay.c",
  "relay_verb.c",
  "sentry_exec.c",
  "stand_in.c",
  "stand_in_verb.c",
  "stdio.c",
  "taps.c",
  "terminal.c",
  "tsc.c",
  "unpack.c",
  "vmm.c",
];

/** Without a library: what a sandbox of gVisor runs in its root container. */
const PAUSE_FLAGS = [
  ...FLAGS.slice(0, FLAGS.indexOf("-g")),
  "-O2",
  "-static",
  "-nostdlib",
  "-ffreestanding",
  "-fno-stack-protector",
  "-fno-asynchronous-unwind-tables",
  "-Wl,--build-id=none,-z,noexecstack",
];

/**
 * Builds the host launcher, and beside it the root file system of gVisor's root containers.
 *
 * @param options `outDir`: an absolute or relative directory, made where it is missing.
 * @returns The launcher's path.
 * @throws {SandboxError} `FailedPrecondition` without a C compiler; `Internal` when the compiler
 *   refuses the code.
 */
export async function buildHostLauncher(options: { readonly outDir: string }): Promise<string> {
  const program = `${options.outDir}/${HOST_LAUNCHER_FILE}`;
  await compile(program, FLAGS, SOURCES);
  await compile(`${options.outDir}/${PAUSE_FILE}`, PAUSE_FLAGS, ["pause.c"]);
  return program;
}

async function compile(
  program: string,
  flags: readonly string[],
  sources: readonly string[],
): Promise<void> {
  await Deno.mkdir(program.slice(0, program.lastIndexOf("/")), { recursive: true });
  // A temporary name first: a program that runs cannot be written to.
  const temporary = `${program}.${Deno.pid}.new`;
  const args = [...flags, "-o", temporary, ...sources.map((file) => `${SOURCE_DIR}${file}`)];
  const result = await new Deno.Command("cc", { args }).output().catch((cause: unknown) => {
    throw new SandboxError(
      "FailedPrecondition",
      "cannot build the host launcher: no C compiler: install the Debian package gcc",
      { cause },
    );
  });
  if (!result.success) {
    const text = new TextDecoder().decode(result.stderr).trim();
    throw new SandboxError("Internal", `cannot build the host launcher: ${text}`);
  }
  await Deno.rename(temporary, program);
}

if (import.meta.main) await buildHostLauncher({ outDir: `${SOURCE_DIR}build` });
