/**
 * What an application kernel must do to be a backend of the quark kind: a program outside of this
 * process that answers every system call of a pod. gVisor (`gvisor/`) and Quark (`quark/`) are two.
 *
 * @module
 */

import type {
  AdoptableSandbox,
  AdoptedSandbox,
  Capabilities,
  SandboxHandle,
} from "../lifecycle/driver.ts";
import type { ContainerSpec, SandboxSpec } from "../lifecycle/spec.ts";

/** The application kernels there are. */
export const APP_KERNELS = ["gvisor", "quark"] as const;

/** The name of an application kernel. */
export type AppKernelName = typeof APP_KERNELS[number];

/**
 * An application kernel. The rules of {@link import("../lifecycle/driver.ts").Driver} hold for every
 * call: bounded time, nothing left behind by a call that failed, `stop` and `delete` repeatable.
 */
export interface AppKernel {
  /** Which one it is. */
  readonly name: AppKernelName;
  /** What it can do beyond the least. */
  readonly capabilities: Capabilities;
  /**
   * Starts a sandbox: the kernel's process, with no container in it yet.
   *
   * @param spec The sandbox; already validated.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} `FailedPrecondition` where the kernel's program is not there or cannot run
   *   here, with what to do.
   */
  start(spec: SandboxSpec, signal: AbortSignal): Promise<SandboxHandle>;
  /**
   * Takes a sandbox over from an earlier sandboxer process.
   *
   * @param sandbox What the store says of it.
   * @returns Undefined when it is gone; then nothing is left of it.
   */
  adopt(sandbox: AdoptableSandbox): Promise<AdoptedSandbox | undefined>;
  /** Refuses a container that it can never run, before anything is done for it. */
  validate?(spec: ContainerSpec): void;
  /** Ends what belongs to no sandbox; called once after the last {@link AppKernel.adopt}. */
  recovered?(): Promise<void>;
  /** Gives up what is kept for later sandboxes; those that run go on. */
  leave?(): Promise<void>;
}
