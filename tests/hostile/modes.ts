/**
 * The ways in which guests run: hostile guests are tried in each.
 *
 * @module
 */

/** A way to run guests. */
export interface Mode {
  /** What it is called in the names of tests. */
  readonly name: "interpreted" | "compiled" | "in a process";
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

/** Whether every test is run in every mode, not only where the mode makes most of a difference. */
const allModes = Deno.env.get("QUASAUR_LONG_TESTS") === "1";

/**
 * Registers tests once for each mode.
 *
 * @param register Registers them for one.
 * @param names The modes that make most of a difference (default: all); the others are tried with
 *   `QUASAUR_LONG_TESTS=1`.
 */
export function forEachMode(
  register: (mode: Mode) => void,
  names?: readonly Mode["name"][],
): void {
  for (const mode of MODES) {
    if (allModes || names === undefined || names.includes(mode.name)) register(mode);
  }
}
