/**
 * Looks at what WebAssembly takes: the engine, and our helper and launcher.
 *
 * @module
 */

import { SandboxError } from "../../../sandboxers/lifecycle/errors.ts";
import { DEFAULT_LAUNCHER_PATH } from "../../../sandboxers/wasm/native/launcher_file.ts";
import { DEFAULT_LIBRARY_PATH } from "../../../sandboxers/wasm/native/library.ts";
import { type Finding, missing, ok } from "../finding.ts";
import type { DoctorHost } from "../host.ts";
import { building, installing } from "../mending.ts";

/** Looks. */
export async function wasmChecks(host: DoctorHost): Promise<Finding[]> {
  const files = [
    ["wasm-library", "guest library", DEFAULT_LIBRARY_PATH],
    ["wasm-launcher", "launcher of wasm", DEFAULT_LAUNCHER_PATH],
  ] as const;
  const findings = await Promise.all(
    files.map(async ([id, title, path]) =>
      await host.whatIsAt(path) === "file"
        ? ok("wasm", id, title, path)
        : missing("wasm", id, title, `not built: ${path}`, building(host, "wasm-helper"), ["wasm"])
    ),
  );
  // Without the library nothing can be said of the engine.
  if (findings[0]?.state !== "ok") return findings;
  return [...findings, await engine(host)];
}

async function engine(host: DoctorHost): Promise<Finding> {
  const [id, title] = ["wasmedge", "WebAssembly engine"];
  try {
    return ok("wasm", id, title, `WasmEdge ${await host.wasmEdge()}`);
  } catch (error) {
    const { message } = SandboxError.from(error);
    const mend = /built without WasmEdge/.test(message)
      ? building(host, "wasm-helper")
      : installing(host, "libwasmedge0");
    return missing("wasm", id, title, message, mend, ["wasm"]);
  }
}
