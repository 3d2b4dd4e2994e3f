/**
 * Builds the native part of the wasm sandboxer with the system's C compiler: the one library that
 * the sandboxer opens by FFI, and the test program of its C code. Run at set-up
 * (`deno run -A sandboxers/wasm/native/build.ts`); nothing here runs inside the sandboxer.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { SandboxError } from "../../lifecycle/errors.ts";
import { LAUNCHER_FILE } from "./launcher_file.ts";
import { LIBRARY_FILE } from "./library_file.ts";
import {
  compilerFlags,
  denoCommand,
  type DenoProgram,
  fillCache,
  sourceProgram,
} from "./pod_program.ts";

/** Flags that every build uses: warnings are errors, and the usual hardening is on. */
const COMMON_FLAGS = [
  "-std=c11",
  "-Wall",
  "-Wextra",
  "-Wconversion",
  "-Wshadow",
  "-Wstrict-prototypes",
  "-Werror",
  "-g",
  "-fPIC",
  "-fvisibility=hidden",
  "-fstack-protector-strong",
  "-pthread",
];

/** The engine's library. */
const ENGINE_LIBRARY = "libwasmedge.so.0";

/** Where the C sources are. */
const SOURCE_DIR = fileURLToPath(new URL(".", import.meta.url));

/** The C sources of the guest library. */
const SOURCES = [
  "calls.c",
  "faults.c",
  "filter.c",
  "guest.c",
  "memory.c",
  "stacks.c",
  "starters.c",
  "supervisor.c",
].map((name) => `${SOURCE_DIR}${name}`);

/** The sources of its test program, and of what it loads: see the files. */
const TEST_SOURCES = [
  "guest_test.c",
  "filter_test.c",
  "supervisor_test.c",
  "faults_test.c",
  "names_test.c",
].map((name) => `${SOURCE_DIR}${name}`);
const TEST_CODE = "guest_test_code";
const TEST_MODULE = "guest_test_nss";

/** The launcher's sources. */
const LAUNCHER_SOURCES = [
  "launcher.c",
  "launcher_compile.c",
  "launcher_confine.c",
  "launcher_pod.c",
  "../../host/native/no_rights.c",
  "../../host/native/relay.c",
  "../../host/native/stand_in.c",
];

/** What is built, and where. */
export interface NativeBuild {
  /** An absolute or relative directory; made where it is missing. */
  readonly outDir: string;
  /** What runs in the process of a pod; that of the sources unless given. */
  readonly pod?: DenoProgram;
  /** Whether the library is linked with libwasmedge: where it is found (the default), or never. */
  readonly engine?: "if-found" | "without";
}

/**
 * Builds `libquasaur-guest.so`. It is linked with libwasmedge, so that a program that opens it
 * finds the engine's and the C library's functions through it too and needs no other library.
 * Where libwasmedge is not installed it is built without: guests can be run by V8 then.
 *
 * @param options See {@link NativeBuild}.
 * @returns The library's path.
 * @throws {SandboxError} `FailedPrecondition` without a C compiler; `Internal` when the compiler
 *   refuses the code.
 */
export async function buildNative(options: NativeBuild): Promise<string> {
  const library = `${options.outDir}/${LIBRARY_FILE}`;
  const linked = options.engine !== "without" && await findsLibrary(ENGINE_LIBRARY);
  await compile(options.outDir, library, [
    "-O2",
    "-D_FORTIFY_SOURCE=2",
    "-shared",
    `-Wl,-soname,${LIBRARY_FILE},-z,relro,-z,now,-z,noexecstack,--no-as-needed`,
    ...SOURCES,
    ...(linked ? [`-l:${ENGINE_LIBRARY}`] : []),
    "-l:libseccomp.so.2",
  ]);
  await buildLauncher(options);
  return library;
}

/**
 * Builds the launcher, the one program that the sandboxer may start. It opens the engine only where
 * it needs it, and is not linked with it.
 *
 * @param options See {@link NativeBuild}.
 * @returns The program's path.
 * @throws {SandboxError} As {@link buildNative}.
 */
export async function buildLauncher(options: NativeBuild): Promise<string> {
  const program = `${options.outDir}/${LAUNCHER_FILE}`;
  await Deno.mkdir(options.outDir, { recursive: true });
  const pod = options.pod ?? sourceProgram(await Deno.realPath(options.outDir));
  await fillCache(pod);
  await compile(options.outDir, program, [
    "-O2",
    "-D_FORTIFY_SOURCE=2",
    "-fPIE",
    "-pie",
    "-Wl,-z,relro,-z,now,-z,noexecstack",
    ...LAUNCHER_SOURCES.map((file) => `${SOURCE_DIR}${file}`),
    ...compilerFlags(await denoCommand(pod), pod.home),
  ]);
  return program;
}

/**
 * Builds the test program of the C code. It needs no engine.
 *
 * @param options `outDir`: see {@link buildNative}; `sanitize`: with AddressSanitizer and
 *   UndefinedBehaviorSanitizer.
 * @returns The program's path.
 * @throws {SandboxError} As {@link buildNative}.
 */
export async function buildNativeTest(
  options: { readonly outDir: string; readonly sanitize: boolean },
): Promise<string> {
  const program = `${options.outDir}/guest_test${options.sanitize ? "_sanitized" : ""}`;
  const flags = options.sanitize
    ? ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    : ["-O2", "-D_FORTIFY_SOURCE=2"];
  await buildTestObject(options.outDir, TEST_MODULE);
  await buildTestCode(options);
  await compile(options.outDir, program, [...flags, ...SOURCES, ...TEST_SOURCES]);
  return program;
}

/**
 * Builds a shared object that stands for compiled code of a guest in tests.
 *
 * @param options `outDir`: see {@link buildNative}.
 * @returns The object's path.
 * @throws {SandboxError} As {@link buildNative}.
 */
export async function buildTestCode(options: { readonly outDir: string }): Promise<string> {
  return await buildTestObject(options.outDir, TEST_CODE);
}

async function buildTestObject(outDir: string, name: string): Promise<string> {
  const object = `${outDir}/${name}.so`;
  await compile(outDir, object, ["-O2", "-shared", `${SOURCE_DIR}${name}.c`]);
  return object;
}

/** Compiles to a temporary name and renames, so that a library in use is never written to. */
async function compile(outDir: string, output: string, flags: readonly string[]): Promise<void> {
  await Deno.mkdir(outDir, { recursive: true });
  const temporary = `${output}.${Deno.pid}.new`;
  const command = new Deno.Command("cc", { args: [...COMMON_FLAGS, "-o", temporary, ...flags] });
  const result = await command.output().catch((cause: unknown) => {
    throw new SandboxError(
      "FailedPrecondition",
      "cannot build the guest library: no C compiler: install the Debian package gcc",
      { cause },
    );
  });
  const text = new TextDecoder().decode(result.stderr).trim();
  if (!result.success) throw compilerError(text);
  await Deno.rename(temporary, output);
}

/**
 * Whether a library was built without WasmEdge and could now be built with it.
 *
 * @param outDir Where it was built.
 */
export async function lacksEngine(outDir: string): Promise<boolean> {
  const library = await Deno.readFile(`${outDir}/${LIBRARY_FILE}`).catch(() => undefined);
  if (library === undefined) return false;
  // The names of the libraries that one is linked with are in it as they are.
  const linked = new TextDecoder("latin1").decode(library).includes(ENGINE_LIBRARY);
  return !linked && await findsLibrary(ENGINE_LIBRARY);
}

/** Whether the linker finds a library; without a compiler too, which is told later. */
async function findsLibrary(file: string): Promise<boolean> {
  const args = ["-shared", "-o", "/dev/null", "-x", "c", "/dev/null", `-l:${file}`];
  const command = new Deno.Command("cc", { args, stdout: "null", stderr: "null" });
  return await command.output().then(({ success }) => success, () => false);
}

/** Names the missing package where the compiler's text tells which. */
function compilerError(text: string): SandboxError {
  if (text.includes("libseccomp.so.2")) {
    return new SandboxError(
      "FailedPrecondition",
      "cannot build the guest library: libseccomp.so.2 not found: " +
        "install the Debian package libseccomp2",
    );
  }
  return new SandboxError("Internal", `cannot build the guest library: ${text}`);
}

if (import.meta.main) {
  await buildNative({ outDir: `${SOURCE_DIR}build` });
}
