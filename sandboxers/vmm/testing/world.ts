/**
 * What tests of pods, their starting and their adoption begin with: machines that are none, each with
 * an agent behind its socket that speaks the real protocol, and files of containers that are noted
 * only. Everything else is what a sandboxer has.
 *
 * @module
 */

import { AgentClient } from "../../../guest/client/agent_client.ts";
import { FakeAgent } from "../../../guest/client/testing/fake_agent.ts";
import type { RequestName, Requests } from "../../../guest/protocol/messages.ts";
import type { RequestHandlers } from "../../../guest/protocol/peer.ts";
import { Launcher } from "../../host/launcher.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { ContainerSpec, Json, SandboxSpec } from "../../lifecycle/spec.ts";
import { TestGate } from "../../lifecycle/testing/gate.ts";
import { sandboxSpec } from "../../lifecycle/testing/specs.ts";
import { createLog, type Log } from "../../log.ts";
import { LiveTelemetry } from "../../telemetry/telemetry.ts";
import { defaultVmmConfig } from "../config/load.ts";
import { machineFor, type PodMachine } from "../config/machine.ts";
import {
  type ContainerFiles,
  ContainerFilesOpener,
  type NewContainerFiles,
} from "../container_files.ts";
import { VmmDriver } from "../driver.ts";
import type { Guest } from "../guest.ts";
import { type AgentConnect, GuestStarter } from "../guest_starter.ts";
import type { Hypervisor, Machine, MachineSpec, SavedMachine } from "../hypervisor.ts";
import { Machines, type MachinesOptions, type SavedMachines } from "../machines.ts";
import { MachinePlaces } from "../places.ts";
import type { ProcessStreams } from "../process.ts";
import { RootfsImages } from "../storage/rootfs_images.ts";
import type { PodVolumes } from "../storage/pod_volumes.ts";
import type { OpenStreams, Streams } from "../streams.ts";
import {
  FakeHypervisor,
  type FakeMachine,
  FakeWorld,
} from "../template/testing/fake_hypervisor.ts";

export { eventually, NEVER } from "../template/testing/fixture.ts";

/** How long the agent may take in these tests, in milliseconds. */
const AGENT_MS = 5_000;

/** What an agent was asked. */
export interface Asked {
  /** The name of the request. */
  readonly name: RequestName;
  /** What it was asked with. */
  readonly args: unknown;
}

/** A sandbox that needs nothing of the host. */
export function podSpec(id = "pod", changes: Partial<SandboxSpec> = {}): SandboxSpec {
  return sandboxSpec(id, { network: { kind: "none" }, ...changes });
}

/** Templates that are there, or not, as a test wants. */
export class FakeTemplates implements SavedMachines {
  /** What was rejected. */
  readonly rejected: SavedMachine[] = [];
  /** Thrown in the place of an answer. */
  failure: unknown;
  readonly #saved: string;
  readonly #gate: TestGate;

  /** Templates in a directory where a fake's state is. */
  constructor(saved: string, gate: TestGate) {
    this.#saved = saved;
    this.#gate = gate;
  }

  /** See {@link SavedMachines.get}. */
  async get(spec: MachineSpec): Promise<SavedMachine | undefined> {
    await this.#gate.pass("template");
    if (this.failure !== undefined) throw this.failure;
    return { directory: this.#saved, spec };
  }

  /** See {@link SavedMachines.reject}. */
  reject(saved: SavedMachine): void {
    this.rejected.push(saved);
  }
}

/** Streams of processes that are nowhere; how long their output takes a test decides. */
export class FakeStreams implements Streams {
  /** How many are open. */
  count = 0;
  readonly #gate: TestGate;
  #last = 0;

  /**
   * Opens none yet.
   *
   * @param gate Passed by `streams.finished`, once for each process that ends.
   */
  constructor(gate: TestGate) {
    this.#gate = gate;
  }

  /** See {@link Streams.open}. */
  open(): OpenStreams {
    return { guest: { stdout: ++this.#last }, streams: this.#streams() };
  }

  /** See {@link Streams.adopt}. */
  adopt(): ProcessStreams {
    return this.#streams();
  }

  #streams(): ProcessStreams {
    this.count++;
    let isOpen = true;
    const { promise: given, resolve: giveUp } = Promise.withResolvers<void>();
    const close = () => {
      if (isOpen) this.count--;
      isOpen = false;
      giveUp();
    };
    return {
      finished: (end) =>
        end === "killed"
          ? Promise.resolve()
          : Promise.race([this.#gate.pass("streams.finished"), given]),
      closeStdin: () => Promise.resolve(),
      [Symbol.dispose]: close,
    };
  }
}

/** Files of containers that are only noted. */
export class FakeFiles extends ContainerFilesOpener {
  /** The containers that have some. */
  readonly held = new Set<string>();
  readonly #gate: TestGate;

  /**
   * Files that nobody has yet.
   *
   * @param images Not used.
   * @param gate Passed by `files.open`, `files.release` and `files.releaseLeft`.
   * @param log Where notes go.
   */
  constructor(images: RootfsImages, gate: TestGate, log: Log) {
    const nothing = () => Promise.resolve();
    super({ images, mounter: { bind: nothing, unmountAll: nothing }, log });
    this.#gate = gate;
  }

  /** See {@link ContainerFilesOpener.open}. */
  override async open(
    _volumes: PodVolumes,
    _guest: Guest,
    { id }: ContainerSpec,
  ): Promise<NewContainerFiles> {
    await this.#gate.pass("files.open");
    return {
      ...this.#files(id),
      config: { config: {}, pidNamespace: "own" },
      rootfs: { kind: "disk", serial: "fake", fsType: "erofs" },
    };
  }

  /** See {@link ContainerFilesOpener.adopt}. */
  override adopt(
    _volumes: PodVolumes,
    _guest: Guest,
    { id }: ContainerSpec,
  ): Promise<ContainerFiles> {
    return Promise.resolve(this.#files(id));
  }

  /** See {@link ContainerFilesOpener.releaseLeft}. */
  override async releaseLeft(record: Json): Promise<void> {
    await this.#gate.pass("files.releaseLeft");
    if (typeof record === "string") this.held.delete(record);
  }

  #files(id: string): ContainerFiles {
    this.held.add(id);
    return {
      record: id,
      mounts: [],
      readBack: () => this.#gate.delay("files.readBack"),
      release: async () => {
        await this.#gate.pass("files.release");
        this.held.delete(id);
      },
    };
  }
}

/** One life of a sandboxer whose machines are none. Its directory and its machines outlive it. */
export class World implements AsyncDisposable {
  /** Where every effect can be held and made fail. */
  readonly gate = new TestGate();
  /** What was logged. */
  readonly lines: string[] = [];
  /** What agents were asked, by any sandboxer. */
  readonly asked: Asked[];
  /** The agents of machines that run, by their sockets. */
  readonly agents: Map<string, FakeAgent>;
  /** What agents do beside what they must. */
  handlers: RequestHandlers = {};
  /** The log. */
  readonly log: Log;
  /** Starts machines. */
  readonly hypervisor: Hypervisor;
  /** Where they live. */
  readonly places: MachinePlaces;
  /** What they are cloned from. */
  readonly templates: FakeTemplates;
  /** Streams of processes. */
  readonly streams: FakeStreams;
  /** Files of containers. */
  readonly files: FakeFiles;
  /** Whether agents answer. */
  answering = true;
  /** How many trees are served. */
  trees = 0;
  /** What pods' machines are to be. */
  machine: Partial<PodMachine> = {};
  /** Hears of what is done. */
  readonly telemetry = new LiveTelemetry({ kind: "vmm" });
  readonly #clients: AgentClient[] = [];

  private constructor(
    /** Where everything is. */
    readonly directory: string,
    /** Where the machines are. */
    readonly machines: FakeWorld,
    images: RootfsImages,
    earlier: World | undefined,
  ) {
    this.agents = earlier?.agents ?? new Map();
    this.asked = earlier?.asked ?? [];
    this.log = createLog({ level: "trace", write: (line) => void this.lines.push(line) });
    this.places = new MachinePlaces({ directory: `${directory}/machines`, firstUser: undefined });
    this.hypervisor = new FakeHypervisor(machines, this.gate);
    this.templates = new FakeTemplates(`${directory}/template`, this.gate);
    this.streams = new FakeStreams(this.gate);
    this.files = new FakeFiles(images, this.gate, this.log);
  }

  /** Makes one. */
  static async make(): Promise<World> {
    const directory = await Deno.makeTempDir({ prefix: "quasaur-vmm-" });
    await Deno.mkdir(`${directory}/template`);
    await Deno.writeTextFile(`${directory}/template/state`, "state");
    return await World.#on(directory, new FakeWorld());
  }

  /** The next sandboxer, after this one was killed. */
  async next(): Promise<World> {
    this.gate.close();
    for (const client of this.#clients) client[Symbol.dispose]();
    return await World.#on(this.directory, this.machines, this);
  }

  static async #on(directory: string, machines: FakeWorld, earlier?: World): Promise<World> {
    const images = await RootfsImages.open({
      directory: `${directory}/images`,
      cacheBytesMax: 0,
      diskBytes: 0,
      log: createLog({ level: "error", write: () => {} }),
    });
    return new World(directory, machines, images, earlier);
  }

  /** Gets machines as a sandboxer does. */
  newMachines(changes: Partial<MachinesOptions> = {}): Machines {
    return new Machines({
      hypervisor: this.hypervisor,
      places: this.places,
      saved: this.templates,
      joinCgroup: () => this.gate.pass("joinCgroup"),
      log: this.log,
      ...changes,
    });
  }

  /** Starts guests as a sandboxer does. */
  newStarter(machines: Machines = this.newMachines()): GuestStarter {
    return new GuestStarter({
      telemetry: this.telemetry,
      machines,
      hypervisor: this.hypervisor,
      places: this.places,
      launcher: new Launcher("/nowhere"),
      machineFor: (spec, interfaces) => {
        const host = { accelerator: "tcg", cpus: 1 } as const;
        return { ...machineFor(defaultVmmConfig(), spec, host, interfaces), ...this.machine };
      },
      connectAgent: (machine, connect) => this.connect(machine, connect),
      serveTree: async () => {
        await this.gate.pass("serveTree");
        this.trees++;
        return this.#tree();
      },
      adoptTree: () => Promise.resolve(this.#tree()),
      readyMs: AGENT_MS,
      hostResolvConf: () => Promise.resolve(""),
      log: this.log,
    });
  }

  /** Runs pods as a sandboxer does. */
  newDriver(): VmmDriver {
    return new VmmDriver({
      observer: this.telemetry,
      starter: this.newStarter(),
      files: this.files,
      streams: () => this.streams,
      podDirectory: `${this.directory}/pods`,
      taskSocket: undefined,
      hold: () => undefined,
      recovered: () => Promise.resolve(),
      keepOpen: () => this.gate.pass("keepOpen"),
      leave: () => Promise.resolve(),
      log: this.log,
    });
  }

  /** Connects to the agent of a machine, which is made at the first time. */
  async connect(
    { agentSocket }: Pick<Machine, "agentSocket">,
    options: Omit<AgentConnect, "timeoutMs">,
  ): Promise<AgentClient> {
    await this.gate.pass("agent");
    if (!this.agents.has(agentSocket) && this.answering) {
      this.agents.set(agentSocket, new FakeAgent(agentSocket, this.#handlers()).listen());
    }
    const client = await AgentClient.connect({
      path: agentSocket,
      ...options,
      timeoutMs: AGENT_MS,
      reconnectMs: 100,
    });
    this.#clients.push(client);
    return client;
  }

  /** The agent of the one machine that runs. */
  get agent(): FakeAgent {
    const agent = this.agents.get(this.running.agentSocket);
    if (agent === undefined) throw new Error("Nobody has connected to the agent yet");
    return agent;
  }

  /** The one machine that runs. */
  get running(): FakeMachine {
    const [machine, ...others] = this.machines.running;
    if (machine === undefined || others.length > 0) {
      throw new Error(`Expected one machine, found ${this.machines.running.length}`);
    }
    return machine;
  }

  /** Tells that a process has ended. */
  tellExit(container: string, status: number, exec = ""): void {
    const exit = { container, exec, status, atMs: Date.now(), oom: false, signaled: false };
    this.agent.peer.event({ kind: "exit", exit });
  }

  /** The arguments of all requests of a kind that were asked. */
  argumentsOf(name: RequestName): unknown[] {
    return this.asked.filter((asked) => asked.name === name).map(({ args }) => args);
  }

  /** The names in a directory below; none where it is missing. */
  async names(name: string): Promise<string[]> {
    const entries = await Array.fromAsync(Deno.readDir(`${this.directory}/${name}`)).catch(
      () => [],
    );
    return entries.map((entry) => entry.name).sort();
  }

  /** What is left of pods and machines: an empty list where nothing is. */
  async left(): Promise<string[]> {
    return [
      ...this.machines.running.map(({ pid }) => `machine ${pid}`),
      ...(await this.names("machines")).map((name) => `place ${name}`),
      ...(await this.names("pods")).map((name) => `pod ${name}`),
      ...[...this.files.held].map((id) => `files of ${id}`),
      ...(this.trees === 0 ? [] : [`${this.trees} trees`]),
      ...(this.streams.count === 0 ? [] : [`streams of ${this.streams.count} processes`]),
    ];
  }

  /** Whether a line was logged that has this text in it. */
  said(text: string): boolean {
    return this.lines.some((line) => line.includes(text));
  }

  #tree() {
    let isServed = true;
    return {
      record: {},
      socket: `${this.directory}/tree.sock`,
      stop: async () => {
        await this.gate.pass("tree.stop");
        if (isServed) this.trees--;
        isServed = false;
      },
    };
  }

  /** Every request is noted; those without a handler of a test's own succeed. */
  #handlers(): RequestHandlers {
    const note = <K extends RequestName>(
      name: K,
      result: (args: Requests[K]["args"]) => Requests[K]["result"],
    ) =>
    async (args: Requests[K]["args"]) => {
      this.asked.push({ name, args });
      const own = this.handlers[name];
      return own === undefined ? result(args) : await own(args);
    };
    const nothing = () => ({});
    return {
      setup: note("setup", nothing),
      mountShared: note("mountShared", nothing),
      createContainer: note("createContainer", () => ({ pid: 1 })),
      startContainer: note("startContainer", nothing),
      exec: note("exec", () => ({ pid: 2 })),
      kill: note("kill", nothing),
      deleteContainer: note("deleteContainer", nothing),
      acknowledgeExit: note("acknowledgeExit", nothing),
      inventory: note("inventory", () => ({ containers: [], lastStream: 0 })),
    };
  }

  /** Removes the directory and ends all agents. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.agents.values()) agent[Symbol.dispose]();
    for (const machine of this.machines.running) machine.crash();
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** An error that a fake throws. */
export function fault(message = "a fault"): SandboxError {
  return new SandboxError("Internal", message);
}
