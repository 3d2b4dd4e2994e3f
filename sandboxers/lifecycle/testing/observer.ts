/**
 * Watches a sandboxer from outside, through its events and views, and says when it does something
 * that the three state machines do not allow.
 *
 * @module
 */

import { SandboxError } from "../errors.ts";
import type { LifecycleEvent } from "../events.ts";
import type { Sandboxer } from "../sandboxer.ts";
import type { Exit } from "../spec.ts";

/** A process as its events tell it. */
interface SeenProcess {
  state: "created" | "running" | "exited";
  pid: number;
  exit: Exit | undefined;
}

/** A container as its events tell it. */
interface SeenContainer {
  paused: boolean;
  readonly processes: Map<string, SeenProcess>;
}

/** A sandbox as its events tell it. */
interface SeenSandbox {
  state: "created" | "started" | "failed" | "stopped";
  readonly containers: Map<string, SeenContainer>;
}

type Kind = LifecycleEvent["kind"];
type EventOfKind<K extends Kind> = Extract<LifecycleEvent, { readonly kind: K }>;

/** Checks every event of one life of a sandboxer. */
export class Observer implements Disposable {
  /** What was not allowed, in words. */
  readonly violations: string[] = [];
  /** How often each kind of event came. */
  readonly counts = new Map<Kind, number>();
  readonly #sandboxer: Sandboxer;
  readonly #sandboxes = new Map<string, SeenSandbox>();
  readonly #subscription: Disposable;
  readonly #onExit: (key: string, exit: Exit) => void;

  /**
   * Watches from now on.
   *
   * @param sandboxer Who is watched, from now on; what it holds already is taken as it is.
   * @param onExit Hears of the exit of every process by {@link processKey} and sandbox by id.
   */
  constructor(sandboxer: Sandboxer, onExit: (key: string, exit: Exit) => void = () => undefined) {
    this.#sandboxer = sandboxer;
    this.#onExit = onExit;
    this.#subscription = sandboxer.subscribe((event) => this.hear(event));
  }

  /** Stops watching. */
  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
  }

  /** Takes what the sandboxer holds now as given: after a recovery. */
  resume(): void {
    this.#sandboxes.clear();
    for (const view of this.#sandboxer.sandboxes()) {
      const containers = new Map<string, SeenContainer>();
      for (const id of view.containerIds) containers.set(id, this.#seenContainer(id));
      const state = view.state === "created" || view.state === "failed" || view.state === "stopped"
        ? view.state
        : "started";
      this.#sandboxes.set(view.spec.id, { state, containers });
    }
  }

  #seenContainer(id: string): SeenContainer {
    const container = this.#sandboxer.container(id);
    const processes = new Map<string, SeenProcess>();
    for (const execId of ["", ...container.execIds]) {
      const { state, pid, exit } = this.#sandboxer.process(id, execId);
      const seen = state === "created" ? state : state === "stopped" ? "exited" : "running";
      processes.set(execId, { state: seen, pid, exit });
    }
    return { paused: container.state === "paused", processes };
  }

  /** Checks one event. */
  hear(event: LifecycleEvent): void {
    this.counts.set(event.kind, (this.counts.get(event.kind) ?? 0) + 1);
    const before = this.violations.length;
    try {
      this.#check(event);
    } catch (error) {
      this.violations.push(String(error));
    }
    for (let index = before; index < this.violations.length; index++) {
      this.violations[index] = `${nameOf(event)}: ${this.violations[index]}`;
    }
  }

  #check(event: LifecycleEvent): void {
    switch (event.kind) {
      case "sandbox-created":
        return this.#sandboxCreated(event);
      case "sandbox-started":
      case "sandbox-failed":
      case "sandbox-stopped":
      case "sandbox-deleted":
        return this.#sandboxChanged(event);
      case "container-created":
        return this.#containerCreated(event);
      case "exec-added":
        return this.#execAdded(event);
      case "process-started":
        return this.#processStarted(event);
      case "process-exited":
        return this.#processExited(event);
      case "process-deleted":
        return this.#processDeleted(event);
      case "container-oom":
        return this.#expect(
          this.#process(event.sandboxId, event.containerId, "").state !== "created",
          "out of memory before it ran",
        );
      case "container-paused":
        return this.#pausing(event, true);
      case "container-resumed":
        return this.#pausing(event, false);
    }
  }

  #sandboxCreated({ sandboxId }: EventOfKind<"sandbox-created">): void {
    // A failed one is forgotten without another word, unless something is left of it.
    const before = this.#sandboxes.get(sandboxId);
    this.#expect(before === undefined || before.state === "failed", "it was there already");
    this.#sandboxes.set(sandboxId, { state: "created", containers: new Map() });
    this.#expect(this.#sandboxer.sandbox(sandboxId).state === "created", "its view disagrees");
  }

  #sandboxChanged(
    event: EventOfKind<
      "sandbox-started" | "sandbox-failed" | "sandbox-stopped" | "sandbox-deleted"
    >,
  ): void {
    const { sandboxId } = event;
    const seen = this.#sandbox(sandboxId);
    const from = seen.state;
    if (event.kind === "sandbox-deleted") {
      this.#expect(from === "stopped" || from === "failed", `it was ${from}`);
      this.#expect(isMissing(() => this.#sandboxer.sandbox(sandboxId)), "its view is there");
      this.#sandboxes.delete(sandboxId);
      return;
    }
    const view = this.#sandboxer.sandbox(sandboxId);
    if (event.kind === "sandbox-stopped") {
      this.#expect(from === "created" || from === "started", `it was ${from}`);
      for (const [id, container] of seen.containers) {
        for (const [execId, { state }] of container.processes) {
          this.#expect(state === "exited", `process ${id}/${execId} is ${state}`);
        }
      }
      seen.state = "stopped";
      this.#expect(view.state === "stopped" && view.exit === event.exit, "its view disagrees");
      this.#onExit(sandboxId, event.exit);
      return;
    }
    this.#expect(from === "created", `it was ${from}`);
    seen.state = event.kind === "sandbox-started" ? "started" : "failed";
    const expected = event.kind === "sandbox-started" ? "ready" : "failed";
    this.#expect(view.state === expected, "its view disagrees");
    if (view.exit !== undefined) this.#onExit(sandboxId, view.exit);
  }

  #containerCreated({ sandboxId, containerId }: EventOfKind<"container-created">): void {
    const sandbox = this.#sandbox(sandboxId);
    this.#expect(sandbox.state === "started", `its sandbox is ${sandbox.state}`);
    for (const { containers } of this.#sandboxes.values()) {
      this.#expect(!containers.has(containerId), "it was there already");
    }
    const init: SeenProcess = { state: "created", pid: 0, exit: undefined };
    sandbox.containers.set(containerId, { paused: false, processes: new Map([["", init]]) });
    this.#expect(this.#sandboxer.container(containerId).state === "created", "its view disagrees");
  }

  #execAdded({ sandboxId, containerId, spec }: EventOfKind<"exec-added">): void {
    const { processes, paused } = this.#container(sandboxId, containerId);
    this.#expect(processes.get("")?.state === "running" && !paused, "its container does not run");
    this.#expect(!processes.has(spec.id), "it was there already");
    processes.set(spec.id, { state: "created", pid: 0, exit: undefined });
  }

  #processStarted(event: EventOfKind<"process-started">): void {
    const process = this.#process(event.sandboxId, event.containerId, event.execId);
    this.#expect(process.state === "created", `it was ${process.state}`);
    process.state = "running";
    process.pid = event.pid;
    const view = this.#sandboxer.process(event.containerId, event.execId);
    this.#expect(view.state === "running" && view.pid === event.pid, "its view disagrees");
  }

  #processExited(event: EventOfKind<"process-exited">): void {
    const { sandboxId, containerId, execId, exit } = event;
    const process = this.#process(sandboxId, containerId, execId);
    this.#expect(process.state !== "exited", "it had exited already");
    this.#expect(process.pid === event.pid, `pid ${event.pid}, it was ${process.pid}`);
    process.state = "exited";
    process.exit = exit;
    if (execId === "") this.#container(sandboxId, containerId).paused = false;
    const view = this.#sandboxer.process(containerId, execId);
    this.#expect(view.state === "stopped" && view.exit === exit, "its view disagrees");
    const container = this.#sandboxer.container(containerId);
    this.#expect(execId !== "" || container.state === "stopped", "its container has not stopped");
    this.#onExit(processKey(containerId, execId), exit);
  }

  #processDeleted(event: EventOfKind<"process-deleted">): void {
    const { sandboxId, containerId, execId, exit } = event;
    const sandbox = this.#sandbox(sandboxId);
    // What is left of a container that could not be created is deleted without having been there.
    if (!sandbox.containers.has(containerId) && exit.reason === "lost" && execId === "") return;
    const container = this.#container(sandboxId, containerId);
    const process = this.#process(sandboxId, containerId, execId);
    this.#expect(process.exit === exit && process.pid === event.pid, "it ended differently");
    container.processes.delete(execId);
    if (execId !== "") return;
    for (const [id, { state }] of container.processes) {
      this.#expect(state === "exited", `process ${containerId}/${id} is ${state}`);
    }
    sandbox.containers.delete(containerId);
    this.#expect(isMissing(() => this.#sandboxer.container(containerId)), "its view is there");
  }

  #pausing(
    event: EventOfKind<"container-paused" | "container-resumed">,
    paused: boolean,
  ): void {
    const container = this.#container(event.sandboxId, event.containerId);
    const init = container.processes.get("");
    this.#expect(init?.state === "running", `its init is ${init?.state}`);
    this.#expect(container.paused !== paused, "it was so already");
    container.paused = paused;
    const { state } = this.#sandboxer.container(event.containerId);
    this.#expect(state === (paused ? "paused" : "running"), "its view disagrees");
  }

  #expect(condition: boolean, violation: string): void {
    if (!condition) this.violations.push(violation);
  }

  #sandbox(id: string): SeenSandbox {
    const seen = this.#sandboxes.get(id);
    if (seen !== undefined) return seen;
    throw new Error(`sandbox ${id} is not there`);
  }

  #container(sandboxId: string, id: string): SeenContainer {
    const seen = this.#sandbox(sandboxId).containers.get(id);
    if (seen !== undefined) return seen;
    throw new Error(`container ${id} is not there`);
  }

  #process(sandboxId: string, containerId: string, execId: string): SeenProcess {
    const seen = this.#container(sandboxId, containerId).processes.get(execId);
    if (seen !== undefined) return seen;
    throw new Error(`process ${containerId}/${execId} is not there`);
  }
}

/** A process by one name. */
export function processKey(containerId: string, execId: string): string {
  return `${containerId}/${execId}`;
}

function nameOf(event: LifecycleEvent): string {
  const container = "containerId" in event ? ` ${event.containerId}` : "";
  const exec = "execId" in event ? `/${event.execId}` : "";
  return `${event.kind} of ${event.sandboxId}${container}${exec}`;
}

function isMissing(look: () => unknown): boolean {
  try {
    look();
    return false;
  } catch (error) {
    return error instanceof SandboxError && error.code === "NotFound";
  }
}
