/**
 * Pods of gVisor as a target of the black-box suite: the image is runc's, as gVisor runs ordinary
 * Linux containers.
 *
 * @module
 */

import { runcTarget } from "./runc_target.ts";
import type { KnownFailure, Target } from "./target.ts";

/** What runsc itself cannot do, by the case that asks for it. */
const KNOWN_FAILURES: Readonly<Record<string, KnownFailure>> = {
  "a terminal is one of the container's own": {
    because: "runsc hands a terminal of the host in, which has no name in the container",
    says: /not a tty/,
  },
  "processes of a container that must gain no rights know it": {
    because: "gVisor's /proc/PID/status has no such line",
    says: /deep-equal/,
  },
};

/** Pods whose system calls gVisor answers. */
export const gvisorTarget: Target = {
  ...runcTarget,
  name: "gvisor",
  handler: "quasaur-gvisor",
  bed: { kinds: ["quark"] },
  podsAtOnce: 10,
  knownFailures: KNOWN_FAILURES,
};
