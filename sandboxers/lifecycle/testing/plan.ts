/**
 * What is to happen in one simulated history, as chance has it: how much goes wrong, and what kind of
 * driver it goes wrong with.
 *
 * @module
 */

import type { Capabilities } from "../driver.ts";
import { SandboxError } from "../errors.ts";
import type { Random } from "./random.ts";

/** The dice of one history. */
export interface Plan {
  /** Calls that are made. */
  readonly calls: number;
  /** Most calls under way at a time. */
  readonly callers: number;
  /** Sandboxer processes that end before the last one. */
  readonly crashes: number;
  /** What the driver can do. */
  readonly capabilities: Capabilities;
  /** Whose containers outlive the sandboxer process: those of all sandboxes, of some, of none. */
  readonly outlives: "all" | "some" | "none";
  /** Probability that an effect of the driver, the disk or the mounter fails. */
  readonly faults: Readonly<Record<"driver" | "disk" | "mount", number>>;
  /** How likely things are to happen, against each other. */
  readonly weights: Readonly<Record<Happening, number>>;
  /** Probability that a call is given up at some time. */
  readonly abort: number;
  /** Probability that a driver call takes no notice of that. */
  readonly deaf: number;
}

/** What can happen next. */
export type Happening =
  | "call"
  | "step"
  | "abort"
  | "process ends"
  | "sandbox ends"
  | "disk full"
  | "time"
  | "crash";

const RATES = [0, 0, 0, 0.01, 0.05, 0.2];

/** Throws the dice. */
export function planOf(random: Random): Plan {
  const crashes = random.pick([0, 0, 0, 1, 1, 2]);
  return {
    calls: 10 + random.below(90),
    callers: 1 + random.below(6),
    crashes,
    capabilities: {
      exec: random.chance(0.9),
      pause: random.chance(0.9),
      updateContainer: random.chance(0.8),
      updateSandbox: random.chance(0.8),
      terminal: random.chance(0.5),
    },
    outlives: random.pick(["all", "some", "none"]),
    faults: {
      driver: random.pick(RATES),
      disk: random.pick(RATES),
      mount: random.pick(RATES),
    },
    weights: {
      call: 1 + random.below(6),
      step: 4 + random.below(8),
      abort: random.pick([0, 0.5, 2]),
      "process ends": random.pick([0, 0.1, 0.5]),
      "sandbox ends": random.pick([0, 0, 0.05, 0.2]),
      "disk full": random.pick([0, 0, 0, 0.1]),
      time: 0.5,
      crash: crashes === 0 ? 0 : 0.05,
    },
    abort: random.pick([0, 0.05, 0.3]),
    deaf: random.pick([0, 0.3]),
  };
}

/** Whether the containers of a sandbox outlive the sandboxer process, in the history of a plan. */
export function outlives({ outlives }: Plan, sandboxId: string): boolean {
  if (outlives === "some") return sandboxId.charCodeAt(sandboxId.length - 1) % 2 === 0;
  return outlives === "all";
}

/** Errors as the world below throws them: its own classes, ours, and none at all. */
export function faultOf(step: string, random: Random): unknown {
  return random.pick<() => unknown>([
    () => new Error(`${step} failed`),
    () => new Error(`${step}: No space left on device (os error 28)`),
    () => new TypeError(`${step} is not a function`),
    () => new Deno.errors.NotFound(`${step}: No such file or directory (os error 2)`),
    () => new Deno.errors.PermissionDenied(`${step}: Permission denied (os error 13)`),
    () => new SandboxError("Unavailable", `${step} is not available`),
    () => `${step} was thrown as text`,
  ])();
}
