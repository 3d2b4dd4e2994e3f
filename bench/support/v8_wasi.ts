/**
 * Runs a WASI module on V8 in this process: a peer of the computing benchmark.
 *
 * Arguments: the module's path, then the guest's arguments.
 *
 * @module
 */

import process from "node:process";
import { WASI } from "node:wasi";

if (import.meta.main) {
  const [path = "", ...args] = Deno.args;
  const wasi = new WASI({ version: "preview1", args: [path, ...args], returnOnExit: true });
  const module = await WebAssembly.compile(await Deno.readFile(path));
  const imports = wasi.getImportObject();
  if (!isImports(imports)) throw new TypeError("node:wasi gives no imports");
  process.exitCode = wasi.start(await WebAssembly.instantiate(module, imports));
}

function isImports(value: unknown): value is WebAssembly.Imports {
  return typeof value === "object" && value !== null;
}
