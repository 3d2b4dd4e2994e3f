/**
 * Builds the native part of the wasm sandboxer with the system's C compiler: the one library that
 * the sandboxer opens by FFI, and the test program of its C code. Run at set-up
 * (`deno run -A sandboxers/wasm/native/build.ts`); nothing here runs inside the sandboxer.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { SandboxError } from "../../lifecycle/errors.ts";
import { LIBRARY_FILE } from "./library_file.ts";

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

/** Where the C sources are. */
const SOURCE_DIR = fileURLToPath(new URL(".", import.meta.url));

/**
 * Builds `libquasaur-guest.so`. It is linked with libwasmedge, so that a program that opens it
 * finds the engine's and the C library's functions through it too and needs no other library.
 *
 * @param options `outDir`: an absolute or relative directory; made where it is missing.
 * @returns The library's path.
 * @throws {SandboxError} `FailedPrecondition` without a C compiler or libwasmedge; `Internal` when
 *   the compiler refuses the code.
 */
export async function buildNative(options: { readonly outDir: string }): Promise<string> {
  const library = `${options.outDir}/${LIBRARY_FILE}`;
  await compile(options.outDir, library, [
    "-O2",
    "-D_FORTIFY_SOURCE=2",
    "-shared",
    `-Wl,-soname,${LIBRARY_FILE},-z,relro,-z,now,-z,noexecstack,--no-as-needed`,
    `${SOURCE_DIR}guest.c`,
    "-l:libwasmedge.so.0",
  ]);
  return library;
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
  await compile(options.outDir, program, [
    ...flags,
    `${SOURCE_DIR}guest.c`,
    `${SOURCE_DIR}guest_test.c`,
  ]);
  return program;
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

/** Names the missing package where the compiler's text tells which. */
function compilerError(text: string): SandboxError {
  if (text.includes("libwasmedge.so.0")) {
    return new SandboxError(
      "FailedPrecondition",
      "cannot build the guest library: libwasmedge.so.0 not found: " +
        "install the Debian package libwasmedge0",
    );
  }
  return new SandboxError("Internal", `cannot build the guest library: ${text}`);
}

if (import.meta.main) {
  await buildNative({ outDir: `${SOURCE_DIR}build` });
}
