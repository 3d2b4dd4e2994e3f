/**
 * A kind of sandbox for tests: its processes are promises that the test ends.
 *
 * @module
 */

import type {
  Capabilities,
  ContainerHandle,
  Driver,
  ProcessHandle,
  SandboxHandle,
} from "../../sandboxers/lifecycle/driver.ts";
import type {
  ContainerSpec,
  ExecSpec,
  Exit,
  ResourceSpec,
  SandboxSpec,
} from "../../sandboxers/lifecycle/spec.ts";

/** A running process of a {@link FakeDriver}. */
export class FakeProcess implements ProcessHandle {
  /** See {@link ProcessHandle.pid}. */
  readonly pid: number;
  /** See {@link ProcessHandle.exited}. */
  readonly exited: Promise<Exit>;
  /** Signals it got. */
  readonly signals: number[] = [];
  /** Terminal sizes it got. */
  readonly sizes: [number, number][] = [];
  /** Whether its standard input was closed. */
  stdinClosed = false;
  readonly #exit = Promise.withResolvers<Exit>();

  /** Makes one that runs. */
  constructor(pid: number) {
    this.pid = pid;
    this.exited = this.#exit.promise;
  }

  /** Ends it. */
  exit(status: number, reason: Exit["reason"] = "exited"): void {
    this.#exit.resolve({ status, at: 1_700_000_000_123, reason });
  }

  /** Records the signal; SIGKILL and SIGTERM end it. */
  kill(signal: number): Promise<void> {
    this.signals.push(signal);
    if (signal === 9 || signal === 15) this.exit(128 + signal, "signaled");
    return Promise.resolve();
  }

  /** Records the size. */
  resize(columns: number, rows: number): Promise<void> {
    this.sizes.push([columns, rows]);
    return Promise.resolve();
  }

  /** See {@link FakeProcess.stdinClosed}. */
  closeStdin(): Promise<void> {
    this.stdinClosed = true;
    return Promise.resolve();
  }
}

/** A driver whose containers exist in this process's memory only. */
export class FakeDriver implements Driver {
  /** See {@link Driver.kind}. */
  readonly kind = "fake";
  /** See {@link Driver.capabilities}. */
  readonly capabilities: Capabilities;
  /** Every process that was started: by container id, then `container id/exec id`. */
  readonly processes = new Map<string, FakeProcess>();
  /** Every container that was created, by id. */
  readonly containers = new Map<string, ContainerSpec>();
  /** Every exec that was started, by `container id/exec id`. */
  readonly execs = new Map<string, ExecSpec>();
  /** Limits that were set on containers. */
  readonly updates: ResourceSpec[] = [];
  /** Set to hold every start until it settles. */
  startGate: Promise<void> | undefined;
  #nextPid = 1000;

  /** Makes one that can do everything but what is said. */
  constructor(capabilities: Partial<Capabilities> = {}) {
    this.capabilities = {
      exec: true,
      pause: true,
      updateContainer: true,
      updateSandbox: false,
      terminal: true,
      ...capabilities,
    };
  }

  /** A process that was started. */
  running(container: string, exec = ""): FakeProcess {
    const process = this.processes.get(exec === "" ? container : `${container}/${exec}`);
    if (process === undefined) throw new Error(`no process ${container}/${exec}`);
    return process;
  }

  /** See {@link Driver.start}. */
  start(_spec: SandboxSpec): Promise<SandboxHandle> {
    const exit = Promise.withResolvers<Exit>();
    return Promise.resolve({
      pid: 1,
      record: null,
      exited: exit.promise,
      createContainer: (spec) => Promise.resolve(this.#container(spec)),
      stats: () => Promise.resolve({ at: 0, cpuNs: 0, memoryBytes: 0, pids: 0 }),
      stop: () => {
        for (const process of this.processes.values()) process.exit(137, "lost");
        exit.resolve({ status: 0, at: 0, reason: "exited" });
        return Promise.resolve();
      },
    });
  }

  /** Knows nothing of earlier processes. */
  adopt(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  #container(spec: ContainerSpec): ContainerHandle {
    this.containers.set(spec.id, spec);
    const mine = (): FakeProcess[] =>
      [...this.processes].filter(([key]) => key.split("/")[0] === spec.id).map(([, it]) => it);
    return {
      record: null,
      start: (signal) => this.#process(spec.id, signal),
      exec: (exec, signal) => {
        this.execs.set(`${spec.id}/${exec.id}`, exec);
        return this.#process(`${spec.id}/${exec.id}`, signal);
      },
      pause: () => Promise.resolve(),
      resume: () => Promise.resolve(),
      update: (resources) => {
        this.updates.push(resources);
        return Promise.resolve();
      },
      pids: () => Promise.resolve(mine().map((process) => process.pid)),
      stats: () =>
        Promise.resolve({
          at: 1,
          cpuNs: 5_000_000,
          memoryBytes: 4096,
          memoryLimitBytes: 8192,
          pids: 2,
        }),
      delete: () => {
        for (const process of mine()) process.exit(137, "lost");
        return Promise.resolve();
      },
    };
  }

  async #process(key: string, signal: AbortSignal): Promise<ProcessHandle> {
    if (this.startGate !== undefined) {
      const aborted = new Promise<never>((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      });
      await Promise.race([this.startGate, aborted]);
    }
    const process = new FakeProcess(this.#nextPid++);
    this.processes.set(key, process);
    return process;
  }
}
