/**
 * Stops a guest that the interpreter runs, by the stop flag of its executor. WasmEdge shows the flag
 * only through a `WasmEdge_Async`, which takes a thread to make. So where the flag lies in an executor
 * is found out once, by watching what a `WasmEdge_Async` changes, and tried; from then on it is set
 * where it is. Should an engine keep it in some other way, each guest gets its `WasmEdge_Async` at the
 * first time it is needed.
 *
 * @module
 */

import { type Address, openLibrary } from "../native/library.ts";
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

/** `WasmEdge_ErrCode_Interrupted`. */
const RESULT_INTERRUPTED = 0x07;
/** The flag when it is set: a 32-bit 1. */
const SET = Uint32Array.of(1);
/** How long the first `WasmEdge_Async` may take, in milliseconds; it does nothing. */
const PROBE_WAIT_MS = 1_000n;

const FLAG_SYMBOLS = {
  malloc_usable_size: { parameters: ["u64"], result: "usize" },
  setFlag: { name: "memcpy", parameters: ["u64", "buffer", "usize"], result: "u64" },
} as const;

/** The function that does nothing, and what it is good for. One for an engine. */
export class NothingFunction implements Disposable {
  readonly #library: WasmEdgeLibrary;
  readonly #release: (() => void)[] = [];
  readonly #flag: Deno.DynamicLibrary<typeof FLAG_SYMBOLS>["symbols"];
  /** The function's address. */
  readonly address: Address;
  /** Where in an executor its stop flag is, in bytes; undefined where that is not known. */
  readonly #flagOffset: bigint | undefined;

  /**
   * Makes the function.
   *
   * @param library The engine.
   */
  constructor(library: WasmEdgeLibrary) {
    this.#library = library;
    this.#flag = openLibrary(library.path, FLAG_SYMBOLS);
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
    this.#flagOffset = this.#findFlag(executor);
  }

  /**
   * Sets the stop flag of an executor, if it is known where it is.
   *
   * @returns Whether it is.
   */
  setFlag(executor: Address): boolean {
    if (this.#flagOffset === undefined) return false;
    this.#write(executor + this.#flagOffset);
    return true;
  }

  /** Frees it. No {@link Stopper} may be left. */
  [Symbol.dispose](): void {
    for (const release of this.#release.splice(0).reverse()) release();
  }

  #write(address: Address): void {
    // SAFETY: the address of an aligned 32-bit integer in an executor that lives, see #findFlag; one
    // store that the guest's thread sees as a whole.
    this.#flag.setFlag(address, new Uint8Array(SET.buffer), 4n);
  }

  /** Finds the one 32-bit number that stopping changes, from 0 to 1, and tries what it does. */
  #findFlag(executor: Address): bigint | undefined {
    const { c, memory } = this.#library;
    const size = Number(this.#flag.malloc_usable_size(executor)) & ~3;
    const words = () => new Uint32Array(memory.read(executor, size).buffer);
    const handle = c.WasmEdge_ExecutorAsyncInvoke(executor, this.address, 0n, 0);
    if (handle === 0n) return undefined;
    try {
      if (!c.WasmEdge_AsyncWaitFor(handle, PROBE_WAIT_MS)) return undefined;
      const before = words();
      c.WasmEdge_AsyncCancel(handle);
      const after = words();
      const changed = [...after.keys()].filter((i) => after[i] !== before[i]);
      const [at] = changed;
      if (at === undefined || changed.length > 1 || before[at] !== 0 || after[at] !== 1) {
        return undefined;
      }
      const offset = BigInt(at * 4);
      const stops = this.#invoke(executor) === RESULT_INTERRUPTED && this.#invoke(executor) === 0;
      this.#write(executor + offset);
      return stops && this.#invoke(executor) === RESULT_INTERRUPTED ? offset : undefined;
    } finally {
      c.WasmEdge_AsyncWait(handle);
      c.WasmEdge_AsyncDelete(handle);
    }
  }

  /** Calls the function. The result is that of a 32-bit WasmEdge_Result. */
  #invoke(executor: Address): number {
    return this.#library.c.WasmEdge_ExecutorInvoke(executor, this.address, 0n, 0, 0n, 0);
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
   * ended: the first call may only prepare it, and what looks at it takes it down again.
   *
   * @returns Whether the flag was set, or could not be because the system has no thread to spare.
   */
  stop(): boolean {
    if (this.#nothing.setFlag(this.#executor)) return true;
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
