/**
 * Modules: compiled by V8 once for each content, and once more for each memory limit that is in
 * use; checked for what a guest needs, so that what cannot run is refused by name.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { assertModuleHeader, refusal } from "../module_bytes.ts";
import { rewriteModule } from "./rewrite.ts";
import { WASI_MODULE } from "./wasi/abi.ts";
import { WASI_FUNCTIONS } from "./wasi/imports.ts";

/** The function that a WASI command exports and a host calls. */
const START_FUNCTION = "_start";
/** Unknown imports that a refusal names. */
const NAMED_MAX = 8;
/** Memory limits of one module that are kept compiled. */
const LIMITS_MAX = 4;

/** A compiled module. Any number of guests use it at the same time. */
export class V8Module implements Disposable {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #free: WebAssembly.Module;
  /** By limit in bytes, the one used longest ago first. */
  readonly #limited = new Map<number, WebAssembly.Module>();

  private constructor(bytes: Uint8Array<ArrayBuffer>, module: WebAssembly.Module) {
    this.#bytes = bytes;
    this.#free = module;
  }

  /**
   * Compiles and checks a module.
   *
   * @param bytes Not changed afterwards by the caller.
   * @throws {SandboxError} `InvalidArgument` with the reason when it cannot be run.
   */
  static async load(bytes: Uint8Array<ArrayBuffer>): Promise<V8Module> {
    assertModuleHeader(bytes);
    const module = await compile(bytes);
    checkImports(module);
    checkStart(module);
    return new V8Module(bytes, await compile(rewriteModule(bytes, undefined)));
  }

  /**
   * The module for a guest.
   *
   * @param memoryLimitBytes Most bytes of linear memory; undefined for what the module allows.
   * @throws {SandboxError} `InvalidArgument` when it starts with more.
   */
  async withLimit(memoryLimitBytes: number | undefined): Promise<WebAssembly.Module> {
    if (memoryLimitBytes === undefined) return this.#free;
    const module = this.#limited.get(memoryLimitBytes) ??
      await compile(rewriteModule(this.#bytes, memoryLimitBytes));
    this.#limited.delete(memoryLimitBytes);
    this.#limited.set(memoryLimitBytes, module);
    const [oldest] = this.#limited.keys();
    if (this.#limited.size > LIMITS_MAX && oldest !== undefined) this.#limited.delete(oldest);
    return module;
  }

  /** Drops what was compiled; V8 frees it when no guest runs it any more. */
  [Symbol.dispose](): void {
    this.#limited.clear();
  }
}

async function compile(bytes: Uint8Array<ArrayBuffer>): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compile(bytes);
  } catch (error) {
    if (error instanceof WebAssembly.CompileError) {
      throw refusal(`it is not valid: ${error.message.replace(/^.*?\): /, "")}`);
    }
    throw SandboxError.from(error, "cannot compile the WebAssembly module");
  }
}

/** Refuses imports that nobody provides. */
function checkImports(module: WebAssembly.Module): void {
  const unknown = WebAssembly.Module.imports(module)
    .filter((entry) =>
      entry.module !== WASI_MODULE || entry.kind !== "function" || !WASI_FUNCTIONS.has(entry.name)
    )
    .map((entry) => `${entry.module}.${entry.name}`);
  if (unknown.length === 0) return;
  const named = unknown.slice(0, NAMED_MAX).join(", ");
  const more = unknown.length > NAMED_MAX ? ` and ${unknown.length - NAMED_MAX} more` : "";
  throw refusal(
    `it imports what is not there: ${named}${more}: only ${WASI_MODULE} is provided, by V8 ` +
      "without WasmEdge's sockets",
  );
}

function checkStart(module: WebAssembly.Module): void {
  const found = WebAssembly.Module.exports(module).some(({ name, kind }) =>
    name === START_FUNCTION && kind === "function"
  );
  if (found) return;
  throw refusal(
    `it does not export "${START_FUNCTION}": build it as a WASI command (a program), ` +
      "not as a library",
  );
}
