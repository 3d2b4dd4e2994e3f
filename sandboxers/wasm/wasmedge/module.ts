/**
 * Modules: bytes parsed and validated by WasmEdge, and checked for what a guest needs, so that what
 * cannot run is refused by name before a guest is made of it.
 *
 * @module
 */

import type { SandboxError } from "../../lifecycle/errors.ts";
import { refusal } from "../module_bytes.ts";
import type { CheckedModule, ModuleShape } from "../module_sections.ts";
import { holding } from "../native/hold.ts";
import type { Address } from "../native/library.ts";
import { type RunMode, WASI_MODULE, type WasmEdgeLibrary } from "./library.ts";

/** The function that a WASI command exports and a host calls. */
export const START_FUNCTION = "_start";

/** Modules larger than this are parsed on another thread, so that the event loop goes on. */
const PARSE_INLINE_BYTES_MAX = 65_536;
/** Imports or exports that are looked at. The WebAssembly limits are lower or the same. */
const LIST_MAX = 1_000_000;
/** Unknown imports that a refusal names. */
const NAMED_MAX = 8;
/** Characters of each of them: a name may be as long as the file. */
const NAME_LENGTH_MAX = 100;

/** WasmEdge_ExternalType. */
const EXTERNAL_FUNCTION = 0;

/** A parsed and validated module. Any number of guests use it at the same time. */
export class WasmEdgeModule implements Disposable {
  readonly #library: WasmEdgeLibrary;
  readonly #release = new DisposableStack();

  /**
   * @param library The engine.
   * @param ast The `WasmEdge_ASTModuleContext`; owned by this object from here on.
   * @param shape What the module asks for.
   * @param compiled Whether guests of it run compiled code.
   */
  private constructor(
    library: WasmEdgeLibrary,
    readonly ast: Address,
    readonly shape: ModuleShape,
    readonly compiled: boolean,
  ) {
    this.#library = library;
    this.#release.defer(() => library.c.WasmEdge_ASTModuleDelete(ast));
  }

  /**
   * Parses, validates and checks a module whose guests are interpreted.
   *
   * @throws {SandboxError} `InvalidArgument` with the reason when it cannot be run.
   */
  static async load(library: WasmEdgeLibrary, checked: CheckedModule): Promise<WasmEdgeModule> {
    const { bytes, shape } = checked;
    return await WasmEdgeModule.#make(
      library,
      "interpreter",
      shape,
      (configuration) => parse(library, configuration, bytes),
    );
  }

  /**
   * Loads compiled code of a module, with the same checks.
   *
   * @param path A file that this host has compiled and verified: its machine code is executed.
   * @param shape What the module asks for that the file was compiled from.
   * @throws {SandboxError} `InvalidArgument` with the reason when it cannot be run.
   */
  static async loadCompiled(
    library: WasmEdgeLibrary,
    path: string,
    shape: ModuleShape,
  ): Promise<WasmEdgeModule> {
    return await WasmEdgeModule.#make(
      library,
      "compiled",
      shape,
      (configuration) => parseFile(library, configuration, path),
    );
  }

  static async #make(
    library: WasmEdgeLibrary,
    runMode: RunMode,
    shape: ModuleShape,
    parsed: (configuration: Address) => Promise<Address>,
  ): Promise<WasmEdgeModule> {
    using release = new DisposableStack();
    const configuration = library.configure(undefined, runMode);
    release.defer(() => library.c.WasmEdge_ConfigureDelete(configuration));
    const ast = await parsed(configuration);
    const module = new WasmEdgeModule(library, ast, shape, runMode === "compiled");
    const owned = release.use(new DisposableStack());
    owned.use(module);
    await validate(library, configuration, ast, shape.sizeBytes);
    module.#checkImports();
    module.#checkStart();
    owned.move();
    return module;
  }

  /** Adds what is to be done when the module is freed, before its code goes. */
  onDispose(action: () => void): void {
    this.#release.defer(action);
  }

  /** Frees the module. Guests made of it must be gone. */
  [Symbol.dispose](): void {
    this.#release.dispose();
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

/** Maps a compiled file; on another thread, as that reads it from the disk. */
async function parseFile(
  library: WasmEdgeLibrary,
  configuration: Address,
  path: string,
): Promise<Address> {
  const { c } = library;
  const loader = c.WasmEdge_LoaderCreate(configuration);
  // 128 bytes each, so that they lie outside of the JavaScript heap: another thread uses them.
  const out = new BigUint64Array(16);
  const outBytes = new Uint8Array(out.buffer);
  const text = new TextEncoder().encode(path);
  const pathBytes = new Uint8Array(Math.max(text.length + 1, 128));
  pathBytes.set(text);
  try {
    // SAFETY: the path is NUL-terminated, one pointer is written; both buffers are held until the
    // call is over.
    const code = await holding(
      [outBytes, pathBytes],
      () => c.parseFromFileAsync(loader, outBytes, pathBytes),
    );
    if (code !== 0) throw refusal(`its compiled code does not load: ${library.message(code)}`);
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
  const named = unknown.slice(0, NAMED_MAX)
    .map((name) => name.length > NAME_LENGTH_MAX ? `${name.slice(0, NAME_LENGTH_MAX)}...` : name)
    .join(", ");
  const more = unknown.length > NAMED_MAX ? ` and ${unknown.length - NAMED_MAX} more` : "";
  return refusal(`it imports what is not there: ${named}${more}: only ${WASI_MODULE} is provided`);
}
