/**
 * Puts gVisor together from the configuration: finds out what the installed runsc can do on this
 * host, and makes the kernel that works so.
 *
 * @module
 */

import { dirname } from "node:path";
import { DEFAULT_PAUSE_ROOT } from "../../host/launcher_file.ts";
import type { NetworkSpec } from "../../lifecycle/spec.ts";
import { removeTree } from "../../removal.ts";
import type { KernelBase } from "../kernel_base.ts";
import { runscIdentity } from "./choice_memory.ts";
import { Gvisor } from "./kernel.ts";
import { chooseNetwork } from "./network.ts";
import { choosePlatform } from "./platform.ts";
import { runscProbe } from "./probe.ts";
import { type NetworkStack, Runsc, type RunscOptions } from "./runsc.ts";
import { checkRunsc } from "./runsc_version.ts";

/** How long finding out may take, in milliseconds. */
const CHOICE_MS = 60_000;

/**
 * Where runsc notes its sandboxes.
 *
 * @param directory The directory of the kernel.
 */
export function gvisorRoot(directory: string): string {
  return `${directory}/root`;
}

/**
 * Makes the kernel. What the installed runsc can do is found out when it is needed: the first time
 * after a start of the host this takes a moment, as small containers are run.
 *
 * @param base What kernels are made with.
 * @param check Fails where a file is missing that the kernel needs.
 */
export async function openGvisor(base: KernelBase, check: () => Promise<void>): Promise<Gvisor> {
  const { config: { gvisor }, directory, launcher, log } = base;
  // What is left there is of calls that an earlier sandboxer did not see end.
  const logs = `${directory}/logs`;
  await removeTree(logs);
  await Deno.mkdir(logs, { recursive: true, mode: 0o700 });
  let finding: Promise<RunscOptions> | undefined;
  const find = async () => {
    finding ??= check().then(() => findOut(base));
    try {
      return await finding;
    } catch (error) {
      finding = undefined;
      throw error;
    }
  };
  return new Gvisor({
    launcher,
    mounter: base.mounter,
    runsc: async ({ network, ignoresCgroups }) => {
      const common = await find();
      return new Runsc({
        ...common,
        network: stackOf(network, common.network),
        ignoresCgroups,
      });
    },
    root: gvisorRoot(directory),
    stateDirectory: dirname(directory),
    podDirectory: `${directory}/pods`,
    pauseRoot: DEFAULT_PAUSE_ROOT,
    rawSockets: gvisor.rawSockets,
    connect: base.connect,
    holder: base.holder,
    outlivesSandboxer: base.outlivesSandboxer,
    observer: base.observer,
    log,
  });
}

/** Where the network of a pod is. */
function stackOf(network: NetworkSpec["kind"], stack: NetworkStack): NetworkStack {
  switch (network) {
    case "host":
      return "host";
    case "namespace":
      return stack;
    default:
      return "none";
  }
}

/**
 * Finds out how the installed runsc works here.
 *
 * @throws {SandboxError} `FailedPrecondition` where runsc cannot run here, with what to do.
 */
async function findOut(base: KernelBase): Promise<RunscOptions> {
  const { config: { gvisor }, directory, sharedDirectory, launcher, log } = base;
  const program = gvisor.path;
  const signal = AbortSignal.timeout(CHOICE_MS);
  const { version, problem } = await checkRunsc(program);
  if (problem !== undefined) {
    log.warn("this runsc is known to crash", { program, version, problem });
  }
  const choice = {
    facts: await launcher.facts(),
    runsc: await runscIdentity(program, version),
    probe: runscProbe({ program, launcher, directory: `${directory}/try` }),
    log,
  };
  const { platform } = await choosePlatform({
    ...choice,
    wanted: gvisor.platform,
    memoryFile: `${sharedDirectory}/gvisor-platform.json`,
  }, signal);
  const { network, hidesNetworkSettings } = await chooseNetwork({
    ...choice,
    wanted: gvisor.network,
    platform,
    memoryFile: `${sharedDirectory}/gvisor-network.json`,
  }, signal);
  return {
    program,
    launcher,
    root: gvisorRoot(directory),
    logs: `${directory}/logs`,
    platform,
    network,
    hidesNetworkSettings,
    overlay: gvisor.overlay,
    directfs: gvisor.directfs,
    fileAccess: gvisor.fileAccess,
    rawSockets: gvisor.rawSockets,
    seccomp: gvisor.seccomp,
    ...(gvisor.debug ? { debugLogs: `${directory}/debug` } : {}),
    extraFlags: gvisor.extraArgs,
    timeoutMs: gvisor.commandTimeoutInS * 1000,
  };
}
