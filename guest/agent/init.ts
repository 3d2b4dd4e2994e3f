/**
 * Makes containers without crun: their cgroups with limits, then the native `create`, which builds
 * the root and leaves a first process that waits to be let go. Under emulation that takes far less
 * than a program that was never run before.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type { Json } from "../protocol/messages.ts";
import {
  makeCgroup,
  openCgroup,
  prepareCgroup,
  readCgroupFile,
  removeCgroup,
  writeLimits,
} from "./cgroups.ts";
import { COVER, type CreationPlan, operationTarget } from "./creation.ts";
import { deviceFilter } from "./device_filter.ts";
import { enterFailure, readReport, STEP_CWD, STEP_EXECUTE } from "./enter.ts";
import { EPIPE, errnoName, must } from "./errno.ts";
import { makeDirectory } from "./files.ts";
import { limitWrites } from "./limits.ts";
import { log } from "./log.ts";
import { watchChild } from "./processes.ts";
import type { ProcessStdio } from "./stdio.ts";
import * as sys from "./sys.js";

/** What containerd says for a container that asks for no device. */
const PLAIN_RULES: readonly Json[] = [{ allow: false, access: "rwm" }];

/** Operations that failed are counted from here; see `native/entering.h`. */
const STEP_OPERATIONS = 100;

/** The first process of a container, which waits to be let go. */
export interface WaitingInit {
  /** Its process id. */
  readonly pid: number;
  /**
   * Lets it go; once.
   *
   * @throws AgentError `FailedPrecondition` where it has ended.
   */
  letGo(): void;
  /** Gives it up where it was not let go: it ends. May be called more than once. */
  close(): void;
}

/**
 * Makes a container.
 *
 * @param container Its id.
 * @param plan How.
 * @param stdio The streams of its first process; the ends for the child are closed where this
 *   succeeds, and where it throws.
 * @returns undefined where the guest refused something that crun may find a way around; nothing is
 *   left then.
 * @throws AgentError Where its program or its working directory is not there, in the words of runc.
 */
export async function createInit(
  container: string,
  plan: CreationPlan,
  stdio: Pick<ProcessStdio, "childFds" | "closeChildEnds">,
): Promise<WaitingInit | undefined> {
  const action = `cannot create the container "${container}"`;
  let made: WaitingInit | readonly [number, number];
  try {
    made = await tryCreate(container, plan, stdio);
  } catch (thrown) {
    await removeCgroup(container);
    log("warn", `${action} without crun: ${thrown instanceof Error ? thrown.message : thrown}`);
    return undefined;
  }
  if ("pid" in made) {
    stdio.closeChildEnds();
    return made;
  }
  const [step, errno] = made;
  await removeCgroup(container);
  if (step === STEP_CWD || step === STEP_EXECUTE) {
    stdio.closeChildEnds();
    throw enterFailure(action, plan.process, step, errno);
  }
  const what = step >= STEP_OPERATIONS
    ? `"${operationTarget(plan, step - STEP_OPERATIONS)}"`
    : `step ${step}`;
  log("warn", `${action} without crun: ${what}: ${errnoName(errno)}`);
  return undefined;
}

/** Answers the waiting process; or the step that failed, and the errno. */
async function tryCreate(
  container: string,
  plan: CreationPlan,
  stdio: Pick<ProcessStdio, "childFds">,
): Promise<WaitingInit | readonly [number, number]> {
  const { process, root, readonly, texts, numbers, devices, resources } = plan;
  makeDirectory(COVER, 0o555);
  makeCgroup(container);
  const cgroup = openCgroup(container);
  let started: readonly [number, number, number] | number;
  try {
    if (devices.length > 0) {
      filterDevices(cgroup, devices);
    }
    writeLimits(container, limitWrites(resources, readCgroupFile(container, "cpu.max")));
    const fds = stdio.childFds;
    started = sys.create({ ...process, cgroup, fds, root, readonly, texts, numbers });
  } finally {
    sys.close(cgroup);
  }
  if (typeof started === "number") {
    throw new AgentError("Internal", `cannot make a process: ${errnoName(started)}`);
  }
  const [pid, report, letting] = started;
  const said = await readReport(report);
  if (said?.[0] === 0) return new NativeInit(container, pid, letting);
  sys.close(letting);
  watchChild(pid, () => {});
  if (said === undefined) throw new AgentError("Internal", "its process has ended");
  return said;
}

/** A filter for devices that the kernel has already, by its rules. */
let ready: { readonly rules: string; readonly fd: number } | undefined;

/**
 * Does ahead what every plain container needs: the kernel takes its time to look through a filter.
 *
 * @throws AgentError What the kernel refused.
 */
export function prepareInit(): void {
  makeDirectory(COVER, 0o555);
  prepareCgroup();
  ready ??= { rules: JSON.stringify(PLAIN_RULES), fd: loadFilter(PLAIN_RULES) };
}

function filterDevices(cgroup: number, rules: readonly Json[]): void {
  const isReady = ready?.rules === JSON.stringify(rules);
  const fd = isReady && ready !== undefined ? ready.fd : loadFilter(rules);
  try {
    must("cannot set the rules for devices", sys.filterDevices(cgroup, fd));
  } finally {
    if (!isReady) sys.close(fd);
  }
}

function loadFilter(rules: readonly Json[]): number {
  const what = "cannot read the rules for devices";
  const program = deviceFilter(rules);
  if (program === undefined) throw new AgentError("InvalidArgument", what);
  return must(what, sys.loadDeviceFilter(program, 0, program.byteLength));
}

class NativeInit implements WaitingInit {
  readonly #container: string;
  #fd: number;

  constructor(container: string, readonly pid: number, fd: number) {
    this.#container = container;
    this.#fd = fd;
  }

  letGo(): void {
    const action = `cannot start the container "${this.#container}"`;
    const answer = this.#fd < 0 ? -EPIPE : sys.write(this.#fd, new ArrayBuffer(1), 0, 1);
    this.close();
    if (answer === -EPIPE) {
      throw new AgentError("FailedPrecondition", `${action}: its process has ended`);
    }
    must(action, answer);
  }

  close(): void {
    if (this.#fd >= 0) sys.close(this.#fd);
    this.#fd = -1;
  }
}
