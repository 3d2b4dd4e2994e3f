/**
 * All sandboxes of a sandboxer that were made without containerd: makes them, so that nothing is left
 * of one that fails, finds them again after a restart, and cleans up after them.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { ContainerSpec, Json, SandboxSpec, StdioSpec } from "../../lifecycle/spec.ts";
import { isManaged, type ManagementPorts } from "../ports.ts";
import type { RunAbilities } from "./abilities.ts";
import { LogBudget } from "./log_budget.ts";
import { ManagedRun } from "./managed_run.ts";
import { makeUpName } from "./names.ts";
import { makeDirectory, RunPlaces } from "./places.ts";
import { RunContainer } from "./run_container.ts";
import { recoverRuns } from "./run_recovery.ts";

/** Most sandboxes that are made without containerd: each has a log. */
const RUNS_MAX = 1024;

/** Which streams a process has. */
export interface StreamChoice {
  /** Whether it has standard input. */
  readonly stdin: boolean;
  /** Whether its output goes anywhere; yes unless said otherwise. */
  readonly stdout?: boolean;
  /** The same for its standard error. */
  readonly stderr?: boolean;
  /** Whether it has a terminal. */
  readonly terminal: boolean;
  /** The terminal's first size. */
  readonly terminalSize?: StdioSpec["terminalSize"];
}

/** A container to make. */
export interface ContainerOrder {
  /** What it is to be, but for its streams. */
  readonly spec: Omit<ContainerSpec, "stdio">;
  /** Its streams. */
  readonly streams: StreamChoice;
}

/** A sandbox to make. */
export interface RunOrder {
  /** What it is to be. */
  readonly spec: SandboxSpec;
  /** Its containers. */
  readonly containers: readonly ContainerOrder[];
  /** Gets ready what the containers need, below the sandbox's directory. */
  readonly prepare?: (directory: string) => Promise<void>;
  /** Whether to start the containers too. */
  readonly start: boolean;
  /** Fires when the caller gives up. */
  readonly signal: AbortSignal;
}

/** See the module. */
export class RunRegistry implements Disposable {
  readonly #ports: ManagementPorts;
  readonly #runs = new Map<string, ManagedRun>();
  /** Those that are being cleaned up after. */
  readonly #forgetting = new Map<string, Promise<void>>();
  /** Names of those that are being made. */
  readonly #names = new Set<string>();
  readonly #budget = new LogBudget();
  readonly #subscription: Disposable;
  /** Where things lie. */
  readonly places: RunPlaces;

  /** Knows of nothing yet. */
  constructor(ports: ManagementPorts) {
    this.#ports = ports;
    this.places = new RunPlaces(ports.dir);
    this.#subscription = ports.sandboxer.subscribe((event) => {
      if (event.kind === "sandbox-deleted") void this.#forgetQuietly(event.sandboxId);
    });
  }

  /**
   * What the kind gives.
   *
   * @throws {SandboxError} `Unimplemented` where it gives nothing.
   */
  get abilities(): RunAbilities {
    const { runs } = this.#ports.abilities;
    if (runs !== undefined) return runs;
    const { kind } = this.#ports.sandboxer.driver;
    throw new SandboxError(
      "Unimplemented",
      `cannot run: ${kind} sandboxes take it from containerd`,
    );
  }

  /**
   * A sandbox that was made without containerd.
   *
   * @returns Undefined for another one.
   */
  find(sandboxId: string): ManagedRun | undefined {
    return this.#runs.get(sandboxId);
  }

  /**
   * Takes a name until it is disposed of, or the sandbox with that name is there.
   *
   * @param wanted Empty for one that is made up.
   * @throws {SandboxError} `AlreadyExists`; `ResourceExhausted` where there are too many sandboxes.
   */
  takeName(wanted: string): Disposable & { readonly name: string } {
    if (this.#runs.size + this.#names.size >= RUNS_MAX) {
      throw new SandboxError(
        "ResourceExhausted",
        `cannot make another sandbox: there are ${RUNS_MAX}, the most allowed: remove some that ` +
          "have ended",
      );
    }
    const name = wanted === "" ? makeUpName((each) => this.#isTaken(each)) : wanted;
    if (this.#isTaken(name)) {
      throw new SandboxError(
        "AlreadyExists",
        `cannot make a sandbox with the name "${name}": there is one: remove it, or choose another ` +
          "name",
      );
    }
    this.#names.add(name);
    return { name, [Symbol.dispose]: () => void this.#names.delete(name) };
  }

  #isTaken(name: string): boolean {
    return this.#names.has(name) ||
      this.#ports.sandboxer.sandboxes().some(({ spec }) =>
        spec.id === name || (isManaged(spec) && spec.name === name)
      );
  }

  /**
   * Makes a sandbox with its containers. Where that fails, or the caller gives up, nothing is left.
   *
   * @throws {SandboxError} As the lifecycle says.
   */
  async make(order: RunOrder): Promise<ManagedRun> {
    const { id } = order.spec;
    try {
      return await this.#make(order);
    } catch (error) {
      await this.#undo(id);
      throw error;
    }
  }

  async #make({ spec, containers, prepare, start, signal }: RunOrder): Promise<ManagedRun> {
    const { sandboxer, log } = this.#ports;
    const sandboxId = spec.id;
    const run = new ManagedRun({ sandboxer, sandboxId, log });
    this.#runs.set(sandboxId, run);
    await makeDirectory(this.places.run(sandboxId));
    await prepare?.(this.places.run(sandboxId));
    await sandboxer.createSandbox(spec, signal);
    await sandboxer.startSandbox(sandboxId, signal);
    for (const { spec: container, streams } of containers) {
      const stdio = await this.#makeStreams(sandboxId, container.id, streams);
      run.containers.set(container.id, this.#open(sandboxId, { id: container.id, stdio }));
      await sandboxer.createContainer({ ...container, stdio }, signal);
    }
    for (const { spec: container } of containers) {
      if (start) await sandboxer.startProcess(container.id, "", signal);
      run.containers.get(container.id)?.expect();
    }
    if (signal.aborted) throw SandboxError.from(signal.reason, "cannot run", "Cancelled");
    run.watch();
    return run;
  }

  async #makeStreams(
    sandboxId: string,
    containerId: string,
    choice: StreamChoice,
  ): Promise<StdioSpec> {
    return await this.makeFifos(this.places.fifos(sandboxId, containerId), choice);
  }

  /**
   * Makes the FIFOs of a process.
   *
   * @param directory Where; made where it is missing.
   * @param choice Which.
   */
  async makeFifos(directory: string, choice: StreamChoice): Promise<StdioSpec> {
    const { stdin, stdout = true, stderr = true, terminal, terminalSize } = choice;
    // A terminal has one output.
    const wanted = { stdin, stdout, stderr: stderr && !terminal };
    const streamOf = (name: keyof typeof wanted) =>
      wanted[name]
        ? { kind: "path", path: `${directory}/${name}`, isPatient: true } as const
        : { kind: "null" } as const;
    const stdio = {
      stdin: streamOf("stdin"),
      stdout: streamOf("stdout"),
      stderr: streamOf("stderr"),
      terminal,
      ...(terminalSize === undefined ? {} : { terminalSize }),
    };
    await makeDirectory(directory);
    const paths = [stdio.stdin, stdio.stdout, stdio.stderr]
      .flatMap((stream) => stream.kind === "path" ? [stream.path] : []);
    if (paths.length > 0) await this.abilities.fifos.make(paths);
    return stdio;
  }

  #open(sandboxId: string, spec: Pick<ContainerSpec, "id" | "stdio">): RunContainer {
    const { sandboxer, log, abilities } = this.#ports;
    return new RunContainer({
      sandboxer,
      spec,
      logDirectory: this.places.log(sandboxId, spec.id),
      budget: this.#budget,
      keeper: abilities.runs?.keeper,
      log,
    });
  }

  /** Undoes a sandbox that could not be made. */
  async #undo(sandboxId: string): Promise<void> {
    const { sandboxer, log } = this.#ports;
    try {
      await sandboxer.deleteSandbox(sandboxId);
    } catch (thrown) {
      const error = SandboxError.from(thrown);
      if (error.code !== "NotFound") {
        // It stays, failed, and is cleaned up when it is removed.
        log.warn("cannot undo the start of a sandbox", { sandbox: sandboxId, error });
        return;
      }
    }
    await this.#forgetQuietly(sandboxId);
  }

  /**
   * Finds what an earlier process left, and cleans up after what is gone.
   *
   * @throws {SandboxError} Where the state directory cannot be read.
   */
  async recover(): Promise<void> {
    await recoverRuns({
      ...this.#ports,
      places: this.places,
      adopt: (sandboxId, specs) => this.#adopt(sandboxId, specs),
      clean: (sandboxId) => this.#clean(sandboxId),
    });
  }

  #adopt(sandboxId: string, specs: readonly ContainerSpec[]): void {
    const { sandboxer, log } = this.#ports;
    const run = new ManagedRun({ sandboxer, sandboxId, log });
    this.#runs.set(sandboxId, run);
    for (const spec of specs) {
      try {
        run.containers.set(spec.id, this.#open(sandboxId, spec));
      } catch (error) {
        log.error("cannot open the streams of a container", { container: spec.id, error });
      }
    }
    run.watch();
  }

  /** Cleans up after a sandbox that was deleted; for one that is not here it does nothing. */
  async forget(sandboxId: string): Promise<void> {
    const run = this.#runs.get(sandboxId);
    if (run !== undefined) {
      this.#runs.delete(sandboxId);
      run[Symbol.dispose]();
      this.#forgetting.set(sandboxId, this.#clean(sandboxId));
    }
    try {
      await this.#forgetting.get(sandboxId);
    } finally {
      this.#forgetting.delete(sandboxId);
    }
  }

  async #clean(sandboxId: string): Promise<void> {
    await this.places.remove(sandboxId);
    const { cgroups } = this.#ports.abilities.runs ?? {};
    await cgroups?.remove(cgroups.parentOf(sandboxId));
  }

  async #forgetQuietly(sandboxId: string): Promise<void> {
    try {
      await this.forget(sandboxId);
    } catch (error) {
      this.#ports.log.warn("cannot clean up after a sandbox", { sandbox: sandboxId, error });
    }
  }

  /** What is known of a sandbox, for people; undefined for another one. */
  detail(sandboxId: string): Json | undefined {
    return this.#runs.get(sandboxId)?.detail;
  }

  /** Closes logs and FIFOs; what is kept stays for the next process. */
  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
    for (const run of this.#runs.values()) run[Symbol.dispose]();
  }
}
