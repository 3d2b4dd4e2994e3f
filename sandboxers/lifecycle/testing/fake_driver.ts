/**
 * A kind of sandbox for tests. Everything it does goes through a {@link Gate}, where it can be held
 * or made to fail, and happens on a {@link FakeHost}, where it is counted.
 *
 * @module
 */

import type {
  AdoptableSandbox,
  AdoptedContainer,
  AdoptedSandbox,
  Capabilities,
  ContainerHandle,
  Driver,
  ProcessHandle,
  SandboxHandle,
} from "../driver.ts";
import { SandboxError } from "../errors.ts";
import type { ContainerSpec, Exit, SandboxSpec, Stats } from "../spec.ts";
import type { FakeClock } from "./fake_clock.ts";
import { FakeHost, type HostContainer, type HostProcess, type HostSandbox } from "./fake_host.ts";
import { type Gate, openGate } from "./gate.ts";

/** All abilities. */
export const ALL_CAPABILITIES: Capabilities = {
  exec: true,
  pause: true,
  updateContainer: true,
  updateSandbox: true,
  terminal: true,
};

/** How a {@link FakeDriver} is made. */
export interface FakeDriverOptions {
  /** Where it all happens. */
  readonly host?: FakeHost;
  /** What each effect has to pass. */
  readonly gate?: Gate;
  /** When exits are. */
  readonly clock?: Pick<FakeClock, "now">;
  /** Abilities that it lacks. */
  readonly capabilities?: Partial<Capabilities>;
  /** Whether the containers of a sandbox outlive the sandboxer process. */
  readonly outlives?: (sandboxId: string) => boolean;
  /** Whether a call takes no notice of its signal, this time. */
  readonly deaf?: () => boolean;
  /** Whether SIGTERM ends a process, this time. */
  readonly obeys?: () => boolean;
  /** Whether a container whose init has ended is still adopted, this time. */
  readonly keepsDead?: () => boolean;
}

/** Signals that end any process: SIGKILL, and SIGTERM where it is obeyed. */
const SIGKILL = 9;
const SIGTERM = 15;

/** A driver whose sandboxes are numbers. */
export class FakeDriver implements Driver {
  readonly kind = "fake";
  /** See {@link Driver.capabilities}. */
  readonly capabilities: Capabilities;
  /** Where it all happens. */
  readonly host: FakeHost;
  readonly #options: Required<Omit<FakeDriverOptions, "host" | "capabilities">>;

  /**
   * A driver that has started nothing.
   *
   * @param options What differs from a driver that can do everything and never fails.
   */
  constructor(options: FakeDriverOptions = {}) {
    const { host = new FakeHost(), capabilities, ...rest } = options;
    this.host = host;
    this.capabilities = { ...ALL_CAPABILITIES, ...capabilities };
    this.#options = {
      gate: openGate,
      clock: Date,
      outlives: () => true,
      deaf: () => false,
      obeys: () => true,
      keepsDead: () => true,
      ...rest,
    };
  }

  /** See {@link Driver.start}. */
  async start(spec: SandboxSpec, signal: AbortSignal): Promise<SandboxHandle> {
    const sandbox = await this.#building(
      "driver.start",
      signal,
      () => this.host.addSandbox(spec),
      (half) => this.host.removeSandbox(half, this.#now()),
    );
    sandbox.up = true;
    return this.#sandboxHandle(sandbox);
  }

  /** See {@link Driver.adopt}. */
  async adopt({ spec, containers }: AdoptableSandbox): Promise<AdoptedSandbox | undefined> {
    await this.#options.gate.pass("driver.adopt");
    const sandbox = this.host.sandboxes.get(spec.id);
    if (sandbox === undefined) return undefined;
    if (!sandbox.up || sandbox.life.exit !== undefined) {
      this.host.removeSandbox(sandbox, this.#now());
      return undefined;
    }
    sandbox.stopping = false;
    sandbox.busy = 0;
    const adopted = new Map<string, AdoptedContainer>();
    const known = new Set(containers.map((container) => container.spec.id));
    for (const container of [...sandbox.containers.values()]) {
      if (this.#adoptable(sandbox, container) && known.has(container.spec.id)) {
        adopted.set(container.spec.id, this.#adoptedContainer(sandbox, container));
      } else {
        this.host.removeContainer(sandbox, container, this.#now());
      }
    }
    return { handle: this.#sandboxHandle(sandbox), containers: adopted };
  }

  #adoptable(sandbox: HostSandbox, container: HostContainer): boolean {
    if (!this.#options.outlives(sandbox.spec.id)) return false;
    if (!container.made || container.deleting) return false;
    const init = container.processes.get("");
    return init?.exit === undefined || this.#options.keepsDead();
  }

  #adoptedContainer(sandbox: HostSandbox, container: HostContainer): AdoptedContainer {
    container.started = container.processes.has("");
    const processes = new Map<string, ProcessHandle>();
    for (const [execId, process] of container.processes) {
      if (process.exit === undefined || execId === "") {
        processes.set(execId, this.#processHandle(process));
      }
    }
    const handle = this.#containerHandle(sandbox, container);
    return { handle, paused: container.paused, processes };
  }

  #sandboxHandle(sandbox: HostSandbox): SandboxHandle {
    const exited = this.#news("driver.sandbox-exited", sandbox.life);
    return {
      pid: sandbox.pid,
      record: { sandbox: sandbox.spec.id },
      outlivesSandboxer: this.#options.outlives(sandbox.spec.id),
      exited,
      createContainer: (spec, signal) => this.#createContainer(sandbox, spec, signal),
      update: () => this.#options.gate.pass("driver.update-sandbox"),
      stats: () => this.#stats("driver.sandbox-stats"),
      stop: () => this.#stop(sandbox, exited),
    };
  }

  async #stop(sandbox: HostSandbox, exited: Promise<Exit>): Promise<void> {
    if (sandbox.busy > 0) this.host.blame(`sandbox ${sandbox.spec.id} was stopped while it worked`);
    sandbox.stopping = true;
    await this.#options.gate.pass("driver.stop");
    this.host.endSandbox(sandbox, { status: 0, at: this.#now(), reason: "signaled" });
    await this.#options.gate.pass("driver.stop-half");
    this.host.removeSandbox(sandbox, this.#now());
    await exited;
  }

  async #createContainer(
    sandbox: HostSandbox,
    spec: ContainerSpec,
    signal: AbortSignal,
  ): Promise<ContainerHandle> {
    return await this.#working(sandbox, `container ${spec.id}`, async () => {
      const container = await this.#building(
        "driver.create-container",
        signal,
        () => {
          mustRun(sandbox);
          return this.host.addContainer(sandbox, spec);
        },
        (half) => this.host.removeContainer(sandbox, half, this.#now()),
      );
      container.made = true;
      return this.#containerHandle(sandbox, container);
    });
  }

  #containerHandle(sandbox: HostSandbox, container: HostContainer): ContainerHandle {
    const { gate } = this.#options;
    const pass = async (step: string): Promise<void> => {
      await gate.pass(step);
      mustRun(sandbox);
    };
    const freeze = (paused: boolean) => async (): Promise<void> => {
      await pass(paused ? "driver.pause" : "driver.resume");
      container.paused = paused;
    };
    return {
      record: { container: container.spec.id },
      start: (signal) => this.#startInit(sandbox, container, signal),
      exec: (spec, signal) => this.#startProcess(sandbox, container, spec.id, signal),
      pause: freeze(true),
      resume: freeze(false),
      update: () => pass("driver.update-container"),
      pids: async () => {
        await pass("driver.pids");
        return [...container.processes.values()]
          .filter(({ exit }) => exit === undefined)
          .map(({ pid }) => pid);
      },
      stats: () => this.#stats("driver.container-stats"),
      delete: async () => {
        container.deleting = true;
        await gate.pass("driver.delete-container");
        this.host.removeContainer(sandbox, container, this.#now());
      },
    };
  }

  async #startInit(
    sandbox: HostSandbox,
    container: HostContainer,
    signal: AbortSignal,
  ): Promise<ProcessHandle> {
    if (container.started) this.host.blame(`container ${container.spec.id} was started twice`);
    container.started = true;
    try {
      return await this.#startProcess(sandbox, container, "", signal);
    } catch (error) {
      container.started = false;
      throw error;
    }
  }

  #startProcess(
    sandbox: HostSandbox,
    container: HostContainer,
    execId: string,
    signal: AbortSignal,
  ): Promise<ProcessHandle> {
    const name = `process ${container.spec.id}/${execId}`;
    if (container.deleting) this.host.blame(`${name} was started in a deleted container`);
    return this.#working(sandbox, name, async () => {
      const process = await this.#building(
        execId === "" ? "driver.start-process" : "driver.exec",
        signal,
        () => {
          mustRun(sandbox);
          return this.host.addProcess(container, execId);
        },
        (half) => {
          half.end({ status: 137, at: this.#now(), reason: "signaled" });
          container.processes.delete(execId);
        },
      );
      return this.#processHandle(process);
    });
  }

  #processHandle(process: HostProcess): ProcessHandle {
    const { gate } = this.#options;
    return {
      pid: process.pid,
      exited: this.#news("driver.process-exited", process),
      kill: async (signal) => {
        await gate.pass("driver.kill");
        const ends = signal === SIGKILL || (signal === SIGTERM && this.#options.obeys());
        if (ends) process.end({ status: 128 + signal, at: this.#now(), reason: "signaled" });
      },
      resize: () => gate.pass("driver.resize"),
      closeStdin: () => gate.pass("driver.close-stdin"),
    };
  }

  /** An exit as this sandboxer hears of it: some time after it happened. */
  async #news(step: string, process: HostProcess): Promise<Exit> {
    const exit = await process.ended;
    await this.#options.gate.delay(step);
    return exit;
  }

  async #stats(step: string): Promise<Stats> {
    await this.#options.gate.pass(step);
    return { at: this.#now(), cpuNs: 1, memoryBytes: 1, pids: 1 };
  }

  /** Work in a sandbox that a stop has to wait for. */
  async #working<T>(sandbox: HostSandbox, name: string, work: () => Promise<T>): Promise<T> {
    if (sandbox.stopping) this.host.blame(`${name} was begun in a stopped sandbox`);
    sandbox.busy++;
    try {
      return await work();
    } finally {
      sandbox.busy--;
    }
  }

  /** Makes something in two steps; where the second fails or is aborted the first is undone. */
  async #building<T>(
    step: string,
    signal: AbortSignal,
    begin: () => T,
    undo: (half: T) => void,
  ): Promise<T> {
    const heeds = this.#options.deaf() ? undefined : signal;
    await this.#pass(step, heeds);
    const half = begin();
    try {
      await this.#pass(`${step}-half`, heeds);
      return half;
    } catch (error) {
      undo(half);
      throw error;
    }
  }

  async #pass(step: string, signal: AbortSignal | undefined): Promise<void> {
    if (signal === undefined) return await this.#options.gate.pass(step);
    signal.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    const abort = (): void => aborted.reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    try {
      await Promise.race([this.#options.gate.pass(step), aborted.promise]);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  #now(): number {
    return this.#options.clock.now();
  }
}

function mustRun(sandbox: HostSandbox): void {
  if (sandbox.life.exit === undefined) return;
  throw new SandboxError("Unavailable", `sandbox "${sandbox.spec.id}" has ended`);
}
