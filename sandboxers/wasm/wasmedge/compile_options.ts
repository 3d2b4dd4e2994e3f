/**
 * How a module must be compiled for the WasmEdge engine of this process. The cache of compiled code
 * puts all of it into its key and gives it to its compiler.
 *
 * @module
 */

/** What the compiler is told. */
export interface CompileOptions {
  /** As in `wasmedge compile --optimize`. */
  readonly optimizationLevel: 0 | 1 | 2 | 3;
  /**
   * Whether the code looks at the stop flag at every branch. That makes it killable anywhere, and
   * two to three times slower.
   */
  readonly interruptible: boolean;
}

/**
 * The options of this machine. Where a signal can stop code that does not look at the stop flag,
 * the code does not have to.
 */
export const COMPILE_OPTIONS: CompileOptions = {
  optimizationLevel: 2,
  interruptible: Deno.build.arch !== "x86_64",
};
