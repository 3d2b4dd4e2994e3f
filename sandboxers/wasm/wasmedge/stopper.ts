/**
 * Stops a guest that computes. WasmEdge shows the stop flag of an executor only through a
 * `WasmEdge_Async`, so one is made of a function that does nothing, at the first time it is needed.
 *
 * @module
 */

import type { Address } from "../native/library.ts";
import type { WasmEdgeLibrary } from "./library.ts";

/** `(module (func (export "n")))` */
// deno-fmt-ignore
const NOTHING_MODULE = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, // magic and version
  0x01, 0x04, 0x01, 0x60, 0x00, 0x00,             // one type: () -> ()
  0x03, 0x02, 0x01, 0x00,                         // one function of it
  0x07, 0x05, 0x01, 0x01, 0x6e, 0x00, 0x00,       // export "n"
  0x0a, 0x04, 0x01, 0x02, 0x00, 0x0b,             // its body: end
]);
const NOTHING_NAME = new TextEncoder().encode("n");

/** The function that does nothing. One for a process, shared by all executors. */
export class NothingFunction implements Disposable {
  readonly #library: WasmEdgeLibrary;
  readonly #release: (() => void)[] = [];
  /** The function's address. */
  readonly address: Address;

  /**
   * Makes the function.
   *
   * @param library The engine.
   */
  constructor(library: WasmEdgeLibrary) {
    this.#library = library;
    const { c } = library;
    const configuration = library.configure(undefined);
    this.#release.push(() => c.WasmEdge_ConfigureDelete(configuration));
    const out = new BigUint64Array(1);
    const outBytes = new Uint8Array(out.buffer);
    const loader = c.WasmEdge_LoaderCreate(configuration);
    // SAFETY: reads the bytes, writes one pointer.
    this.#check(
      c.WasmEdge_LoaderParseFromBytes(loader, outBytes, NOTHING_MODULE.length, NOTHING_MODULE),
    );
    c.WasmEdge_LoaderDelete(loader);
    const ast = out[0] ?? 0n;
    this.#release.push(() => c.WasmEdge_ASTModuleDelete(ast));
    const validator = c.WasmEdge_ValidatorCreate(configuration);
    this.#check(c.WasmEdge_ValidatorValidate(validator, ast));
    c.WasmEdge_ValidatorDelete(validator);
    const executor = c.WasmEdge_ExecutorCreate(configuration, 0n);
    this.#release.push(() => c.WasmEdge_ExecutorDelete(executor));
    const store = c.WasmEdge_StoreCreate();
    this.#release.push(() => c.WasmEdge_StoreDelete(store));
    // SAFETY: writes one pointer.
    this.#check(c.WasmEdge_ExecutorInstantiate(executor, outBytes, store, ast));
    const instance = out[0] ?? 0n;
    this.#release.push(() => c.WasmEdge_ModuleInstanceDelete(instance));
    // SAFETY: the name has the length given.
    this.address = c.WasmEdge_ModuleInstanceFindFunction(instance, 1, NOTHING_NAME);
  }

  /** Frees it. No {@link Stopper} may be left. */
  [Symbol.dispose](): void {
    for (const release of this.#release.splice(0).reverse()) release();
  }

  #check(code: number): void {
    if (code !== 0) {
      throw new Error(`cannot make the stop function: ${this.#library.message(code)}`);
    }
  }
}

/** The stop flag of one executor. */
export class Stopper implements Disposable {
  readonly #library: WasmEdgeLibrary;
  readonly #executor: Address;
  readonly #nothing: NothingFunction;
  #handle: Address = 0n;

  /**
   * Does nothing yet.
   *
   * @param library The engine.
   * @param executor Whose guest to stop; must outlive this object.
   * @param nothing The function that does nothing.
   */
  constructor(library: WasmEdgeLibrary, executor: Address, nothing: NothingFunction) {
    this.#library = library;
    this.#executor = executor;
    this.#nothing = nothing;
  }

  /**
   * Sets the flag. The guest sees it at its next branch or call. Call it again until the guest has
   * ended: the first call only prepares it, and whatever runs on the executor takes it down again.
   *
   * @returns Whether the flag was set, or could not be because the system has no thread to spare.
   */
  stop(): boolean {
    const { c } = this.#library;
    if (this.#handle === 0n) {
      this.#handle = c.WasmEdge_ExecutorAsyncInvoke(
        this.#executor,
        this.#nothing.address,
        0n,
        0,
      );
      if (this.#handle === 0n) return true;
    }
    if (!this.settled) return false;
    c.WasmEdge_AsyncCancel(this.#handle);
    return true;
  }

  /** Whether nothing of it runs any more: only then it may be disposed of. */
  get settled(): boolean {
    return this.#handle === 0n || this.#library.c.WasmEdge_AsyncWaitFor(this.#handle, 0n);
  }

  /** Frees it. */
  [Symbol.dispose](): void {
    if (this.#handle !== 0n) this.#library.c.WasmEdge_AsyncDelete(this.#handle);
    this.#handle = 0n;
  }
}
