/**
 * A guest that is ready for containers: its machine, the agent in it, its place on the host, its
 * network, and the file server of its shared tree. They are made and released together.
 *
 * @module
 */

import type { AgentClient } from "../../guest/client/agent_client.ts";
import type { AgentEvent } from "../../guest/protocol/messages.ts";
import { RateLimit } from "../../guest/protocol/rate_limit.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { Json } from "../lifecycle/spec.ts";
import type { Log } from "../log.ts";
import { GuestDisks } from "./guest_disks.ts";
import type { Machine, MachinePlace } from "./hypervisor.ts";
import type { NetworkAttachment } from "./network/attachment.ts";

/** Most things that are kept of an agent that nobody listens to yet. */
const UNHEARD_MAX = 1000;
/** Notes of a guest that are taken in one go, and per second for long: more would fill the log. */
const NOTES_MAX = 50;
const NOTES_PER_SECOND = 2;
/** Longest note, in characters. */
const NOTE_LENGTH_MAX = 1000;

/** What of a guest has to be ended with it. */
export interface GuestHelper {
  /** What is needed to find it again; plain JSON. */
  readonly record: Json;
  /** Ends it. May be called more than once. */
  stop(): Promise<void>;
}

/** What listens to an agent, and passes on to whoever has the guest by then. */
export class Ear {
  #listener: ((event: AgentEvent) => void) | undefined;
  #unheard: AgentEvent[] = [];
  readonly #now: () => number;
  readonly #notes: RateLimit;

  /**
   * Hears nothing yet.
   *
   * @param now The time in milliseconds. Default: the clock of this machine.
   */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#notes = new RateLimit(NOTES_MAX, NOTES_PER_SECOND, now());
  }

  /** Passes on, or keeps for whoever comes. Notes for the log come cut, and not more than are of use. */
  hear(event: AgentEvent): void {
    if (event.kind === "log") {
      if (!this.#notes.take(this.#now())) return;
      event = { ...event, message: event.message.slice(0, NOTE_LENGTH_MAX) };
    }
    if (this.#listener !== undefined) this.#listener(event);
    else if (this.#unheard.length < UNHEARD_MAX) this.#unheard.push(event);
  }

  /** Takes a listener; it gets what nobody heard first. */
  attach(listener: (event: AgentEvent) => void): void {
    this.#listener = listener;
    for (const event of this.#unheard.splice(0)) listener(event);
  }
}

/** What a guest is made of. */
export interface GuestParts {
  /** The machine. */
  readonly machine: Machine;
  /** Its CPUs. */
  readonly cpus: number;
  /** The agent in it. */
  readonly agent: AgentClient;
  /** Listens to it. */
  readonly ear: Ear;
  /** Where it lives. */
  readonly place: MachinePlace;
  /** Its place in the pod's network; undefined without one. */
  readonly network: NetworkAttachment | undefined;
  /** Serves its shared tree; undefined without one. */
  readonly sharedTree: GuestHelper | undefined;
}

/** A guest. */
export class Guest {
  /** Its disks. */
  readonly disks: GuestDisks;
  readonly #parts: GuestParts;
  readonly #free: (place: MachinePlace) => Promise<void>;
  readonly #log: Log;
  #stopped: Promise<void> | undefined;
  #over = false;

  /**
   * Takes the parts over.
   *
   * @param parts See {@link GuestParts}.
   * @param free Takes the place back.
   * @param log Where notes go.
   */
  constructor(parts: GuestParts, free: (place: MachinePlace) => Promise<void>, log: Log) {
    this.#parts = parts;
    this.#free = free;
    this.#log = log;
    this.disks = new GuestDisks(parts.machine);
    void parts.machine.exited.then(() => this.#over = true);
  }

  /** The machine. */
  get machine(): Machine {
    return this.#parts.machine;
  }

  /** The agent in it. */
  get agent(): AgentClient {
    return this.#parts.agent;
  }

  /**
   * Listens to its agent.
   *
   * @param listener Hears what it says, from now on, and first what nobody has heard.
   */
  listen(listener: (event: AgentEvent) => void): void {
    this.#parts.ear.attach(listener);
  }

  /** The directory of its machine. */
  get directory(): string {
    return this.#parts.place.directory;
  }

  /** Leaves it to another process. */
  async leave(): Promise<void> {
    await this.#parts.agent.release();
    this.#parts.machine.release();
  }

  /** The user that its VMM runs as. */
  get user(): MachinePlace["user"] {
    return this.#parts.place.user;
  }

  /** Its CPUs. */
  get cpus(): number {
    return this.#parts.cpus;
  }

  /** Whether its machine has ended. */
  get over(): boolean {
    return this.#over;
  }

  /** Whether it has a tree of files that it shares with the host. */
  get hasSharedTree(): boolean {
    return this.#parts.sharedTree !== undefined;
  }

  /** What the next sandboxer needs to find it. */
  get record(): Json {
    const { machine, place, network, sharedTree } = this.#parts;
    return {
      cpus: this.cpus,
      machine: machine.record,
      place: {
        id: place.id,
        directory: place.directory,
        ...(place.user === undefined ? {} : { user: { ...place.user } }),
        cgroup: place.cgroup,
        ...(place.sharedTreeSocket === undefined
          ? {}
          : { sharedTreeSocket: place.sharedTreeSocket }),
      },
      network: network?.record ?? null,
      sharedTree: sharedTree?.record ?? null,
    };
  }

  /**
   * Ends the machine and releases all of it; every part is tried, whatever becomes of the others.
   *
   * @throws {SandboxError} The first that went wrong.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop().catch((error: unknown) => {
      // The next call tries again.
      this.#stopped = undefined;
      throw error;
    });
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    const { machine, agent, place, network, sharedTree } = this.#parts;
    const steps: readonly (() => Promise<void>)[] = [
      // First, or it would take the machine's end for a broken connection.
      () => Promise.resolve(agent[Symbol.dispose]()),
      () => machine.stop(),
      () => sharedTree?.stop() ?? Promise.resolve(),
      () => network?.detach() ?? Promise.resolve(),
      () => this.#free(place),
    ];
    let first: SandboxError | undefined;
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        const failure = SandboxError.from(error, "cannot release a machine");
        this.#log.warn("cannot release a part of a machine", { machine: place.id, error: failure });
        first ??= failure;
      }
    }
    if (first !== undefined) throw first;
  }
}
