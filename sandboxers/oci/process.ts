/**
 * OCI's `process` object, from what a caller asks for.
 *
 * Source: opencontainers/runtime-spec config.md, section Process.
 *
 * @module
 */

import type { CapabilitySpec, ProcessSpec } from "../lifecycle/spec.ts";
import { type JsonObject, without } from "./json.ts";

/** What containerd and runc let a process do that asks for nothing special. */
const DEFAULT_NAMES = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FSETID",
  "CAP_FOWNER",
  "CAP_MKNOD",
  "CAP_NET_RAW",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETFCAP",
  "CAP_SETPCAP",
  "CAP_NET_BIND_SERVICE",
  "CAP_SYS_CHROOT",
  "CAP_KILL",
  "CAP_AUDIT_WRITE",
];

/** The capabilities of a process that came without. */
export const DEFAULT_CAPABILITIES: CapabilitySpec = {
  bounding: DEFAULT_NAMES,
  effective: DEFAULT_NAMES,
  permitted: DEFAULT_NAMES,
  inheritable: [],
  ambient: [],
};

/** Another kernel has no AppArmor and no SELinux of this host, and its CPUs are not the host's. */
const HOST_MEMBERS = ["apparmorProfile", "selinuxLabel", "execCPUAffinity", "commandLine"];

/**
 * The `process` of a config.json without what is the host's.
 *
 * @param process The object.
 */
export function withoutHost(process: JsonObject): JsonObject {
  return without(process, HOST_MEMBERS);
}

/**
 * The `process` of an exec. Without containerd nothing is said of its rights: then it can do what its
 * container's own process can do.
 *
 * @param spec The process.
 * @param terminal Whether it gets a terminal.
 */
export function execProcess(spec: ProcessSpec, terminal: boolean): JsonObject {
  return { ...processObject({ capabilities: DEFAULT_CAPABILITIES, ...spec }), terminal };
}

/**
 * A process as OCI has it.
 *
 * @param spec The process.
 */
export function processObject(spec: ProcessSpec): JsonObject {
  const { args, env, cwd, user, capabilities, noNewPrivileges, oomScoreAdjust } = spec;
  const rlimits = rlimitsOf(spec);
  return {
    args,
    env,
    cwd,
    user: { ...user, ...(spec.umask === undefined ? {} : { umask: spec.umask }) },
    ...(capabilities === undefined ? {} : { capabilities: { ...capabilities } }),
    ...(noNewPrivileges === undefined ? {} : { noNewPrivileges }),
    ...(rlimits.length === 0 ? {} : { rlimits }),
    ...(oomScoreAdjust === undefined ? {} : { oomScoreAdj: oomScoreAdjust }),
  };
}

/** Limits as they came; the one of open files alone where only that is known. */
function rlimitsOf({ rlimits, descriptorsMax }: ProcessSpec): readonly JsonObject[] {
  if (rlimits !== undefined) return rlimits.map((limit) => ({ ...limit }));
  if (descriptorsMax === undefined) return [];
  return [{ type: "RLIMIT_NOFILE", soft: descriptorsMax, hard: descriptorsMax }];
}
