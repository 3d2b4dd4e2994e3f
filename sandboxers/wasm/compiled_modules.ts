/**
 * Where an engine finds compiled code of a module, and where it asks for some to be made. The
 * engine's side of the cache in compiled/: an engine knows neither the disk nor the compiler.
 *
 * @module
 */

/** What is known of a module's compiled code without a look at the disk. */
export type CompiledState =
  /** Nothing yet, or not any more: only {@link CompiledModules.find} can tell. */
  | "unknown"
  /** It is asked for and not done: looking for it is of no use yet. */
  | "compiling"
  /** It is there, as far as is known. */
  | "ready"
  /** It cannot be had for now: neither looking nor asking is of any use. */
  | "unavailable";

/** Compiled code of modules. */
export interface CompiledModules {
  /**
   * What is known of a module's compiled code. Cheap: it is asked at every start of a module that
   * has no compiled code in memory. In the states `compiling` and `unavailable` an engine neither
   * calls {@link CompiledModules.find} nor {@link CompiledModules.request}.
   *
   * @param digest SHA-256 of the module's bytes, in hexadecimal.
   */
  state(digest: string): CompiledState;
  /**
   * Finds the compiled code of a module; never fails: what cannot be had or trusted is not there.
   *
   * @param digest SHA-256 of the module's bytes, in hexadecimal.
   * @returns An absolute path whose content was verified just now, or undefined. The file may be
   *   mapped until the process ends; it is replaced by renaming, never written to.
   */
  find(digest: string): Promise<string | undefined>;
  /**
   * Asks for a module to be compiled, in its own time, outside of this process. Asking again for
   * what is under way, done, or known to fail does nothing.
   *
   * @param digest SHA-256 of the module's bytes, in hexadecimal.
   * @param bytes The module; validated. Not changed afterwards by the caller.
   */
  request(digest: string, bytes: Uint8Array<ArrayBuffer>): void;
  /**
   * Hears of compiled code that did not load after all, so that it is removed and made again.
   *
   * @param digest See {@link CompiledModules.find}.
   */
  reject(digest: string): void;
}
