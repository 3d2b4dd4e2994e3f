/**
 * The vmm sandboxer as a target of the black-box suite: the image is runc's, as microVMs run
 * ordinary Linux containers.
 *
 * @module
 */

import { runcTarget } from "./runc_target.ts";
import type { Target } from "./target.ts";

/** Pods that are microVMs. */
export const vmmTarget: Target = {
  ...runcTarget,
  name: "vmm",
  handler: "quasaur-vmm",
  bed: { kinds: ["vmm"] },
  podsAtOnce: 10,
  abilities: { ...runcTarget.abilities, hostNetwork: false },
};
