/**
 * Starts microVMs in this process out of the parts that the sandboxer is made of, so that every step
 * from the wish for a machine to the first output of a container can be timed by itself: without
 * containerd, and with the sandboxer's own VMM, launcher, confinement, template and agent.
 *
 * @module
 */

import { AgentClient } from "../../guest/client/agent_client.ts";
import { Gate } from "../../sandboxers/host/gate.ts";
import { Launcher } from "../../sandboxers/host/launcher.ts";
import { noLog } from "../../sandboxers/log.ts";
import { chooseAccelerator, measureTscKhz } from "../../sandboxers/vmm/accelerator/accelerator.ts";
import { confinedStub } from "../../sandboxers/vmm/accelerator/qemu_stub.ts";
import { defaultVmmConfig } from "../../sandboxers/vmm/config/load.ts";
import { machineFor } from "../../sandboxers/vmm/config/machine.ts";
import type {
  Machine,
  MachinePlace,
  MachineSpec,
  SavedMachine,
} from "../../sandboxers/vmm/hypervisor.ts";
import { MachinePlaces } from "../../sandboxers/vmm/places.ts";
import { SLOT_BYTES } from "../../sandboxers/vmm/qemu/command_line.ts";
import { Qemu } from "../../sandboxers/vmm/qemu/qemu.ts";
import { confinedVmms } from "../../sandboxers/vmm/qemu/vmm_launcher.ts";
import { buildErofs } from "../../sandboxers/vmm/storage/erofs_builder.ts";
import { MachineLedger } from "../../sandboxers/vmm/template/ledger.ts";
import { Pool } from "../../sandboxers/vmm/template/pool.ts";
import { Templates } from "../../sandboxers/vmm/template/templates.ts";
import { BusyboxRootfs } from "../../tests/support/busybox_rootfs.ts";
import { waitFor } from "../../tests/support/wait.ts";
import { BENCH_POD, createContainer, setUpGuest, startContainer } from "./vmm_guest.ts";
import { within } from "./within.ts";

/** How a machine begins: it boots, it is cloned, or it was cloned before and waits. */
export type Origin = "boot" | "clone" | "pool";

/** When each step of a start was done, in milliseconds since the start began. */
export interface StartTimes {
  /** The VMM answers; out of the pool: the machine runs. */
  readonly spawned: number;
  /** The agent in the guest is ready. */
  readonly answered: number;
  /** The guest is its pod's own: time, entropy, name, network. */
  readonly identified: number;
  /** The image of the container's root file system is attached. */
  readonly attached: number;
  /** The container is made. */
  readonly created: number;
  /** It runs. */
  readonly started: number;
  /** Its first output is there. */
  readonly printed: number;
}

/** A machine and where it lives. */
interface Placed {
  readonly machine: Machine;
  readonly place: MachinePlace;
}

/** What a {@link VmmHost} is made of. */
interface Parts {
  readonly spec: MachineSpec;
  readonly qemu: Qemu;
  readonly gate: Gate;
  readonly places: MachinePlaces;
  readonly templates: Templates;
  readonly pool: Pool;
  readonly directory: string;
  readonly tscKhz: number;
  readonly release: AsyncDisposableStack;
  readonly signal: AbortSignal;
}

/** State in memory, as a node has it. */
const PARENT = "/dev/shm";
/** How long one step may take, in milliseconds: far beyond any goal. */
const STEP_MS = 60_000;
/** How long a pool may take to have a machine ready, in milliseconds: the template is made first. */
const POOL_MS = 120_000;
/** How long building the image of a small root file system may take, in milliseconds. */
const IMAGE_MS = 30_000;
/** The name of that image. */
const IMAGE = "rootfs.erofs";

/** Starts machines. Disposing of it removes all that it has made. */
export class VmmHost implements AsyncDisposable {
  readonly #parts: Parts;
  /** Keeps the pool from working while something is timed. */
  #hold: Disposable | undefined;

  private constructor(parts: Parts) {
    this.#parts = parts;
  }

  /**
   * Gets ready; no machine is left of that.
   *
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} Where something is missing on this host, with what to do.
   */
  static async open(signal: AbortSignal): Promise<VmmHost> {
    await using undo = new AsyncDisposableStack();
    const directory = await Deno.makeTempDir({ dir: PARENT, prefix: "qs-bench-" });
    undo.defer(() => Deno.remove(directory, { recursive: true }));
    // VMMs run as users of their own, and have their files below.
    await Deno.chmod(directory, 0o711);
    const config = defaultVmmConfig();
    const { path: program, runAs } = config.hypervisor;
    const launcher = new Launcher();
    const gate = new Gate(`${directory}/gate.sock`);
    const firstUser = runAs === "root" ? undefined : runAs;
    const places = new MachinePlaces({ directory: `${directory}/machines`, firstUser });
    const tscKhz = await measureTscKhz(launcher, signal);
    const qemu = new Qemu({
      program,
      // A run that is killed leaves none behind.
      launcher: confinedVmms(launcher, { diesWithParent: true }),
      connect: gate.connect,
      directory,
      tscKhz: () => Promise.resolve(tscKhz),
    });
    const place = await places.make("");
    const facts = await launcher.facts();
    const version = `qemu ${await qemu.version()}`;
    const { accelerator } = await chooseAccelerator({
      wanted: config.hypervisor.accelerator,
      facts,
      hypervisor: version,
      runStub: confinedStub(launcher, program, place),
      measureTsc: () => Promise.resolve(tscKhz),
      memoryFile: `${directory}/accelerator.json`,
      log: noLog,
    }, signal);
    await places.free(place);
    const host = { accelerator, cpus: navigator.hardwareConcurrency };
    const { spec } = machineFor(config, BENCH_POD, host);
    await makeImage(`${directory}/${IMAGE}`, signal);
    const ready = {
      hypervisor: qemu,
      places,
      ledger: new MachineLedger(`${directory}/ledger`, noLog),
      log: noLog,
    };
    const templates = new Templates({
      ...ready,
      agent: (machine) => connectAgent(gate, machine, signal),
      directory: `${directory}/templates`,
      host: { hypervisor: version, bootId: facts.bootId, tscKhz },
      countMax: 1,
    });
    undo.defer(() => templates.close());
    const pool = new Pool({ ...ready, saved: templates, size: 1, quietMs: 0 });
    undo.defer(() => pool.close());
    const release = undo.move();
    const parts = { spec, qemu, gate, places, templates, pool, directory, tscKhz, release, signal };
    return new VmmHost(parts);
  }

  /** The machine of a pod that asks for nothing. */
  get spec(): MachineSpec {
    return this.#parts.spec;
  }

  /** The frequency of the host's time stamp counter, in kHz. */
  get tscKhz(): number {
    return this.#parts.tscKhz;
  }

  /** The directory of everything here; any VMM can pass through it. */
  get directory(): string {
    return this.#parts.directory;
  }

  /**
   * Starts a pod's machine and a container in it, and ends both.
   *
   * @param origin How the machine begins. What a pool does beforehand is not timed.
   * @returns When each step was done.
   */
  async start(origin: Origin): Promise<StartTimes> {
    await using undo = new AsyncDisposableStack();
    const saved = origin === "clone" ? await this.#saved() : undefined;
    const ready = origin === "pool" ? await this.#ready(undo) : undefined;
    const place = ready?.place ?? await this.place(undo);
    const begin = performance.now();
    const elapsed = () => performance.now() - begin;
    const machine = await this.#running({ ready: ready?.machine, saved, place });
    undo.defer(() => machine.stop());
    const spawned = elapsed();
    using agent = await this.connect(machine);
    const answered = elapsed();
    await setUpGuest(agent, this.spec.interfaces);
    const identified = elapsed();
    const serial = await this.attach(machine);
    const attached = elapsed();
    const output = await createContainer(agent, { serial, cpus: this.spec.cpus });
    const created = elapsed();
    await startContainer(agent);
    const started = elapsed();
    await within(STEP_MS, "the first output of a container in a guest", output.first);
    return { spawned, answered, identified, attached, created, started, printed: elapsed() };
  }

  /**
   * A place for a machine.
   *
   * @param undo Takes it back, when the machine has ended.
   */
  async place(undo: AsyncDisposableStack): Promise<MachinePlace> {
    const { places } = this.#parts;
    const place = await places.make("");
    undo.defer(() => places.free(place));
    return place;
  }

  /**
   * Boots a machine, which is the caller's to stop.
   *
   * @param spec The machine.
   * @param place Where.
   */
  async boot(spec: MachineSpec, place: MachinePlace): Promise<Machine> {
    return await this.#parts.qemu.boot(spec, place, this.#parts.signal);
  }

  /**
   * Connects to the agent of a machine and waits until it is ready.
   *
   * @param machine The machine.
   */
  async connect(machine: Machine): Promise<AgentClient> {
    const { gate, signal } = this.#parts;
    return await connectAgent(gate, machine, signal);
  }

  /**
   * Attaches the image of a small root file system.
   *
   * @param machine The machine.
   * @returns Its serial number in the guest.
   */
  async attach(machine: Machine): Promise<string> {
    const { directory, signal } = this.#parts;
    const disk = { path: `${directory}/${IMAGE}`, serial: "rootfs", readonly: true };
    return (await machine.attachDisk(disk, signal)).serial;
  }

  /** Removes everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.release.disposeAsync();
  }

  /** The template, which the first one to ask waits for. */
  async #saved(): Promise<SavedMachine> {
    const { templates, spec, signal } = this.#parts;
    const saved = await templates.get(spec, signal);
    if (saved === undefined) throw new Error("cannot make a template of the usual machine");
    return saved;
  }

  /** One out of the pool, as a sandboxer has it; the pool does nothing after that. */
  async #ready(undo: AsyncDisposableStack): Promise<Placed> {
    const { pool, places, spec } = this.#parts;
    this.#hold?.[Symbol.dispose]();
    pool.want(spec);
    const limits = { timeoutMs: POOL_MS, intervalMs: 10 };
    await waitFor("a machine in the pool", () => pool.count > 0, limits);
    this.#hold = pool.hold();
    const ready = pool.take(spec);
    if (ready === undefined) throw new Error("the pool has lost the machine that it had");
    undo.defer(() => places.free(ready.place));
    // In case it does not get as far as to run.
    undo.defer(() => ready.machine.stop());
    return ready;
  }

  /** A machine that runs: the one that waits, a clone, or one that boots. */
  async #running({ ready, saved, place }: {
    readonly ready: Machine | undefined;
    readonly saved: SavedMachine | undefined;
    readonly place: MachinePlace;
  }): Promise<Machine> {
    const { qemu, signal } = this.#parts;
    if (ready !== undefined) {
      await ready.resume(signal);
      return ready;
    }
    if (saved === undefined) return await this.boot(this.spec, place);
    return await qemu.clone(saved, place, { paused: false, memory: "private" }, signal);
  }
}

async function connectAgent(
  gate: Gate,
  { agentSocket: path }: Machine,
  signal: AbortSignal,
): Promise<AgentClient> {
  return await AgentClient.connect({ connect: gate.connect, path, timeoutMs: STEP_MS, signal });
}

/** Makes the image of a root file system with busybox, as large as a disk slot. */
async function makeImage(target: string, signal: AbortSignal): Promise<void> {
  await using rootfs = await BusyboxRootfs.make();
  const source = rootfs.path;
  const limits = { compression: "none", bytesMax: SLOT_BYTES, timeoutMs: IMAGE_MS } as const;
  await buildErofs({ source, target, ...limits }, signal);
  await Deno.truncate(target, SLOT_BYTES);
  await Deno.chmod(target, 0o444);
}
