/**
 * Sandboxes and containers of an application kernel as the lifecycle sees them. All kernels of the
 * kind answer to one set of capabilities; what the kernel at hand cannot do is refused here.
 *
 * @module
 */

import type {
  AdoptedContainer,
  Capabilities,
  ContainerHandle,
  ProcessHandle,
  SandboxHandle,
} from "../lifecycle/driver.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type {
  ContainerSpec,
  ExecSpec,
  Exit,
  Json,
  ResourceSpec,
  SandboxSpec,
  Stats,
} from "../lifecycle/spec.ts";
import type { AppKernel, AppKernelName } from "./app_kernel.ts";
import { storedRecord } from "./kernel_choice.ts";

/** What a {@link KernelSandbox} is made of. */
export interface KernelSandboxParts {
  /** Its kernel. */
  readonly kernel: AppKernel;
  /** What was asked for. */
  readonly spec: SandboxSpec;
  /** The kernel's handle. */
  readonly handle: SandboxHandle;
  /** Where its task calls are taken, unless the kernel says so; undefined without containerd. */
  readonly taskSocket: string | undefined;
  /** Called each time that it was stopped. */
  onStopped(): void;
}

/** A sandbox of an application kernel. */
export class KernelSandbox implements SandboxHandle {
  /** Where task calls to its containers are taken; missing for the sandboxer's own socket. */
  declare readonly taskSocket?: string;
  /** What was asked for. */
  readonly spec: SandboxSpec;
  readonly #parts: KernelSandboxParts;
  readonly #refusals: Refusals;

  /**
   * Stands for a sandbox that runs.
   *
   * @param parts See {@link KernelSandboxParts}.
   */
  constructor(parts: KernelSandboxParts) {
    const { kernel, spec, handle } = parts;
    this.#parts = parts;
    this.spec = spec;
    this.#refusals = new Refusals(kernel, `sandbox "${spec.id}"`);
    const socket = handle.taskSocket ??
      (handle.outlivesSandboxer === true ? parts.taskSocket : undefined);
    if (socket !== undefined) this.taskSocket = socket;
  }

  /** Its kernel's name. */
  get kernel(): AppKernelName {
    return this.#parts.kernel.name;
  }

  /** The process id of the kernel. */
  get pid(): number {
    return this.#parts.handle.pid;
  }

  /** Which kernel it has, and what that needs to find it again. */
  get record(): Json {
    return storedRecord({ kernel: this.kernel, record: this.#parts.handle.record });
  }

  /** Settles when it has ended. */
  get exited(): Promise<Exit> {
    return this.#parts.handle.exited;
  }

  /** Whether its containers outlive this process. */
  get outlivesSandboxer(): boolean {
    return this.#parts.handle.outlivesSandboxer ?? false;
  }

  /** Makes a container ready. */
  async createContainer(spec: ContainerSpec, signal: AbortSignal): Promise<ContainerHandle> {
    if (spec.stdio.terminal) this.#refusals.check("terminal", "make a terminal");
    const handle = await this.#parts.handle.createContainer(spec, signal);
    return this.container(spec.id, handle);
  }

  /**
   * Stands for a container of this sandbox.
   *
   * @param id The container.
   * @param handle The kernel's handle.
   */
  container(id: string, handle: ContainerHandle): ContainerHandle {
    return new KernelContainer(this.#parts.kernel, id, handle);
  }

  /**
   * Stands for a container that the kernel took over.
   *
   * @param id The container.
   * @param adopted What the kernel says of it.
   */
  adopted(id: string, adopted: AdoptedContainer): AdoptedContainer {
    return { ...adopted, handle: this.container(id, adopted.handle) };
  }

  /** Changes its limits. */
  async update(resources: ResourceSpec): Promise<void> {
    this.#refusals.check("updateSandbox", "update");
    await this.#parts.handle.update?.(resources);
  }

  /** What it uses. */
  stats(): Promise<Stats> {
    return this.#parts.handle.stats();
  }

  /** Ends it with all it holds. */
  async stop(graceMs: number): Promise<void> {
    await this.#parts.handle.stop(graceMs);
    this.#parts.onStopped();
  }
}

/** A container of an application kernel. */
class KernelContainer implements ContainerHandle {
  readonly #handle: ContainerHandle;
  readonly #refusals: Refusals;

  constructor(kernel: AppKernel, id: string, handle: ContainerHandle) {
    this.#handle = handle;
    this.#refusals = new Refusals(kernel, `container "${id}"`);
  }

  get record(): Json {
    return this.#handle.record;
  }

  start(signal: AbortSignal): Promise<ProcessHandle> {
    return this.#handle.start(signal);
  }

  async exec(spec: ExecSpec, signal: AbortSignal): Promise<ProcessHandle> {
    this.#refusals.check("exec", "exec in");
    if (spec.stdio.terminal) this.#refusals.check("terminal", "make a terminal in");
    const process = this.#handle.exec?.(spec, signal);
    return await (process ?? Promise.reject(this.#refusals.error("exec in")));
  }

  async pause(): Promise<void> {
    this.#refusals.check("pause", "pause");
    await this.#handle.pause?.();
  }

  async resume(): Promise<void> {
    this.#refusals.check("pause", "resume");
    await this.#handle.resume?.();
  }

  async update(resources: ResourceSpec): Promise<void> {
    this.#refusals.check("updateContainer", "update");
    await this.#handle.update?.(resources);
  }

  pids(): Promise<readonly number[]> {
    return this.#handle.pids();
  }

  stats(): Promise<Stats> {
    return this.#handle.stats();
  }

  delete(): Promise<void> {
    return this.#handle.delete();
  }
}

/** Refuses what a kernel cannot do. */
class Refusals {
  constructor(
    readonly kernel: Pick<AppKernel, "name" | "capabilities">,
    readonly what: string,
  ) {}

  /** @throws {SandboxError} `Unimplemented`. */
  check(capability: keyof Capabilities, action: string): void {
    if (!this.kernel.capabilities[capability]) throw this.error(action);
  }

  error(action: string): SandboxError {
    const { kernel, what } = this;
    return new SandboxError(
      "Unimplemented",
      `cannot ${action} ${what}: the application kernel ${kernel.name} cannot do that`,
    );
  }
}
