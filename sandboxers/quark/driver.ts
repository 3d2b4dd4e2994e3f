/**
 * The quark kind of sandbox: each pod has an application kernel, a program of its own that answers
 * the pod's system calls. Which one follows from the runtime that was asked for. Sandboxes outlive
 * the sandboxer where their kernel's do; the next one takes them over.
 *
 * @module
 */

import type {
  AdoptableSandbox,
  AdoptedSandbox,
  Capabilities,
  Driver,
  SandboxHandle,
} from "../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import type { ContainerSpec, SandboxSpec } from "../lifecycle/spec.ts";
import type { Log } from "../log.ts";
import type { AppKernel, AppKernelName } from "./app_kernel.ts";
import { readRecord, wantedKernel } from "./kernel_choice.ts";
import { KernelSandbox } from "./kernel_handles.ts";

/** What a {@link QuarkDriver} works with. */
export interface QuarkDriverOptions {
  /** The application kernels. */
  readonly kernels: readonly AppKernel[];
  /** The kernel of sandboxes whose runtime names none. */
  readonly defaultKernel: AppKernelName;
  /** Where task calls are taken; undefined without containerd. */
  readonly taskSocket?: string | undefined;
  /** Called when a sandbox was started, with its kernel. */
  onStarted?(kernel: AppKernelName): void;
  /** Called once when all sandboxes of an earlier sandboxer were taken over. */
  recovered?(): Promise<void>;
  /** Called when sandboxes are about to be left to the next process: what is open to clients stays open. */
  keepOpen?(): Promise<void>;
  /** Has somebody hear when the relay of task calls has died; missing without one. */
  onCallersLost?(listener: () => void): void;
  /** Called once when this process is about to leave, with whether sandboxes go on without it. */
  leave?(hasSandboxes: boolean): Promise<void>;
  /** Where notes go. */
  readonly log: Log;
}

/** Runs sandboxes that have an application kernel. */
export class QuarkDriver implements Driver {
  /** The name of this kind. */
  readonly kind = "quark";
  /** What at least one of the kernels can do; a kernel that cannot says so when it is asked to. */
  readonly capabilities: Capabilities;
  readonly #options: QuarkDriverOptions;
  readonly #kernels: ReadonlyMap<AppKernelName, AppKernel>;
  readonly #sandboxes = new Map<string, KernelSandbox>();
  /** Kernels that were chosen for sandboxes that are about to be started. */
  readonly #chosen = new WeakMap<SandboxSpec, AppKernelName>();

  /**
   * Makes the driver; nothing runs yet.
   *
   * @param options See {@link QuarkDriverOptions}.
   */
  constructor(options: QuarkDriverOptions) {
    this.#options = options;
    this.#kernels = new Map(options.kernels.map((kernel) => [kernel.name, kernel]));
    this.capabilities = union(options.kernels);
  }

  /**
   * The kernel of a sandbox.
   *
   * @param id The sandbox.
   * @returns Undefined where there is no such sandbox.
   */
  kernelOf(id: string): AppKernelName | undefined {
    return this.#sandboxes.get(id)?.kernel;
  }

  /**
   * Has a sandbox be started with a kernel, whatever runtime it names.
   *
   * @param spec The sandbox: this very object.
   * @param kernel The kernel.
   */
  startWith(spec: SandboxSpec, kernel: AppKernelName): void {
    this.#chosen.set(spec, kernel);
  }

  /** Starts a sandbox of the kernel that it asks for. */
  async start(spec: SandboxSpec, signal: AbortSignal): Promise<SandboxHandle> {
    const action = `cannot start sandbox "${spec.id}"`;
    throwIfAborted(signal, action);
    const wanted = this.#chosen.get(spec) ?? wantedKernel(spec) ?? this.#options.defaultKernel;
    const kernel = this.#kernel(wanted, action);
    const sandbox = this.#sandbox(kernel, spec, await kernel.start(spec, signal));
    this.#options.onStarted?.(kernel.name);
    return sandbox;
  }

  /** Takes a sandbox over: by the kernel that it was started with. */
  async adopt(sandbox: AdoptableSandbox): Promise<AdoptedSandbox | undefined> {
    const { spec } = sandbox;
    const stored = readRecord(sandbox.record);
    const found = stored?.kernel ?? wantedKernel(spec);
    const action = `cannot take sandbox "${spec.id}" over`;
    // Nothing was stored: the kernel that it was meant for may have been another configuration's.
    const kernels = found === undefined ? this.#options.kernels : [this.#kernel(found, action)];
    for (const kernel of kernels) {
      const adopted = await kernel.adopt({ ...sandbox, record: stored?.record ?? null });
      if (adopted === undefined) continue;
      const handle = this.#sandbox(kernel, spec, adopted.handle);
      const containers = [...adopted.containers].map(([id, container]) =>
        [id, handle.adopted(id, container)] as const
      );
      return { handle, containers: new Map(containers) };
    }
    return undefined;
  }

  /** Refuses what the container's kernel can never run. */
  validate(spec: ContainerSpec): void {
    const kernel = this.#sandboxes.get(spec.sandboxId)?.kernel;
    if (kernel !== undefined) this.#kernels.get(kernel)?.validate?.(spec);
  }

  /** Ends what belongs to no sandbox. */
  async recovered(): Promise<void> {
    await this.#each(
      "cannot clean up after an earlier sandboxer",
      (kernel) => kernel.recovered?.(),
    );
    await this.#options.recovered?.();
  }

  /** See {@link Driver.onCallersLost}. */
  onCallersLost(listener: () => void): void {
    this.#options.onCallersLost?.(listener);
  }

  /** Leaves the sandboxes to the next sandboxer. */
  async leave(): Promise<void> {
    const hasSandboxes = this.#sandboxes.size > 0;
    if (hasSandboxes) await this.#options.keepOpen?.();
    await this.#each("cannot leave sandboxes in order", (kernel) => kernel.leave?.());
    await this.#options.leave?.(hasSandboxes);
  }

  /** One kernel that fails is no reason to leave out the others. */
  async #each(message: string, effect: (kernel: AppKernel) => Promise<void> | undefined) {
    for (const kernel of this.#kernels.values()) {
      try {
        await effect(kernel);
      } catch (error) {
        const { log } = this.#options;
        log.error(message, { kernel: kernel.name, error: SandboxError.from(error) });
      }
    }
  }

  #kernel(name: AppKernelName, action: string): AppKernel {
    const kernel = this.#kernels.get(name);
    if (kernel !== undefined) return kernel;
    throw new SandboxError(
      "FailedPrecondition",
      `${action}: the application kernel "${name}" is not there`,
    );
  }

  #sandbox(kernel: AppKernel, spec: SandboxSpec, handle: SandboxHandle): KernelSandbox {
    const sandbox: KernelSandbox = new KernelSandbox({
      kernel,
      spec,
      handle,
      taskSocket: this.#options.taskSocket,
      onStopped: () => {
        if (this.#sandboxes.get(spec.id) === sandbox) this.#sandboxes.delete(spec.id);
      },
    });
    this.#sandboxes.set(spec.id, sandbox);
    return sandbox;
  }
}

function union(kernels: readonly AppKernel[]): Capabilities {
  const some = (name: keyof Capabilities) => kernels.some(({ capabilities }) => capabilities[name]);
  return {
    exec: some("exec"),
    pause: some("pause"),
    updateContainer: some("updateContainer"),
    updateSandbox: some("updateSandbox"),
    terminal: some("terminal"),
  };
}
