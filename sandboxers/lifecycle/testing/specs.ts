/**
 * Specifications for tests: complete, and as plain as can be.
 *
 * @module
 */

import type { ContainerSpec, ExecSpec, ProcessSpec, SandboxSpec, StdioSpec } from "../spec.ts";

const NO_STDIO: StdioSpec = {
  stdin: { kind: "null" },
  stdout: { kind: "null" },
  stderr: { kind: "null" },
  terminal: false,
};

const PROCESS: ProcessSpec = {
  args: ["/bin/true"],
  env: [],
  cwd: "/",
  user: { uid: 0, gid: 0, additionalGids: [] },
};

/** A sandbox on the host's network. */
export function sandboxSpec(id: string, changes: Partial<SandboxSpec> = {}): SandboxSpec {
  return {
    id,
    namespace: "k8s.io",
    name: id,
    hostname: "",
    network: { kind: "host" },
    dns: { servers: [], searches: [], options: [] },
    cgroupParent: "",
    resources: {},
    labels: {},
    annotations: {},
    ...changes,
  };
}

/** A container whose root file system is mounted for it. */
export function containerSpec(
  id: string,
  sandboxId: string,
  changes: Partial<ContainerSpec> = {},
): ContainerSpec {
  return {
    id,
    sandboxId,
    bundle: "",
    rootfs: {
      kind: "mounts",
      target: `/run/${id}/rootfs`,
      mounts: [{ type: "bind", source: "/image", options: ["ro"] }],
    },
    readonlyRootfs: false,
    process: PROCESS,
    mounts: [],
    stdio: NO_STDIO,
    resources: {},
    annotations: {},
    ...changes,
  };
}

/** An exec. */
export function execSpec(id: string, changes: Partial<ExecSpec> = {}): ExecSpec {
  return { id, process: PROCESS, stdio: NO_STDIO, ...changes };
}

/** Standard streams with a terminal. */
export const TERMINAL: StdioSpec = { ...NO_STDIO, terminal: true };
