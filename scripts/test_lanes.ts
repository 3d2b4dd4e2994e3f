/**
 * Which tests run beside each other. Most of the time of a unit test's file is loading it, so two
 * lanes of unit tests run at a time, each in a process of its own; then the rest, alone: tests of
 * whole daemons, which look at processes, mounts and memory of the machine.
 *
 * @module
 */

/** Rooms whose tests bear company. What is not named here runs alone. */
export const LANES: readonly (readonly string[])[] = [
  [
    "sandboxers/wasm",
    "sandboxers/lifecycle",
    "sandboxers/controller",
    "sandboxers/embedded",
    "cli",
    "task",
    "proto",
    "scripts",
  ],
  ["sandboxers/vmm", "sandboxers/quark", "sandboxers/host", "guest", "bench"],
];

/** Arguments of `deno test` for each run: those of the first list at a time, then the last. */
export interface Runs {
  /** Run beside each other. */
  readonly together: readonly (readonly string[])[];
  /** Run afterwards. */
  readonly alone: readonly string[];
}

/**
 * A whole run takes twenty minutes on a machine that is busy with several daemons at a time: a test
 * that failed is run once more, and told of (see `secondAttempts` in test_summary.ts).
 */
const SECOND_ATTEMPT = "--retry=1";

/**
 * Plans the runs.
 *
 * @param args What the caller wants tested, as for `deno test`; nothing for everything.
 */
export function planRuns(args: readonly string[]): Runs {
  if (args.length > 0) return { together: [], alone: args };
  return {
    together: LANES.map((lane) => [SECOND_ATTEMPT, ...lane]),
    alone: [SECOND_ATTEMPT, `--ignore=${LANES.flat().join(",")}`],
  };
}
