/**
 * A pod and a container in a guest, as the agent is told of them when no containerd is there.
 *
 * @module
 */

import type { AgentClient } from "../../guest/client/agent_client.ts";
import type { ContainerSpec, SandboxSpec } from "../../sandboxers/lifecycle/spec.ts";
import { guestContainer } from "../../sandboxers/vmm/oci/guest_config.ts";
import { type GuestNetwork, NO_NETWORK, podSetup } from "../../sandboxers/vmm/pod_setup.ts";

/** A container's output. */
export interface ContainerOutput {
  /** Settles with its first bytes. */
  readonly first: Promise<void>;
}

/** The pod. */
export const BENCH_POD: SandboxSpec = {
  id: "bench",
  namespace: "k8s.io",
  name: "bench",
  hostname: "bench",
  network: { kind: "namespace", path: "" },
  dns: { servers: ["10.96.0.10"], searches: [], options: [] },
  cgroupParent: "",
  resources: {},
  labels: {},
  annotations: {},
};

/** How long a guest may take to become a pod's own, in milliseconds: as the sandboxer has it. */
const SETUP_MS = 30_000;

const NOWHERE = { kind: "null" } as const;

/** The container: it says that it runs and then sleeps. */
const CONTAINER: ContainerSpec = {
  id: "main",
  sandboxId: BENCH_POD.id,
  bundle: "",
  rootfs: { kind: "directory", path: "" },
  readonlyRootfs: false,
  process: {
    args: ["/bin/sh", "-c", "echo running; exec sleep 3600"],
    env: ["PATH=/bin"],
    cwd: "/",
    user: { uid: 0, gid: 0, additionalGids: [] },
  },
  mounts: [],
  stdio: { stdin: NOWHERE, stdout: NOWHERE, stderr: NOWHERE, terminal: false },
  resources: {},
  annotations: {},
};

/** What a CNI plugin would have given the pod. */
const NETWORK: GuestNetwork = {
  interfaces: [{
    name: "eth0",
    device: 0,
    mac: "02:00:00:00:00:07",
    mtu: 1500,
    addresses: ["10.88.0.7/16"],
  }],
  routes: [{ destination: "default", family: "inet", gateway: "10.88.0.1", interface: "eth0" }],
  neighbours: [],
};

/**
 * Makes a guest the pod's own.
 *
 * @param agent Its agent.
 * @param interfaces How many network interfaces it has.
 */
export async function setUpGuest(agent: AgentClient, interfaces: number): Promise<void> {
  const args = podSetup(BENCH_POD, interfaces > 0 ? NETWORK : NO_NETWORK, "");
  await agent.request("setup", args, { timeoutMs: SETUP_MS });
}

/**
 * Makes the container.
 *
 * @param agent The agent of a guest that is set up.
 * @param guest The serial number of the disk with its root file system, and the guest's CPUs.
 */
export async function createContainer(
  agent: AgentClient,
  { serial, cpus }: { readonly serial: string; readonly cpus: number },
): Promise<ContainerOutput> {
  const stdout = agent.nextStreamId();
  const stream = agent.openOutput(stdout);
  const { promise: first, resolve } = Promise.withResolvers<void>();
  stream.onReadable = () => {
    for (let bytes = stream.peek(); bytes !== undefined; bytes = stream.peek()) {
      resolve();
      stream.consume(bytes.length);
    }
  };
  await agent.request("createContainer", {
    id: CONTAINER.id,
    ...await guestContainer(CONTAINER, { cpus }),
    rootfs: { kind: "disk", serial, fsType: "erofs" },
    stdio: { stdout },
  });
  return { first };
}

/**
 * Starts it.
 *
 * @param agent The agent of its guest.
 */
export async function startContainer(agent: AgentClient): Promise<void> {
  await agent.request("startContainer", { container: CONTAINER.id });
}
