/**
 * Those who call a simulated sandboxer: every operation, with ids that collide, at moments that suit
 * and at moments that do not, some of them given up half-way. Every answer is checked.
 *
 * @module
 */

import { SandboxError } from "../errors.ts";
import type { Sandboxer } from "../sandboxer.ts";
import type { Exit } from "../spec.ts";
import type { World } from "./history.ts";
import { processKey } from "./observer.ts";
import { containerSpec, execSpec, sandboxSpec, TERMINAL } from "./specs.ts";

const SANDBOXES = ["s1", "s2"];
const CONTAINERS = ["c1", "c2", "c3"];
const EXECS = ["e1", "e2"];
/** Signals that end, that may end, that do not, and one that only asks. */
const SIGNALS = [9, 9, 15, 15, 1, 0];

/** A call under way. */
export interface Call {
  /** What is called, for a person to read. */
  readonly name: string;
  /** What it waits for, if it is a wait: a sandbox id or a {@link processKey}. */
  readonly waitsFor: string | undefined;
  /** Gives it up. */
  readonly abort: AbortController;
  /** Whether chance may give it up. */
  readonly abortable: boolean;
  /** Whether it may have met a fault. */
  readonly faulty: boolean;
  /** The exit that a wait is to answer, once that was told. */
  expected: Exit | undefined;
}

interface Issue {
  readonly waitsFor?: string;
  readonly expected?: Exit | undefined;
  /** Runs when the call was answered. */
  readonly done?: () => unknown;
}

/** What callers were told and may rely on, also after a crash. */
export class Promises {
  /** Sandboxes that must be there, must not be there; those that are in neither set may be. */
  readonly present = new Set<string>();
  /** Sandboxes that must not be there. */
  readonly absent = new Set<string>();
  /** Containers that were created or started, by id. */
  readonly containers = new Map<string, { readonly sandbox: string; started: boolean }>();

  readonly #doubts = new Map<string, number>();

  /** The sandbox may or may not be there from now on. */
  doubt(sandbox: string): void {
    this.present.delete(sandbox);
    this.absent.delete(sandbox);
    for (const [id, container] of this.containers) {
      if (container.sandbox === sandbox) this.doubtContainer(id);
    }
    this.#doubts.set(sandbox, (this.#doubts.get(sandbox) ?? 0) + 1);
  }

  /** The container may or may not be there from now on. */
  doubtContainer(id: string): void {
    this.containers.delete(id);
    this.#doubts.set(id, (this.#doubts.get(id) ?? 0) + 1);
  }

  /** Asks later whether there has been no doubt since now about some ids. */
  certain(...ids: readonly string[]): () => boolean {
    const doubts = ids.map((id) => this.#doubts.get(id));
    return () => ids.every((id, index) => this.#doubts.get(id) === doubts[index]);
  }
}

/** Makes calls to one life of a sandboxer. */
export class Callers {
  /** The calls under way. */
  readonly calls = new Set<Call>();
  /** Set when the sandboxer was told to close: then `Unavailable` is an answer. */
  closed = false;
  readonly #world: World;
  readonly #sandboxer: Sandboxer;
  readonly #promises: Promises;

  /**
   * Callers who have called nothing yet.
   *
   * @param world Where it happens.
   * @param sandboxer Who is called.
   * @param promises Where answers are kept.
   */
  constructor(world: World, sandboxer: Sandboxer, promises: Promises) {
    this.#world = world;
    this.#sandboxer = sandboxer;
    this.#promises = promises;
  }

  /** An exit was told: those who wait for it are to hear the same. */
  onExit(key: string, exit: Exit): void {
    for (const call of this.calls) {
      if (call.waitsFor === key) call.expected ??= exit;
    }
  }

  /** Gives a random call up. */
  abortOne(): void {
    const calls = [...this.calls].filter((it) => it.abortable && !it.abort.signal.aborted);
    if (calls.length === 0) return;
    const { random } = this.#world;
    const call = random.pick(calls);
    this.#world.note(`gives up: ${call.name}`);
    this.#world.count("given up");
    if (random.chance(0.5)) call.abort.abort();
    else call.abort.abort(new DOMException("time is up", "TimeoutError"));
  }

  /** Makes a call: one that suits what there is, or just any. */
  callOne(): void {
    const { random } = this.#world;
    if (random.chance(0.75)) this.#callFitting();
    else this.#callAny();
  }

  /** Deletes a sandbox: used to clean up at the end. */
  deleteSandbox(id: string): void {
    this.#promises.doubt(id);
    const certain = this.#promises.certain(id);
    this.#issue(`delete ${id}`, (signal) => this.#sandboxer.deleteSandbox(id, signal), {
      // Where the disk fails, one that could not be started is removed from it later.
      done: () => certain() && this.#world.diskIsGood && this.#promises.absent.add(id),
    });
  }

  #callFitting(): void {
    const { random } = this.#world;
    const id = random.pick(SANDBOXES);
    const view = this.#sandboxer.sandboxes().find(({ spec }) => spec.id === id);
    if (view === undefined) return this.#createSandbox(id);
    if (view.state === "created") return this.#startSandbox(id);
    if (view.state === "starting") return this.#waitSandbox(id);
    if (view.state !== "ready") return this.deleteSandbox(id);
    const containerId = random.pick([
      ...CONTAINERS,
      ...view.containerIds,
      ...view.containerIds,
    ]);
    if (!view.containerIds.includes(containerId)) return this.#createContainer(containerId, id);
    const container = this.#sandboxer.container(containerId);
    switch (container.state) {
      case "created":
        return this.#startProcess(containerId, "");
      case "paused":
        return random.chance(0.5) ? this.#freeze(containerId, false) : this.#kill(containerId, "");
      case "stopped":
        return this.#deleteProcess(containerId, "");
      case "running":
        return this.#callRunning(containerId, container.execIds);
    }
  }

  #callRunning(id: string, execIds: readonly string[]): void {
    const { random } = this.#world;
    const execId = random.pick(EXECS);
    const known = execIds.includes(execId);
    const state = known ? this.#sandboxer.process(id, execId).state : undefined;
    switch (random.pick(["exec", "exec", "wait", "pause", "kill"])) {
      case "wait":
        return this.#waitProcess(id, random.pick(["", ...execIds]));
      case "pause":
        return this.#freeze(id, true);
      case "kill":
        return this.#kill(id, random.pick(["", ...execIds]));
      default:
        if (state === undefined) return this.#exec(id, execId);
        if (state === "created") return this.#startProcess(id, execId);
        if (state === "stopped") return this.#deleteProcess(id, execId);
        return this.#kill(id, execId);
    }
  }

  #callAny(): void {
    const { random } = this.#world;
    const sandbox = random.pick(SANDBOXES);
    const container = random.pick(CONTAINERS);
    const execId = random.pick(["", "", ...EXECS]);
    random.pick([
      () => this.#createSandbox(sandbox),
      () => this.#startSandbox(sandbox),
      () => this.#stopSandbox(sandbox),
      () => this.deleteSandbox(sandbox),
      () => this.#waitSandbox(sandbox),
      () => this.#createContainer(container, sandbox),
      () => this.#startProcess(container, execId),
      () => this.#kill(container, execId),
      () => this.#waitProcess(container, execId),
      () => this.#deleteProcess(container, execId),
      () => this.#exec(container, random.pick(EXECS)),
      () => this.#freeze(container, random.chance(0.5)),
      () => this.#small(sandbox, container, execId),
      () => this.#bad(sandbox, container),
    ])();
  }

  #createSandbox(id: string): void {
    const missing = !this.#sandboxer.sandboxes().some(({ spec }) => spec.id === id);
    if (missing) this.#promises.doubt(id);
    const certain = this.#promises.certain(id);
    this.#issue(
      `create ${id}`,
      (signal) => this.#sandboxer.createSandbox(sandboxSpec(id), signal),
      { done: () => missing && certain() && this.#promises.present.add(id) },
    );
  }

  #startSandbox(id: string): void {
    const { present } = this.#promises;
    const sure = present.has(id);
    this.#promises.doubt(id);
    const certain = this.#promises.certain(id);
    this.#issue(`start ${id}`, (signal) => this.#sandboxer.startSandbox(id, signal), {
      done: () => sure && certain() && present.add(id),
    });
  }

  #stopSandbox(id: string): void {
    const grace = this.#world.random.pick([0, 1000]);
    this.#issue(`stop ${id}`, (signal) => this.#sandboxer.stopSandbox(id, grace, signal));
  }

  #waitSandbox(id: string): void {
    const expected = this.#sandboxer.sandboxes().find(({ spec }) => spec.id === id)?.exit;
    this.#issue(`wait for ${id}`, (signal) => this.#sandboxer.waitSandbox(id, signal), {
      waitsFor: id,
      expected,
    });
  }

  #createContainer(id: string, sandbox: string): void {
    const directory = this.#world.random.chance(0.2);
    const spec = containerSpec(
      id,
      sandbox,
      directory ? { rootfs: { kind: "directory", path: "/rootfs" } } : {},
    );
    const certain = this.#promises.certain(sandbox, id);
    this.#issue(
      `create ${id} in ${sandbox}`,
      (signal) => this.#sandboxer.createContainer(spec, signal),
      {
        done: () => {
          if (!this.#promises.present.has(sandbox) || !certain()) return;
          this.#promises.containers.set(id, { sandbox, started: false });
        },
      },
    );
  }

  #startProcess(id: string, execId: string): void {
    const certain = this.#promises.certain(id);
    this.#issue(
      `start ${id}/${execId}`,
      (signal) => this.#sandboxer.startProcess(id, execId, signal),
      {
        done: () => {
          const promise = this.#promises.containers.get(id);
          if (promise !== undefined && execId === "" && certain()) promise.started = true;
        },
      },
    );
  }

  #kill(id: string, execId: string): void {
    const { random } = this.#world;
    const signal = random.pick(SIGNALS);
    const all = random.chance(0.3);
    this.#issue(
      `kill ${id}/${execId} with ${signal}${all ? " all" : ""}`,
      () => this.#sandboxer.killProcess(id, execId, signal, all),
    );
  }

  #waitProcess(id: string, execId: string): void {
    let expected: Exit | undefined;
    try {
      expected = this.#sandboxer.process(id, execId).exit;
    } catch { // It is not there: neither it is for the call.
    }
    this.#issue(
      `wait for ${id}/${execId}`,
      (signal) => this.#sandboxer.waitProcess(id, execId, signal),
      { waitsFor: processKey(id, execId), expected },
    );
  }

  #deleteProcess(id: string, execId: string): void {
    if (execId === "") this.#promises.doubtContainer(id);
    this.#issue(`delete ${id}/${execId}`, () => this.#sandboxer.deleteProcess(id, execId));
  }

  #exec(id: string, execId: string): void {
    this.#issue(`exec ${id}/${execId}`, () => this.#sandboxer.exec(id, execSpec(execId)));
  }

  #freeze(id: string, pause: boolean): void {
    this.#issue(
      `${pause ? "pause" : "resume"} ${id}`,
      () => pause ? this.#sandboxer.pauseContainer(id) : this.#sandboxer.resumeContainer(id),
    );
  }

  #small(sandbox: string, id: string, execId: string): void {
    const sandboxer = this.#sandboxer;
    const [name, run] = this.#world.random.pick<[string, () => Promise<unknown>]>([
      ["update", () => sandboxer.updateSandbox(sandbox, { memoryBytes: 1 })],
      ["measure", () => sandboxer.sandboxStats(sandbox)],
      ["update container", () => sandboxer.updateContainer(id, { memoryBytes: 1 })],
      ["measure container", () => sandboxer.containerStats(id)],
      ["pids", () => sandboxer.pids(id)],
      ["resize", () => sandboxer.resizeTerminal(id, execId, 80, 24)],
      ["close stdin", () => sandboxer.closeStdin(id, execId)],
    ]);
    this.#issue(`${name} ${sandbox} ${id}/${execId}`, run);
  }

  #bad(sandbox: string, id: string): void {
    const sandboxer = this.#sandboxer;
    const bare = execSpec("e1").process;
    this.#issue(
      "bad input",
      this.#world.random.pick<() => Promise<unknown>>([
        () => sandboxer.createSandbox(sandboxSpec("../x")),
        () => sandboxer.createContainer(containerSpec("a/b", sandbox)),
        () =>
          sandboxer.createContainer(
            containerSpec(id, sandbox, { process: { ...bare, args: [] } }),
          ),
        () => sandboxer.createContainer(containerSpec(id, "nowhere")),
        () => sandboxer.exec(id, execSpec("")),
        () => sandboxer.exec(id, execSpec("e1", { stdio: TERMINAL })),
        () => sandboxer.killProcess(id, "", 99),
        () => sandboxer.startProcess(id, "nowhere"),
      ]),
    );
  }

  #issue(name: string, run: (signal: AbortSignal) => Promise<unknown>, issue: Issue = {}): void {
    const { random, plan } = this.#world;
    const abort = new AbortController();
    const call: Call = {
      name,
      waitsFor: issue.waitsFor,
      abort,
      abortable: this.#world.faulty && random.chance(plan.abort),
      faulty: this.#world.faulty,
      expected: issue.expected,
    };
    if (call.abortable && random.chance(0.1)) abort.abort();
    this.#world.note(`calls: ${name}`);
    this.calls.add(call);
    run(abort.signal)
      .then((result) => this.#answered(call, issue, result), (error) => this.#refused(call, error))
      .catch((error: unknown) => this.#world.violations.push(`${name}: ${error}`));
  }

  #answered(call: Call, issue: Issue, result: unknown): void {
    this.calls.delete(call);
    this.#world.note(`answered: ${call.name}`);
    this.#world.count(`${call.name.split(" ")[0]} answered`);
    issue.done?.();
    if (call.waitsFor !== undefined && (result !== call.expected || result === undefined)) {
      this.#world.violations.push(
        `${call.name} answered ${JSON.stringify(result)}, told was ${
          JSON.stringify(call.expected)
        }`,
      );
    }
  }

  #refused(call: Call, error: unknown): void {
    this.calls.delete(call);
    if (!(error instanceof SandboxError)) {
      this.#world.violations.push(`${call.name} threw ${error} that is not a SandboxError`);
      return;
    }
    this.#world.note(`refused: ${call.name}: ${error.code}: ${error.message}`);
    this.#world.count(`refused with ${error.code}`);
    const allowed = this.#allowed(call, error);
    if (!allowed) this.#world.violations.push(`${call.name} threw ${error.code}: ${error.message}`);
  }

  #allowed(call: Call, { code }: SandboxError): boolean {
    switch (code) {
      case "Cancelled":
      case "DeadlineExceeded":
        // A start that was cut short by a stop or a kill is cancelled too.
        return call.abort.signal.aborted || call.name.startsWith("start");
      case "Unavailable":
        return this.closed || call.faulty;
      case "Internal":
      case "PermissionDenied":
      case "ResourceExhausted":
        return call.faulty;
      default:
        return call.waitsFor === undefined || code === "NotFound";
    }
  }
}
