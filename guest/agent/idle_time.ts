/**
 * What a guest does for its first container while the host, which has the answer to `setup`, gets to
 * asking for one: work that is left of the setting up, and rehearsals that change nothing.
 *
 * @module
 */

import { attempt } from "./ahead.ts";
import type { Disks } from "./disks.ts";
import { after } from "./loop.ts";
import { rehearsePlan } from "./rehearsal.ts";
import type { Pod } from "./setup.ts";

/**
 * Begins, with a step in each turn of the loop: a request that comes meanwhile need not wait for all.
 *
 * @param pod The pod, which was just set up.
 * @param disks Where its containers will come from.
 */
export function useIdleTime(pod: Pod, disks: Disks): void {
  const steps = [
    () => pod.settle(),
    () => pod.makeFiles(),
    rehearsePlan,
    () => disks.rehearse(),
  ];
  const next = () => {
    const step = steps.shift();
    if (step === undefined) return;
    attempt(step);
    after(0, next);
  };
  after(0, next);
}
