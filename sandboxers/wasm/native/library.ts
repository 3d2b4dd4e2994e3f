/**
 * Opens the one library of the wasm sandboxer by FFI. Through it the engine's, the C library's and
 * our own functions are found, so a process needs `--allow-ffi` for this one path and nothing else.
 *
 * With FFI limited to a path, Deno denies everything on `Deno.UnsafePointer` and
 * `Deno.UnsafePointerView`. So an address is a plain `u64` here ({@link Address}), and memory
 * behind one is read and written by memcpy(3): see memory.ts.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { SandboxError } from "../../lifecycle/errors.ts";
import { LIBRARY_FILE } from "./library_file.ts";

/** An address in this process. `0n` is NULL. */
export type Address = bigint;

/** Where the library is: beside the source or the bundle, or installed for a compiled program. */
export const DEFAULT_LIBRARY_PATH: string = Deno.build.standalone
  ? `/usr/lib/quasaur/${LIBRARY_FILE}`
  : fileURLToPath(new URL(`./build/${LIBRARY_FILE}`, import.meta.url));

/**
 * Opens the library with a set of functions.
 *
 * @param path The library's absolute path, as it is named in `--allow-ffi`.
 * @param symbols The functions that the caller wants.
 * @returns The functions. They stay valid until the process ends: the library is never closed,
 *   because threads may still be running in it.
 * @throws {SandboxError} `FailedPrecondition` when the library or the engine is not installed.
 */
export function openLibrary<const S extends Deno.ForeignLibraryInterface>(
  path: string,
  symbols: S,
): Deno.DynamicLibrary<S>["symbols"] {
  try {
    return Deno.dlopen(path, symbols).symbols;
  } catch (cause) {
    throw openError(path, cause);
  }
}

/** Says what to do about a library that does not open. */
function openError(path: string, cause: unknown): SandboxError {
  const text = cause instanceof Error ? cause.message : String(cause);
  if (text.includes("libwasmedge")) {
    return new SandboxError(
      "FailedPrecondition",
      "cannot open the WebAssembly engine: libwasmedge.so.0 not found: " +
        "install the Debian package libwasmedge0",
      { cause },
    );
  }
  if (/undefined symbol: WasmEdge_/.test(text)) {
    return new SandboxError(
      "FailedPrecondition",
      "cannot open the WebAssembly engine: the guest library was built without WasmEdge: " +
        "install the Debian package libwasmedge0 and " +
        "run `deno run -A sandboxers/wasm/native/build.ts`",
      { cause },
    );
  }
  if (text.includes("libseccomp")) {
    return new SandboxError(
      "FailedPrecondition",
      "cannot open the guest library: libseccomp.so.2 not found: " +
        "install the Debian package libseccomp2",
      { cause },
    );
  }
  if (text.includes("No such file")) {
    return new SandboxError(
      "FailedPrecondition",
      `cannot open the guest library "${path}": not built: ` +
        "run `deno run -A sandboxers/wasm/native/build.ts`",
      { cause },
    );
  }
  return SandboxError.from(cause, `cannot open the guest library "${path}"`, "FailedPrecondition");
}
