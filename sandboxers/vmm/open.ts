/**
 * Puts the vmm kind together from its configuration: hypervisor, templates, pool, images, network and
 * driver. The sandboxer's main, the command line and the SDK all start here.
 *
 * @module
 */

import { AgentClient } from "../../guest/client/agent_client.ts";
import { Gate } from "../host/gate.ts";
import { FifoHolder } from "../host/fifo_holder.ts";
import { type HostFacts, Launcher } from "../host/launcher.ts";
import { HostMounter } from "../host/mounter.ts";
import { TaskRelay } from "../host/task_relay.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { Mounter } from "../lifecycle/mounter.ts";
import type { SandboxSpec } from "../lifecycle/spec.ts";
import type { Log } from "../log.ts";
import { noTelemetry, type Telemetry } from "../telemetry/telemetry.ts";
import { chooseAccelerator, measureTscKhz } from "./accelerator/accelerator.ts";
import type { ChosenAccelerator } from "./accelerator/memory.ts";
import { confinedStub } from "./accelerator/qemu_stub.ts";
import type { VmmConfig } from "./config/config.ts";
import { machineFor } from "./config/machine.ts";
import { ContainerFilesOpener } from "./container_files.ts";
import { VmmDriver } from "./driver.ts";
import { vmmMetrics } from "./metrics.ts";
import { type AgentConnect, GuestStarter } from "./guest_starter.ts";
import type { Machine, MachinePlace, MachineSpec } from "./hypervisor.ts";
import { Machines } from "./machines.ts";
import { MachinePlaces } from "./places.ts";
import { machineLayout } from "./qemu/layout.ts";
import { Qemu } from "./qemu/qemu.ts";
import { confinedVmms } from "./qemu/vmm_launcher.ts";
import { AgentStreams } from "./stdio.ts";
import { RootfsImages } from "./storage/rootfs_images.ts";
import { type TreeServer, TreeServers } from "./storage/tree_servers.ts";
import { MachineLedger } from "./template/ledger.ts";
import { Pool } from "./template/pool.ts";
import { Templates } from "./template/templates.ts";

/** The size of a disk slot of a machine, in bytes. */
const DISK_BYTES = 16 * 2 ** 30;
/** How long a template's agent may take to answer, in milliseconds. */
const TEMPLATE_AGENT_MS = 120_000;
/** How long finding an accelerator may take, in milliseconds. */
const ACCELERATOR_MS = 60_000;
/** The socket of the file server of a machine that becomes a template, in the machine's directory. */
const TEMPLATE_TREE_SOCKET = "share.sock";
const MIB = 2 ** 20;

/** What {@link openVmm} works with. */
export interface VmmOptions {
  /** The configuration. */
  readonly config: VmmConfig;
  /** The state directory, an absolute path, best in memory. */
  readonly directory: string;
  /** The sandboxer's task socket, for pods whose task calls outlive it; undefined without containerd. */
  readonly taskListen?: string;
  /** Set where machines are a program's own. */
  readonly embedded?: EmbeddedVmm;
  /** Counts, measures and hears of the phases of starts; missing for nobody. */
  readonly telemetry?: Telemetry;
  /** Where notes go. */
  readonly log: Log;
}

/** What differs where machines are a program's own: they end with it. */
export interface EmbeddedVmm {
  /** The directory of templates and of what was found out of this host, shared with other programs. */
  readonly sharedDirectory: string;
  /** Connects to a unix socket below the state directory. */
  connect(path: string): Promise<Deno.UnixConn>;
}

/** The vmm kind, ready to work. */
export interface Vmm {
  /** Runs sandboxes. */
  readonly driver: VmmDriver;
  /** Mounts root file systems. */
  readonly mounter: Mounter;
  /** Calls the host's kernel. */
  readonly launcher: Launcher;
  /** Holds FIFOs while no sandboxer is there; undefined where nothing outlives this process. */
  readonly holder: FifoHolder | undefined;
}

/** The parts that the others are made of. */
interface Base extends VmmOptions {
  readonly launcher: Launcher;
  readonly gate: Pick<Gate, "connect">;
  /** The directory of what outlives the machines. */
  readonly shared: string;
  readonly facts: HostFacts;
  readonly places: MachinePlaces;
  /** Notes of all machines, also of those that are just being started. */
  readonly running: MachineLedger;
  /** Serves shared trees. */
  readonly trees: TreeServers;
}

/**
 * Puts the vmm kind together. Machines of an earlier process are found later, by the lifecycle.
 *
 * @param options See {@link VmmOptions}.
 * @throws {SandboxError} `FailedPrecondition` where something that it needs is not there, with what to
 *   do.
 */
export async function openVmm(options: VmmOptions): Promise<Vmm> {
  const { config, directory, taskListen, embedded, log } = options;
  await Deno.mkdir(directory, { recursive: true });
  // VMMs run as users of their own, and have their directories below.
  await Deno.chmod(directory, 0o711);
  const launcher = new Launcher();
  const firstUser = config.hypervisor.runAs === "root" ? undefined : config.hypervisor.runAs;
  const gate = embedded ?? new Gate(`${directory}/gate.sock`);
  const base: Base = {
    ...options,
    launcher,
    gate,
    shared: embedded?.sharedDirectory ?? directory,
    facts: await launcher.facts(),
    places: new MachinePlaces({
      directory: `${directory}/machines`,
      firstUser,
      removeCgroup: (cgroup) => removeCgroup(launcher, cgroup, log),
    }),
    running: new MachineLedger(`${directory}/running`, log),
    trees: new TreeServers({
      launcher,
      directory: `${directory}/tree-servers`,
      connect: (path) => gate.connect(path),
      log,
    }),
  };
  const tscKhz = once(() => measureTscKhz(launcher));
  const hypervisor = newQemu(base, tscKhz);
  const accelerator = await accelerate(base, hypervisor, tscKhz);
  const images = await RootfsImages.open({
    directory: config.storage.cacheDirectory,
    cacheBytesMax: config.storage.cacheMaxInMb * MIB,
    diskBytes: DISK_BYTES,
    compression: config.storage.compression,
    log,
  });
  const mounter = new HostMounter(launcher);
  const ready = await readyMachines(base, hypervisor, accelerator);
  const relay = taskListen === undefined ? undefined : await TaskRelay.open({
    launcher,
    listen: `${directory}/relay.sock`,
    server: taskListen,
    dir: directory,
    log,
  });
  // A FIFO without a writer makes containerd stop reading: somebody has to hold them meanwhile.
  const holder = taskListen === undefined
    ? undefined
    : await FifoHolder.start({ launcher, dir: directory, log });
  const { machines, ledger, pool, templates } = ready;
  if (options.telemetry !== undefined) vmmMetrics(options.telemetry, pool, templates);
  const host = { accelerator: accelerator.accelerator, cpus: navigator.hardwareConcurrency };
  const driver = new VmmDriver({
    starter: newStarter(base, { hypervisor, machines, host }),
    files: new ContainerFilesOpener({ images, mounter, log }),
    streams: (guest) => new AgentStreams(guest.agent, log, holder),
    podDirectory: `${directory}/pods`,
    taskSocket: relay?.socket,
    hold: () => pool?.hold(),
    recovered: async (inUse) => {
      const free = (place: MachinePlace) => base.places.free(place);
      await ledger.recover(hypervisor, inUse, free);
      await base.running.recover(hypervisor, inUse, free, { keepInUse: true });
      await base.places.sweep(inUse, async (place) => {
        await hypervisor.endStray(place);
        await base.trees.endStray(`${place}/${TEMPLATE_TREE_SOCKET}`);
      });
      await base.trees.recover(`${directory}/trees`);
      await images.sweep();
      await holder?.tookOver();
      keepReady(base, host, ready);
    },
    keepOpen: async () => await holder?.release(),
    onCallersLost: (listener) => relay?.onLost(listener),
    observer: options.telemetry ?? noTelemetry,
    leave: async (hasPods) => {
      await Promise.all([pool?.close(), templates?.close(), images.close()]);
      if (hasPods) {
        relay?.release();
      } else await Promise.all([relay?.stop(), holder?.stop()]);
    },
    log,
  });
  return { driver, mounter, launcher: base.launcher, holder };
}

/** Decides who executes guests; remembered until the host starts again. */
async function accelerate(
  { config, shared, launcher, facts, places, log }: Base,
  hypervisor: Qemu,
  tscKhz: () => Promise<number>,
): Promise<ChosenAccelerator> {
  const { accelerator, path } = config.hypervisor;
  const version = await hypervisor.version();
  const place = await places.make("");
  try {
    return await chooseAccelerator({
      wanted: accelerator,
      facts,
      hypervisor: `qemu ${version}`,
      runStub: confinedStub(launcher, path, place),
      measureTsc: tscKhz,
      memoryFile: `${shared}/accelerator.json`,
      log,
    }, AbortSignal.timeout(ACCELERATOR_MS));
  } finally {
    await places.free(place);
  }
}

/** Does something once, however often it is asked for. */
function once<T>(effect: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => made ??= effect();
}

/** Removes a cgroup of a machine; one that is left is the business of whoever made those above it. */
async function removeCgroup(launcher: Launcher, cgroup: string, log: Log): Promise<void> {
  try {
    await launcher.removeCgroup(cgroup);
  } catch (error) {
    log.warn("cannot remove a cgroup", { cgroup, error: SandboxError.from(error) });
  }
}

function newQemu(
  { config, directory, embedded, launcher, gate, running, log }: Base,
  tscKhz: () => Promise<number>,
): Qemu {
  return new Qemu({
    program: config.hypervisor.path,
    launcher: confinedVmms(launcher, { diesWithParent: embedded !== undefined }),
    connect: gate.connect,
    directory,
    tscKhz,
    notes: running,
    log,
  });
}

/** What gets machines ready before pods need them. */
async function readyMachines(base: Base, hypervisor: Qemu, { tscKhz }: ChosenAccelerator) {
  const { config, directory, shared, places, launcher, facts, log } = base;
  const ledger = new MachineLedger(`${directory}/ledger`, log);
  const joinCgroup = (cgroup: string, pid: number) => launcher.joinCgroup(cgroup, pid);
  const machines = { hypervisor, places, joinCgroup, log };
  if (!config.template.enable) {
    return { machines: new Machines(machines), ledger, pool: undefined, templates: undefined };
  }
  const templates = new Templates({
    hypervisor,
    places,
    ledger,
    agent: (machine, signal) =>
      connectAgent(base, machine, {
        onEvent: () => undefined,
        adopt: false,
        timeoutMs: TEMPLATE_AGENT_MS,
        signal,
      }),
    sharedTree: async (place, signal) => {
      const empty = `${place.directory}/empty`;
      await Deno.mkdir(empty);
      return await serveTree(base, empty, `${place.directory}/${TEMPLATE_TREE_SOCKET}`, signal);
    },
    directory: config.template.directory === "" ? `${shared}/templates` : config.template.directory,
    host: {
      hypervisor: `qemu ${await hypervisor.version()} ${machineLayout()}`,
      bootId: facts.bootId,
      tscKhz,
    },
    countMax: config.template.countMax,
    log,
  });
  const pool = config.template.pool === 0 ? undefined : new Pool({
    hypervisor,
    saved: templates,
    places,
    ledger,
    size: config.template.pool,
    ...(config.template.rehearse === "none"
      ? {}
      : { rehearse: (machine, signal) => rehearse(base, machine, signal) }),
    log,
  });
  const saved = { ...machines, saved: templates };
  return {
    machines: new Machines(pool === undefined ? saved : { ...saved, ready: pool }),
    ledger,
    pool,
    templates,
  };
}

function newStarter(
  base: Base,
  { hypervisor, machines, host }: {
    readonly hypervisor: Qemu;
    readonly machines: Machines;
    readonly host: Parameters<typeof machineFor>[2];
  },
): GuestStarter {
  const { config, launcher, places, directory, telemetry = noTelemetry, log } = base;
  return new GuestStarter({
    machines,
    hypervisor,
    places,
    launcher,
    machineFor: (spec: SandboxSpec, interfaces) => machineFor(config, spec, host, interfaces),
    connectAgent: (machine, connect) => connectAgent(base, machine, connect),
    serveTree: async (tree, signal) => {
      await Deno.mkdir(`${directory}/trees`, { recursive: true, mode: 0o711 });
      const name = crypto.randomUUID().slice(0, 13);
      return await serveTree(base, tree, `${directory}/trees/${name}.sock`, signal);
    },
    adoptTree: (record) => base.trees.adopt(record),
    readyMs: config.hypervisor.readyTimeoutInS * 1000,
    hostResolvConf: () => Deno.readTextFile("/etc/resolv.conf").catch(() => ""),
    telemetry,
    log,
  });
}

/** Has a machine walk through a start, so that the next one is quick. */
async function rehearse(base: Base, machine: Machine, signal: AbortSignal): Promise<void> {
  const onEvent = () => undefined;
  const connect = { onEvent, adopt: false, timeoutMs: TEMPLATE_AGENT_MS, signal };
  using agent = await connectAgent(base, machine, connect);
  const container = base.config.template.rehearse === "container";
  await agent.request("rehearse", { container }, { signal });
}

async function connectAgent(
  { gate, log }: Base,
  { agentSocket }: Machine,
  connect: AgentConnect,
): Promise<AgentClient> {
  return await AgentClient.connect({ connect: gate.connect, path: agentSocket, log, ...connect });
}

async function serveTree(
  { config, places, trees }: Base,
  directory: string,
  socket: string,
  signal: AbortSignal,
): Promise<TreeServer> {
  const { path, cache, threadPoolSize, logLevel } = config.hypervisor.virtiofsd;
  const { group } = places;
  return await trees.start({
    directory,
    socket,
    log: `${socket}.log`,
    ...(group === undefined ? {} : { client: { gid: group } }),
    cgroup: "",
    program: path,
    cache,
    threadPoolSize,
    logLevel,
  }, signal);
}

/** Has a template of the usual machine made, and machines kept ready, before the first pod comes. */
function keepReady(
  { config, log }: Base,
  host: Parameters<typeof machineFor>[2],
  { pool, templates }: Awaited<ReturnType<typeof readyMachines>>,
): void {
  if (templates === undefined) return;
  const spec = usualMachine(config, host);
  pool?.want(spec);
  templates.get(spec, new AbortController().signal).catch((error: unknown) => {
    log.debug("no template was made ahead", { error: SandboxError.from(error) });
  });
}

/** The machine of a pod that asks for nothing. */
function usualMachine(
  config: VmmConfig,
  host: Parameters<typeof machineFor>[2],
): MachineSpec {
  const pod = { id: "usual", resources: {}, annotations: {} };
  return machineFor(config, { ...pod, network: { kind: "namespace", path: "" } }, host).spec;
}
