/**
 * The ways in which guests run: every hostile guest is tried in each.
 *
 * @module
 */

/** A way to run guests. */
export interface Mode {
  /** What it is called in the names of tests. */
  readonly name: string;
  /** How the engine runs a module. */
  readonly engine: "interpreted" | "compiled";
  /** Whether guests of all pods share a process, or those of one pod. */
  readonly isolation: "thread" | "process";
}

/** All that there are. */
export const MODES: readonly Mode[] = [
  { name: "interpreted", engine: "interpreted", isolation: "thread" },
  { name: "compiled", engine: "compiled", isolation: "thread" },
  { name: "in a process", engine: "compiled", isolation: "process" },
];

/**
 * Registers tests once for each mode.
 *
 * @param register Registers them for one.
 * @param differs Which of the modes can make a difference (default: all).
 */
export function forEachMode(
  register: (mode: Mode) => void,
  differs: (mode: Mode) => boolean = () => true,
): void {
  for (const mode of MODES.filter(differs)) register(mode);
}
