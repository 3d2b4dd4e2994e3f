/**
 * Builds the guest agent: esbuild makes one module of its sources, QuickJS's compiler turns that
 * into bytecode, and the C compiler links it with QuickJS and our native module into one static
 * program. The same sources and tools give the same bytes.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/** The program's file name. */
export const AGENT_FILE = "quasaur-agent";

/** What is built, and where. */
export interface AgentBuild {
  /** The directory of the program; made where it is missing. */
  readonly outDir: string;
  /** The agent's main module; that of the sources unless given. For tests. */
  readonly main?: string;
}

const SOURCE_DIR = fileURLToPath(new URL(".", import.meta.url));

const NATIVE_SOURCES = [
  "main.c",
  "module.c",
  "program.c",
  "loop.c",
  "files.c",
  "text.c",
  "mounts.c",
  "descriptors.c",
  "processes.c",
  "enter.c",
  "create.c",
  "machine.c",
  "sockets.c",
];

const COMPILER_FLAGS = [
  "-std=gnu17",
  "-Wall",
  "-Wextra",
  "-Werror",
  "-Os",
  "-ffunction-sections",
  "-fdata-sections",
  "-fno-asynchronous-unwind-tables",
  "-D_FORTIFY_SOURCE=2",
  "-fstack-protector-strong",
];

const LINKER_FLAGS = [
  "-static",
  "-s",
  "-Wl,--gc-sections",
  "-Wl,--build-id=none",
  "-Wl,-z,noexecstack",
  "-Wl,-z,relro",
];

/** The language that QuickJS 2025-04-26 understands, without `using`. */
const TARGET = "es2022";

/**
 * Builds the agent.
 *
 * @param options See {@link AgentBuild}.
 * @returns The program's path.
 * @throws {SandboxError} `FailedPrecondition` where a tool or a library is missing, naming the Debian
 *   package; `Internal` where a tool refuses the sources.
 */
export async function buildAgent(options: AgentBuild): Promise<string> {
  const library = await findQuickJs();
  await Deno.mkdir(options.outDir, { recursive: true });
  const program = `${options.outDir}/${AGENT_FILE}`;
  const scratch = await Deno.makeTempDir({ prefix: "quasaur-agent-" });
  try {
    await bundle(options.main ?? `${SOURCE_DIR}main.ts`, `${scratch}/agent.js`);
    await compileBundle(scratch);
    await link(scratch, library);
    // A rename: a program that is being executed cannot be written to.
    await Deno.copyFile(`${scratch}/agent`, `${program}.new`);
    await Deno.rename(`${program}.new`, program);
  } finally {
    await Deno.remove(scratch, { recursive: true });
  }
  return program;
}

/** Makes one module of all sources. Names stay, so that traces of errors can be read. */
async function bundle(main: string, output: string): Promise<void> {
  try {
    await esbuild.build({
      entryPoints: [main],
      outfile: output,
      bundle: true,
      format: "esm",
      platform: "neutral",
      target: TARGET,
      minifySyntax: true,
      legalComments: "none",
      charset: "utf8",
      logLevel: "silent",
      plugins: [{
        name: "native module",
        setup: (build) => {
          build.onResolve({ filter: /\/sys\.js$/ }, () => ({ path: "sys", external: true }));
        },
      }],
    });
  } catch (cause) {
    throw new SandboxError("Internal", `cannot bundle the agent: ${messageOf(cause)}`, { cause });
  } finally {
    await esbuild.stop();
  }
}

/** Turns `agent.js` into bytecode, as a C source. Traces keep names; lines would cost 150 KiB. */
async function compileBundle(scratch: string): Promise<void> {
  await runTool(
    [
      "qjsc",
      "-c",
      "-m",
      "-s",
      "-M",
      "sys,sys",
      "-N",
      "agent_bytecode",
      "-o",
      "agent.c",
      "agent.js",
    ],
    scratch,
    "quickjs",
  );
}

/** Compiles and links all of it to `agent`. */
async function link(scratch: string, library: string): Promise<void> {
  const sources = NATIVE_SOURCES.map((name) => `${SOURCE_DIR}native/${name}`);
  const inputs = [...sources, "agent.c", library, "-lm", "-o", "agent"];
  await runTool(["gcc", ...COMPILER_FLAGS, ...LINKER_FLAGS, ...inputs], scratch, "gcc");
}

/** The path of QuickJS's static library, by the C compiler's name of this machine. */
async function findQuickJs(): Promise<string> {
  const machine = (await runTool(["gcc", "-print-multiarch"], "/", "gcc")).trim();
  const library = `/usr/lib/${machine}/quickjs/libquickjs.a`;
  try {
    await Deno.stat(library);
  } catch (cause) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot build the agent: "${library}" not found: install the Debian package libquickjs`,
      { cause },
    );
  }
  return library;
}

/** Runs a tool to its end; answers what it wrote. */
async function runTool(
  [program, ...args]: readonly [string, ...string[]],
  cwd: string,
  debianPackage: string,
): Promise<string> {
  let output: Deno.CommandOutput;
  try {
    output = await new Deno.Command(program, { args, cwd, env: { LC_ALL: "C" }, stdin: "null" })
      .output();
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw SandboxError.from(cause);
    throw new SandboxError(
      "FailedPrecondition",
      `cannot build the agent: ${program} not found: install the Debian package ${debianPackage}`,
      { cause },
    );
  }
  const decoder = new TextDecoder();
  if (output.success) return decoder.decode(output.stdout);
  const words = decoder.decode(output.stderr).trim().slice(0, 4000);
  throw new SandboxError(
    "Internal",
    `cannot build the agent: ${program} ended with status ${output.code}: ${words}`,
  );
}

function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

if (import.meta.main) {
  const [outDir = `${SOURCE_DIR}build`] = Deno.args;
  const program = await buildAgent({ outDir });
  const { size } = await Deno.stat(program);
  await Deno.stdout.write(new TextEncoder().encode(`${program} ${size}\n`));
}
