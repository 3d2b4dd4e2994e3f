/**
 * Walks through what the start of a pod does, in a guest that waits for its pod: an emulated machine
 * translates code when it runs for the first time, and what was translated stays with the machine.
 * Nothing of it is left in the guest.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import { prepareAhead } from "./ahead.ts";
import { cgroupEmptied, cgroupsPath, killCgroup, removeCgroup, watchOom } from "./cgroups.ts";
import { type CreationPlan, planCreation } from "./creation.ts";
import { makeDirectory, removeTree, writeText } from "./files.ts";
import { createInit } from "./init.ts";
import { log } from "./log.ts";
import { rehearseNetwork } from "./network.ts";
import { crunConfig } from "./oci.ts";
import { watchChild } from "./processes.ts";
import { mountOverlay, unmountOverlay } from "./rootfs.ts";
import { rehearseSetup } from "./setup.ts";

/** The name of the container that is made. */
const NAME = "quasaur-rehearsal";
const IMAGE = "/run/rehearsal";

/** What a container of containerd has mounted. */
const MOUNTS = [
  { destination: "/proc", type: "proc", source: "proc" },
  { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["mode=755"] },
  { destination: "/dev/pts", type: "devpts", source: "devpts", options: ["newinstance"] },
  { destination: "/dev/mqueue", type: "mqueue", source: "mqueue" },
  { destination: "/sys", type: "sysfs", source: "sysfs", options: ["ro"] },
  { destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["ro"] },
];

/**
 * Rehearses.
 *
 * @param withContainer Whether a container is made as well, and taken away before it runs; that
 *   costs some memory of the host.
 */
export async function rehearse(withContainer: boolean): Promise<void> {
  rehearseSetup();
  rehearseNetwork();
  if (withContainer) await rehearseContainer();
}

/** Makes the plan of a container, for nothing. */
export function rehearsePlan(): void {
  planOf("/");
}

function planOf(rootfs: string): CreationPlan | undefined {
  return planCreation(crunConfig(configuration(), {
    rootfs,
    mounts: [],
    cgroupsPath: cgroupsPath(NAME),
    pidNamespace: undefined,
    terminal: undefined,
    device: () => undefined,
    hasHugePages: () => false,
  }));
}

async function rehearseContainer(): Promise<void> {
  const notes: (string | undefined)[] = [];
  try {
    makeDirectory(IMAGE);
    // Something that could be executed; it never is.
    writeText(`${IMAGE}/program`, "", 0o755);
    const rootfs = mountOverlay(IMAGE, NAME);
    const plan = planOf(rootfs);
    const stdio = { childFds: [-1, -1, -1], closeChildEnds: () => {} };
    const init = plan === undefined ? undefined : await createInit(NAME, plan, stdio);
    if (init === undefined) throw new AgentError("Internal", "cannot rehearse a container");
    watchChild(init.pid, () => {});
    init.close();
    watchOom(NAME, () => {}).stop();
  } finally {
    killCgroup(NAME);
    await cgroupEmptied(NAME);
    notes.push(await removeCgroup(NAME));
    notes.push(...unmountOverlay(NAME), removeTree(IMAGE));
    // What was there for the first container is used up.
    prepareAhead();
    for (const note of notes) if (note !== undefined) log("warn", `rehearsal: ${note}`);
  }
}

function configuration() {
  const capabilities = ["CAP_CHOWN", "CAP_KILL"];
  return {
    ociVersion: "1.2.0",
    process: {
      args: ["/program"],
      cwd: "/",
      env: ["PATH=/bin"],
      user: { uid: 0, gid: 0 },
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      noNewPrivileges: true,
    },
    root: { readonly: false },
    mounts: MOUNTS,
    linux: {
      maskedPaths: ["/proc/kcore"],
      readonlyPaths: ["/proc/sys"],
      resources: {
        devices: [{ allow: false, access: "rwm" }],
        memory: { limit: 32 << 20 },
        cpu: { shares: 1024, quota: 100_000, period: 100_000 },
        pids: { limit: 100 },
      },
    },
  };
}
