/**
 * Starts guests, and takes those of an earlier sandboxer over: machine, agent, network and shared
 * tree, put together so that on failure nothing is left of any of them.
 *
 * @module
 */

import type { AgentClient } from "../../guest/client/agent_client.ts";
import type { AgentEvent } from "../../guest/protocol/messages.ts";
import type { Launcher } from "../host/launcher.ts";
import { SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import type { Json, SandboxSpec } from "../lifecycle/spec.ts";
import type { Log } from "../log.ts";
import { noTelemetry, type Telemetry } from "../telemetry/telemetry.ts";
import type { PodMachine } from "./config/machine.ts";
import { Ear, Guest, type GuestHelper } from "./guest.ts";
import type { Hypervisor, Machine, MachinePlace } from "./hypervisor.ts";
import { BadClone, type Machines, type StartedMachine } from "./machines.ts";
import { adoptAttachment, attachNetwork, type NetworkAttachment } from "./network/attachment.ts";
import { NO_NETWORK, type PodNetwork, readPodNetwork } from "./network/pod_network.ts";
import type { MachinePlaces } from "./places.ts";
import { podSetup } from "./pod_setup.ts";
import { Members } from "./qemu/record.ts";
import type { PodVolumes } from "./storage/pod_volumes.ts";
import { USER_NETWORK } from "./user_network.ts";

/** How long a clone may take until its agent answers, in milliseconds: it was ready when it was saved. */
const CLONE_READY_MS = 20_000;
/** How often a start is tried in another way. */
const RETRIES_MAX = 2;
/** How long it may take to become a pod's own, in milliseconds. */
const SETUP_MS = 30_000;
/** The name of the shared tree in the guest. */
const SHARED_TREE_TAG = "share";

/** What a {@link GuestStarter} works with. */
export interface GuestStarterOptions {
  /** Gets machines. */
  readonly machines: Machines;
  /** Takes machines over. */
  readonly hypervisor: Hypervisor;
  /** Where machines live. */
  readonly places: MachinePlaces;
  /** Runs `ip` and `tc` in network namespaces. */
  readonly launcher: Launcher;
  /** Decides what a pod's machine is made of. */
  machineFor(spec: SandboxSpec, interfaces: number): PodMachine;
  /** Connects to the agent of a machine. */
  connectAgent(machine: Machine, options: AgentConnect): Promise<AgentClient>;
  /** Serves a directory to the VMM of a user. */
  serveTree(
    directory: string,
    signal: AbortSignal,
  ): Promise<GuestHelper & { readonly socket: string }>;
  /** Takes a file server over. */
  adoptTree(record: Json): Promise<GuestHelper | undefined>;
  /** How long a guest may take from its start until its agent answers, in milliseconds. */
  readonly readyMs: number;
  /** The host's resolv.conf(5). */
  hostResolvConf(): Promise<string>;
  /** Counts, and hears of the phases of starts; missing for nobody. */
  readonly telemetry?: Telemetry;
  /** Where notes go. */
  readonly log: Log;
}

/** How an agent is connected to. */
export interface AgentConnect {
  /** Hears what it says. */
  readonly onEvent: (event: AgentEvent) => void;
  /** Whether an earlier sandboxer has talked to it. */
  readonly adopt: boolean;
  /** How long it may take to answer, in milliseconds. */
  readonly timeoutMs: number;
  /** Aborted when the caller gave up. */
  readonly signal: AbortSignal;
}

/** A guest to start. */
export interface GuestRequest {
  /** The pod. */
  readonly spec: SandboxSpec;
  /** Its volumes. */
  readonly volumes: PodVolumes;
  /** Whether it has to have a shared tree, whatever the configuration says. */
  readonly mustShare: boolean;
}

/** A guest to start with the memory of a saved one. */
export interface RestoreRequest {
  /** The pod. */
  readonly spec: SandboxSpec;
  /** The CPUs of the saved machine. */
  readonly cpus: number;
  /** The directory of the saved machine. */
  readonly directory: string;
  /** Gets the images of its disks ready for a VMM's user; by the serial numbers of the disks. */
  images(user: MachinePlace["user"]): Promise<ReadonlyMap<string, string>>;
}

/** A guest that was started, and what is known of its pod. */
export interface StartedGuest {
  /** The guest. */
  readonly guest: Guest;
  /** Whether it may be replaced by one with a shared tree. */
  readonly mayShare: boolean;
}

/** A way to start a guest. */
interface Attempt {
  readonly request: GuestRequest;
  readonly reading: Promise<PodNetwork>;
  readonly netns: string | undefined;
  readonly podMachine: PodMachine;
}

/** A pod with more interfaces than machines usually have. */
class TooFewInterfaces extends SandboxError {
  constructor(readonly needed: number) {
    super("FailedPrecondition", `the machine has too few network interfaces for ${needed}`);
  }
}

/** Starts guests. */
export class GuestStarter {
  readonly #options: GuestStarterOptions;

  /** Starts nothing yet. */
  constructor(options: GuestStarterOptions) {
    this.#options = options;
  }

  /**
   * Starts a guest that is its pod's own and ready for containers.
   *
   * @param request What is needed.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} When it cannot be started; then nothing is left of it.
   */
  async start(request: GuestRequest, signal: AbortSignal): Promise<StartedGuest> {
    const { spec } = request;
    const { launcher, log } = this.#options;
    const netns = spec.network.kind === "namespace" ? spec.network.path : undefined;
    // Nearly every pod has the usual number of interfaces: the machine need not wait for the look.
    const reading = netns === undefined
      ? Promise.resolve(networkWithout(spec))
      : readPodNetwork(launcher, netns, signal);
    reading.catch(() => undefined);
    let podMachine = this.#machine(request, 0);
    for (let retries = 0;; retries++) {
      try {
        const guest = await this.#attempt({ request, reading, netns, podMachine }, signal);
        for (const warning of (await reading).warnings) log.warn(warning, { sandbox: spec.id });
        return guest;
      } catch (error) {
        if (retries === RETRIES_MAX || signal.aborted) throw error;
        if (error instanceof TooFewInterfaces) {
          podMachine = this.#machine(request, error.needed);
        } else if (error instanceof BadClone) {
          podMachine = { ...podMachine, template: false };
          log.warn("a clone did not become a guest: booting instead", {
            sandbox: spec.id,
            error: SandboxError.from(error.cause),
          });
        } else throw error;
      }
    }
  }

  /** Starts a guest one way. A clone that does not become a guest is a {@link BadClone}. */
  async #attempt(
    { request, reading, netns, podMachine }: Attempt,
    signal: AbortSignal,
  ): Promise<StartedGuest> {
    const { spec } = request;
    const { launcher, places, log } = this.#options;
    const begin = performance.now();
    await using undo = new AsyncDisposableStack();
    const sharedTree = podMachine.spec.sharedTree
      ? await this.#serveTree(request.volumes, signal)
      : undefined;
    if (sharedTree !== undefined) undo.defer(() => sharedTree.stop());
    const started = await this.#options.machines.get({
      machine: podMachine,
      cgroup: spec.cgroupParent === "" ? "" : `${spec.cgroupParent}/${spec.id}`,
      ...(sharedTree === undefined ? {} : { sharedTreeSocket: sharedTree.socket }),
    }, signal);
    const { machine, place, origin } = started;
    undo.defer(() => places.free(place));
    undo.defer(() => machine.stop());
    const runs = performance.now();
    const network = await reading;
    if (network.links.length > machine.taps.length) {
      throw new TooFewInterfaces(network.links.length);
    }
    const ear = new Ear();
    // The guest gets its network's addresses while its tap is put in place.
    const [{ agent, answers }, attachment] = await together(
      this.#ownAgent(started, ear, request, network, signal),
      netns === undefined ? Promise.resolve(undefined) : attachNetwork(launcher, {
        machinePid: machine.pid,
        taps: machine.taps,
        netns,
        network,
      }, signal),
      (late) => late.agent[Symbol.dispose](),
      (late) => late?.detach(),
    );
    undo.use(agent);
    if (attachment !== undefined) undo.defer(() => attachment.detach());
    await publish(machine, spec, signal);
    throwIfAborted(signal, `cannot start sandbox "${spec.id}"`);
    const ready = performance.now();
    this.#tell(origin, [begin, runs, answers, ready]);
    log.debug("a guest is ready", {
      sandbox: spec.id,
      origin,
      pid: machine.pid,
      machineMs: Math.round(runs - begin),
      agentMs: Math.round(answers - runs),
      setupMs: Math.round(ready - answers),
    });
    undo.move();
    const { cpus } = podMachine.spec;
    const parts = { machine, cpus, agent, ear, place, network: attachment, sharedTree };
    return {
      guest: new Guest(parts, (old) => places.free(old), log),
      mayShare: podMachine.mayShare,
    };
  }

  /**
   * Starts a guest with the memory of a saved one. It has a clock, entropy and a name of its own
   * before this returns; its containers are the caller's to let go on.
   *
   * @param request What is needed.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} When it cannot be started; then nothing is left of it.
   */
  async restore(
    { spec, cpus, directory, images }: RestoreRequest,
    signal: AbortSignal,
  ): Promise<Guest> {
    const { hypervisor, places, log } = this.#options;
    if (hypervisor.clone === undefined || hypervisor.saved === undefined) {
      throw new SandboxError("Unimplemented", `${hypervisor.name} cannot load saved machines`);
    }
    const saved = await hypervisor.saved(directory);
    await using undo = new AsyncDisposableStack();
    const place = await places.make("");
    undo.defer(() => places.free(place));
    const options = { paused: false, memory: "private", images: await images(place.user) } as const;
    const machine = await hypervisor.clone(saved, place, options, signal);
    undo.defer(() => machine.stop());
    const ear = new Ear();
    const agent = undo.use(await this.#agent(machine, ear, true, signal, this.#cloneReadyMs));
    await publish(machine, spec, signal);
    const { timeMs, seed, machineId } = podSetup(spec, NO_NETWORK, "");
    const renewal = { timeMs, seed, machineId };
    await agent.request("renew", renewal, { signal, timeoutMs: SETUP_MS });
    throwIfAborted(signal, `cannot start sandbox "${spec.id}"`);
    undo.move();
    const parts = { machine, cpus, agent, ear, place, network: undefined, sharedTree: undefined };
    return new Guest(parts, (old) => places.free(old), log);
  }

  /**
   * Takes a guest over.
   *
   * @param record What {@link Guest.record} was.
   * @returns Undefined where it is gone; then nothing is left of it.
   */
  async adopt(record: Json, signal: AbortSignal): Promise<Guest | undefined> {
    const { hypervisor, launcher, places, log } = this.#options;
    const members = new Members(record, "guest");
    const place = readPlace(members.object("place"));
    places.keep(place);
    const network = await this.#adoptNetwork(launcher, members.json("network"));
    const sharedTree = await this.#adoptTree(members.json("sharedTree"));
    await using undo = new AsyncDisposableStack();
    undo.defer(() => places.free(place));
    if (network !== undefined) undo.defer(() => network.detach());
    if (sharedTree !== undefined) undo.defer(() => sharedTree.stop());
    const machine = await hypervisor.adopt(members.json("machine"));
    if (machine === undefined) return undefined;
    undo.defer(() => machine.stop());
    const ear = new Ear();
    let agent: AgentClient;
    try {
      agent = await this.#agent(machine, ear, true, signal);
    } catch (error) {
      log.error("ending a guest that cannot be taken over", {
        machine: place.id,
        error: SandboxError.from(error),
      });
      return undefined;
    }
    undo.move();
    const cpus = members.number("cpus");
    const parts = { machine, cpus, agent, ear, place, network, sharedTree };
    return new Guest(parts, (old) => places.free(old), log);
  }

  /** Counts a machine, and tells how long it took to run, to answer, and to become its pod's own. */
  #tell(origin: string, [begin, runs, answers, ready]: readonly [number, number, number, number]) {
    const { telemetry = noTelemetry } = this.#options;
    telemetry.count("quasaur_vmm_machines_total", { origin });
    telemetry.phase("sandbox_start", "machine", begin, runs);
    telemetry.phase("sandbox_start", "agent", runs, answers);
    telemetry.phase("sandbox_start", "identity", answers, ready);
  }

  get #cloneReadyMs(): number {
    return Math.min(CLONE_READY_MS, this.#options.readyMs);
  }

  #machine({ spec, mustShare }: GuestRequest, interfaces: number): PodMachine {
    const machine = this.#options.machineFor(spec, interfaces);
    return mustShare ? { ...machine, spec: { ...machine.spec, sharedTree: true } } : machine;
  }

  async #newAgent(started: StartedMachine, ear: Ear, signal: AbortSignal): Promise<AgentClient> {
    if (started.origin === "boot") return await this.#agent(started.machine, ear, false, signal);
    try {
      return await this.#agent(started.machine, ear, false, signal, this.#cloneReadyMs);
    } catch (error) {
      this.#mustBeGood(started, error, signal);
      throw error;
    }
  }

  /** The agent of a new guest, which is its pod's own, and when it answered first. */
  async #ownAgent(
    started: StartedMachine,
    ear: Ear,
    { spec }: GuestRequest,
    network: PodNetwork,
    signal: AbortSignal,
  ): Promise<{ readonly agent: AgentClient; readonly answers: number }> {
    const resolvConf = this.#resolvConf(spec);
    resolvConf.catch(() => undefined);
    await using undo = new AsyncDisposableStack();
    const agent = undo.use(await this.#newAgent(started, ear, signal));
    const answers = performance.now();
    const options = { signal, timeoutMs: SETUP_MS };
    try {
      await agent.request("setup", podSetup(spec, network, await resolvConf), options);
      if (started.place.sharedTreeSocket !== undefined) {
        await agent.request("mountShared", { tag: SHARED_TREE_TAG }, options);
      }
    } catch (error) {
      // What the agent answers is no fault of the clone.
      if (SandboxError.from(error).code === "Unavailable") this.#mustBeGood(started, error, signal);
      throw error;
    }
    undo.move();
    return { agent, answers };
  }

  /**
   * Doubts what a machine was cloned from that did not become a guest.
   *
   * @throws {BadClone} Unless the machine was booted, or the caller gave up.
   */
  #mustBeGood(started: StartedMachine, error: unknown, signal: AbortSignal): void {
    if (signal.aborted || started.origin === "boot") return;
    this.#options.machines.reject(started);
    throw new BadClone(error);
  }

  async #agent(
    machine: Machine,
    ear: Ear,
    adopt: boolean,
    signal: AbortSignal,
    timeoutMs: number = this.#options.readyMs,
  ): Promise<AgentClient> {
    const ended = new AbortController();
    // A guest that ends will not answer any more.
    const exit = machine.exited.then(({ message, reason }) => {
      ended.abort();
      throw new SandboxError("Unavailable", `the guest has ended (${reason}): ${message}`);
    });
    const agent = this.#options.connectAgent(machine, {
      onEvent: (event) => ear.hear(event),
      adopt,
      timeoutMs,
      signal: AbortSignal.any([signal, ended.signal]),
    });
    agent.catch(() => undefined);
    exit.catch(() => undefined);
    return await Promise.race([agent, exit]);
  }

  async #serveTree(
    volumes: PodVolumes,
    signal: AbortSignal,
  ): Promise<GuestHelper & { readonly socket: string }> {
    await volumes.prepareTree();
    return await this.#options.serveTree(volumes.treeDirectory, signal);
  }

  async #resolvConf({ dns }: SandboxSpec): Promise<string> {
    const none = dns.servers.length + dns.searches.length + dns.options.length === 0;
    return none ? await this.#options.hostResolvConf() : "";
  }

  async #adoptNetwork(launcher: Launcher, record: Json): Promise<NetworkAttachment | undefined> {
    return record === null ? undefined : await adoptAttachment(launcher, record);
  }

  async #adoptTree(record: Json): Promise<GuestHelper | undefined> {
    return record === null ? undefined : await this.#options.adoptTree(record);
  }
}

/** The network of a pod that has none of the host's. */
function networkWithout({ network }: SandboxSpec): PodNetwork {
  return network.kind === "user" ? USER_NETWORK : NO_NETWORK;
}

/** Lets ports of this host lead to a machine, where any are asked for. */
async function publish(machine: Machine, spec: SandboxSpec, signal: AbortSignal): Promise<void> {
  const { ports = [] } = spec.network.kind === "user" ? spec.network : {};
  if (ports.length === 0) return;
  if (machine.publish === undefined) {
    throw new SandboxError(
      "Unimplemented",
      `cannot start sandbox "${spec.id}": its VMM cannot publish ports`,
    );
  }
  await machine.publish(ports, signal);
}

/** Waits for both; where one fails, the other is undone. */
async function together<A, B>(
  first: Promise<A>,
  second: Promise<B>,
  undoFirst: (made: A) => void,
  undoSecond: (made: B) => Promise<void> | undefined,
): Promise<[A, B]> {
  const [a, b] = await Promise.allSettled([first, second]);
  if (a.status === "fulfilled" && b.status === "fulfilled") return [a.value, b.value];
  if (a.status === "fulfilled") undoFirst(a.value);
  if (b.status === "fulfilled") await undoSecond(b.value);
  throw a.status === "rejected" ? a.reason : b.status === "rejected" ? b.reason : undefined;
}

function readPlace(place: Members): MachinePlace {
  const user = place.optional("user");
  return {
    id: place.text("id"),
    directory: place.text("directory"),
    user: user === undefined ? undefined : { uid: user.number("uid"), gid: user.number("gid") },
    cgroup: place.text("cgroup"),
    sharedTreeSocket: place.optionalText("sharedTreeSocket"),
  };
}
