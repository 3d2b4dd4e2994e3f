/**
 * The machine below a {@link FakeDriver}: what really runs on it. It outlives sandboxer processes, it
 * counts every handle that is live, and it notes when somebody breaks the rules of `driver.ts`.
 *
 * @module
 */

import type { ContainerSpec, Exit, SandboxSpec } from "../spec.ts";

/** A process that runs or has run. */
export class HostProcess {
  /** Set once it has ended. */
  exit: Exit | undefined;
  /** Resolves when it ends. */
  readonly ended: Promise<Exit>;
  readonly #resolve: (exit: Exit) => void;

  /**
   * A process that runs.
   *
   * @param pid Its process id.
   */
  constructor(readonly pid: number) {
    const { promise, resolve } = Promise.withResolvers<Exit>();
    this.ended = promise;
    this.#resolve = resolve;
  }

  /** Ends it; only the first time counts. */
  end(exit: Exit): void {
    if (this.exit !== undefined) return;
    this.exit = exit;
    this.#resolve(exit);
  }
}

/** A container that takes up room. */
export interface HostContainer {
  /** What was asked for. */
  readonly spec: ContainerSpec;
  /** False while it is being made. */
  made: boolean;
  /** Whether its init process was started, with success or still under way. */
  started: boolean;
  /** Whether it is frozen. */
  paused: boolean;
  /** Set once its delete was called: nothing may be started in it any more. */
  deleting: boolean;
  /** By exec id. */
  readonly processes: Map<string, HostProcess>;
}

/** A sandbox that takes up room. */
export interface HostSandbox {
  /** What was asked for. */
  readonly spec: SandboxSpec;
  /** Its process id. */
  readonly pid: number;
  /** False while it is being started. */
  up: boolean;
  /** Set while a stop is under way or has succeeded: nothing may be made in it any more. */
  stopping: boolean;
  /** Effects under way in it that a stop has to wait for. */
  busy: number;
  /** Ends when the sandbox does. */
  readonly life: HostProcess;
  /** By id. */
  readonly containers: Map<string, HostContainer>;
}

/** The machine. */
export class FakeHost {
  /** By id. */
  readonly sandboxes = new Map<string, HostSandbox>();
  /** What broke the rules, in words. */
  readonly violations: string[] = [];
  #nextPid = 100;

  /** Everything that is live now, in words: sandboxes, containers, processes. */
  live(): string[] {
    const names: string[] = [];
    for (const [id, sandbox] of this.sandboxes) {
      names.push(`sandbox ${id}`);
      for (const [containerId, container] of sandbox.containers) {
        names.push(`container ${containerId}`);
        for (const [execId, process] of container.processes) {
          if (process.exit === undefined) names.push(`process ${containerId}/${execId}`);
        }
      }
    }
    return names;
  }

  /** Every process that runs. */
  running(): HostProcess[] {
    return [...this.sandboxes.values()]
      .flatMap((sandbox) => [...sandbox.containers.values()])
      .flatMap((container) => [...container.processes.values()])
      .filter((process) => process.exit === undefined);
  }

  /** A container wherever it is. */
  container(id: string): HostContainer | undefined {
    for (const sandbox of this.sandboxes.values()) {
      const container = sandbox.containers.get(id);
      if (container !== undefined) return container;
    }
    return undefined;
  }

  /** Notes that a rule was broken. */
  blame(violation: string): void {
    this.violations.push(violation);
  }

  /** Takes up room for a sandbox. */
  addSandbox(spec: SandboxSpec): HostSandbox {
    if (this.sandboxes.has(spec.id)) this.blame(`sandbox ${spec.id} was started twice`);
    const sandbox: HostSandbox = {
      spec,
      pid: this.#nextPid++,
      up: false,
      stopping: false,
      busy: 0,
      life: new HostProcess(0),
      containers: new Map(),
    };
    this.sandboxes.set(spec.id, sandbox);
    return sandbox;
  }

  /** Takes up room for a container. */
  addContainer(sandbox: HostSandbox, spec: ContainerSpec): HostContainer {
    if (this.container(spec.id) !== undefined) this.blame(`container ${spec.id} was made twice`);
    const container: HostContainer = {
      spec,
      made: false,
      started: false,
      paused: false,
      deleting: false,
      processes: new Map(),
    };
    sandbox.containers.set(spec.id, container);
    return container;
  }

  /** Starts a process. */
  addProcess(container: HostContainer, execId: string): HostProcess {
    if (container.processes.get(execId)?.exit === undefined && container.processes.has(execId)) {
      this.blame(`process ${container.spec.id}/${execId} was started twice`);
    }
    const process = new HostProcess(this.#nextPid++);
    container.processes.set(execId, process);
    return process;
  }

  /** Ends all processes of a container and frees its room. */
  removeContainer(sandbox: HostSandbox, container: HostContainer, at: number): void {
    this.#endProcesses(container, at);
    if (sandbox.containers.get(container.spec.id) === container) {
      sandbox.containers.delete(container.spec.id);
    }
  }

  /** Ends a sandbox; what runs in it dies, its room stays taken until it is removed. */
  endSandbox(sandbox: HostSandbox, exit: Exit): void {
    for (const container of sandbox.containers.values()) this.#endProcesses(container, exit.at);
    sandbox.life.end(exit);
  }

  /** Ends a sandbox with all in it and frees its room. */
  removeSandbox(sandbox: HostSandbox, at: number): void {
    this.endSandbox(sandbox, { status: 0, at, reason: "signaled" });
    sandbox.containers.clear();
    if (this.sandboxes.get(sandbox.spec.id) === sandbox) this.sandboxes.delete(sandbox.spec.id);
  }

  /** The machine loses its power. */
  powerOff(at: number): void {
    for (const sandbox of [...this.sandboxes.values()]) this.removeSandbox(sandbox, at);
  }

  #endProcesses(container: HostContainer, at: number): void {
    for (const process of container.processes.values()) {
      process.end({ status: 137, at, reason: "signaled" });
    }
  }
}
