/**
 * Modules: bytes parsed and validated by WasmEdge, and checked for what a guest needs, so that what
 * cannot run is refused by name before a guest is made of it.
 *
 * @module
 */

import type { SandboxError } from "../../lifecycle/errors.ts";
import { assertModuleHeader, refusal } from "../module_bytes.ts";
import { holding } from "../native/hold.ts";
import type { Address } from "../native/library.ts";
import { WASI_MODULE, type WasmEdgeLibrary } from "./library.ts";

/** The function that a WASI command exports and a host calls. */
export const START_FUNCTION = "_start";

/** Modules larger than this are parsed on another thread, so that the event loop goes on. */
const PARSE_INLINE_BYTES_MAX = 65_536;
/** Imports or exports that are looked at. The WebAssembly limits are lower or the same. */
const LIST_MAX = 1_000_000;
/** Unknown imports that a refusal names. */
const NAMED_MAX = 8;

/** WasmEdge_ExternalType. */
const EXTERNAL_FUNCTION = 0;
const EXTERNAL_MEMORY = 2;

/** A parsed and validated module. Any number of guests use it at the same time. */
export class WasmEdgeModule implements Disposable {
  readonly #library: WasmEdgeLibrary;
  #disposed = false;

  /**
   * @param library The engine.
   * @param ast The `WasmEdge_ASTModuleContext`; owned by this object from here on.
   * @param sizeBytes Size of the file it was made of.
   */
  private constructor(library: WasmEdgeLibrary, readonly ast: Address, readonly sizeBytes: number) {
    this.#library = library;
  }

  /**
   * Parses, validates and checks a module.
   *
   * @throws {SandboxError} `InvalidArgument` with the reason when it cannot be run.
   */
  static async load(
    library: WasmEdgeLibrary,
    bytes: Uint8Array<ArrayBuffer>,
  ): Promise<WasmEdgeModule> {
    assertModuleHeader(bytes);
    const configuration = library.configure(undefined);
    try {
      const ast = await parse(library, configuration, bytes);
      const module = new WasmEdgeModule(library, ast, bytes.length);
      try {
        await validate(library, configuration, ast, bytes.length);
        module.#checkImports();
        module.#checkStart();
        return module;
      } catch (error) {
        module[Symbol.dispose]();
        throw error;
      }
    } finally {
      library.c.WasmEdge_ConfigureDelete(configuration);
    }
  }

  /** Pages of 64 KiB that the module's exported memory starts with; 0 when it exports none. */
  get memoryPagesMin(): number {
    const { c } = this.#library;
    for (const exported of this.#exports()) {
      if (c.WasmEdge_ExportTypeGetExternalType(exported) !== EXTERNAL_MEMORY) continue;
      const type = c.WasmEdge_ExportTypeGetMemoryType(this.ast, exported);
      return Number(c.WasmEdge_LimitGetMin(c.WasmEdge_MemoryTypeGetLimit(type)));
    }
    return 0;
  }

  /** Frees the module. Guests made of it must be gone. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#library.c.WasmEdge_ASTModuleDelete(this.ast);
  }

  /** Refuses imports that nobody provides: the engine itself would not say which. */
  #checkImports(): void {
    const { c, wasiFunctions } = this.#library;
    const count = Math.min(c.WasmEdge_ASTModuleListImportsLength(this.ast), LIST_MAX);
    const addresses = new BigUint64Array(count);
    // SAFETY: room for `count` pointers; what they point to lives as long as the module.
    c.WasmEdge_ASTModuleListImports(this.ast, new Uint8Array(addresses.buffer), count);
    const unknown: string[] = [];
    for (const address of addresses) {
      const module = this.#library.string(c.WasmEdge_ImportTypeGetModuleName(address));
      const name = this.#library.string(c.WasmEdge_ImportTypeGetExternalName(address));
      if (module !== WASI_MODULE || !wasiFunctions.has(name)) unknown.push(`${module}.${name}`);
    }
    if (unknown.length > 0) throw importRefusal(unknown);
  }

  #checkStart(): void {
    const { c } = this.#library;
    for (const exported of this.#exports()) {
      if (c.WasmEdge_ExportTypeGetExternalType(exported) !== EXTERNAL_FUNCTION) continue;
      const name = this.#library.string(c.WasmEdge_ExportTypeGetExternalName(exported));
      if (name !== START_FUNCTION) continue;
      const type = c.WasmEdge_ExportTypeGetFunctionType(this.ast, exported);
      const values = c.WasmEdge_FunctionTypeGetParametersLength(type) +
        c.WasmEdge_FunctionTypeGetReturnsLength(type);
      if (values === 0) return;
      throw refusal(
        `its function "${START_FUNCTION}" has parameters or results: it must have none`,
      );
    }
    throw refusal(
      `it does not export "${START_FUNCTION}": build it as a WASI command (a program), ` +
        "not as a library",
    );
  }

  #exports(): BigUint64Array {
    const { c } = this.#library;
    const count = Math.min(c.WasmEdge_ASTModuleListExportsLength(this.ast), LIST_MAX);
    const addresses = new BigUint64Array(count);
    // SAFETY: room for `count` pointers; what they point to lives as long as the module.
    c.WasmEdge_ASTModuleListExports(this.ast, new Uint8Array(addresses.buffer), count);
    return addresses;
  }
}

async function parse(
  library: WasmEdgeLibrary,
  configuration: Address,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<Address> {
  const { c } = library;
  const loader = c.WasmEdge_LoaderCreate(configuration);
  // 128 bytes, so that it lies outside of the JavaScript heap: another thread may write to it.
  const out = new BigUint64Array(16);
  const outBytes = new Uint8Array(out.buffer);
  try {
    // SAFETY: the loader reads `bytes.length` bytes and writes one pointer; both buffers are held
    // until the call is over, and the parsed module keeps no reference to the bytes.
    const code = bytes.length <= PARSE_INLINE_BYTES_MAX
      ? c.WasmEdge_LoaderParseFromBytes(loader, outBytes, bytes.length, bytes)
      : await holding(
        [outBytes, bytes],
        () => c.parseFromBytesAsync(loader, outBytes, bytes.length, bytes),
      );
    if (code !== 0) throw refusal(`it is truncated or damaged: ${library.message(code)}`);
    return out[0] ?? 0n;
  } finally {
    c.WasmEdge_LoaderDelete(loader);
  }
}

async function validate(
  library: WasmEdgeLibrary,
  configuration: Address,
  ast: Address,
  sizeBytes: number,
): Promise<void> {
  const { c } = library;
  const validator = c.WasmEdge_ValidatorCreate(configuration);
  try {
    const code = sizeBytes <= PARSE_INLINE_BYTES_MAX
      ? c.WasmEdge_ValidatorValidate(validator, ast)
      : await c.validateAsync(validator, ast);
    if (code !== 0) throw refusal(`it is not valid: ${library.message(code)}`);
  } finally {
    c.WasmEdge_ValidatorDelete(validator);
  }
}

function importRefusal(unknown: readonly string[]): SandboxError {
  const named = unknown.slice(0, NAMED_MAX).join(", ");
  const more = unknown.length > NAMED_MAX ? ` and ${unknown.length - NAMED_MAX} more` : "";
  return refusal(`it imports what is not there: ${named}${more}: only ${WASI_MODULE} is provided`);
}
