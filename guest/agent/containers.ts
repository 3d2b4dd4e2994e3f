/**
 * The containers of the guest: what each one holds, in which state it is, and what the host can ask
 * of it. Plain ones are made natively, others by crun.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type {
  ContainerUsage,
  CreateContainerArgs,
  GuestMount,
  JsonObject,
  ProcessName,
  Requests,
} from "../protocol/messages.ts";
import type { Agent } from "./agent.ts";
import {
  cgroupEmptied,
  cgroupPids,
  cgroupsPath,
  cgroupUsage,
  killCgroup,
  type OomWatch,
  readCgroupFile,
  removeCgroup,
  setFrozen,
  signalCgroup,
  watchOom,
  writeLimits,
} from "./cgroups.ts";
import { planCreation } from "./creation.ts";
import { callCrun, forgetContainer, introduce, releaseInit } from "./crun.ts";
import type { Disks } from "./disks.ts";
import { enterContainer, planEnter } from "./enter.ts";
import { closeEntrance, type Entrance, openEntrance } from "./entrance.ts";
import { deviceNumbers, hasHugePages } from "./guest_facts.ts";
import { createInit, type WaitingInit } from "./init.ts";
import { listAt, objectAt } from "./json_values.ts";
import { limitWrites } from "./limits.ts";
import { SIGKILL } from "./linux.ts";
import { log } from "./log.ts";
import { sleep } from "./loop.ts";
import type { MemoryVolumes } from "./memory_volumes.ts";
import { type BindMount, containerSysctls, crunConfig, crunProcess } from "./oci.ts";
import { prepareRootfs, type Rootfs } from "./rootfs.ts";
import { type Pod, writeSysctls } from "./setup.ts";
import type { SharedPids } from "./shared_pids.ts";
import type { SharedTree } from "./shared_tree.ts";
import { ProcessStdio } from "./stdio.ts";
import type { Volumes } from "./volumes.ts";

/** What containers are made of and with. */
export interface ContainerParts {
  /** The processes that the host knows, the streams, and the way to tell the host something. */
  readonly agent: Pick<Agent, "processes" | "streams" | "tell">;
  /** What is the pod's own. */
  readonly pod: Pod;
  /** Disks with images. */
  readonly disks: Disks;
  /** The host's shared tree. */
  readonly shared: SharedTree;
  /** Directories in memory. */
  readonly memory: MemoryVolumes;
  /** Volumes that the host sends. */
  readonly volumes: Volumes;
  /** The pid name space that containers can share. */
  readonly pids: SharedPids;
}

type InventoryEntry = Requests["inventory"]["result"]["containers"][number];

/** A container. */
interface Container {
  readonly id: string;
  state: InventoryEntry["state"] | "creating" | "deleting";
  rootfs: Rootfs | undefined;
  oom: OomWatch | undefined;
  /** By what processes get in; undefined where only crun may start them, or before there is one. */
  entrance: Entrance | undefined;
  /** Its first process, where it was made without crun. */
  init: WaitingInit | undefined;
  /** Makes crun know of it, once, where it was made without. */
  introduce: (() => void) | undefined;
  /** Whether the host was told that something was killed for want of memory; undefined for never. */
  oomTold: boolean | undefined;
  /** Calls of crun that are under way. */
  readonly calls: Set<Promise<unknown>>;
}

/** Containers that a guest may have. */
const CONTAINERS_MAX = 256;
/** How long the ends of killed processes may take to be noticed, in milliseconds. */
const REAP_MS = 5000;

/** All containers of the guest. */
export class Containers {
  readonly #parts: ContainerParts;
  readonly #containers = new Map<string, Container>();

  /**
   * Begins without containers.
   *
   * @param parts What containers are made of and with.
   */
  constructor(parts: ContainerParts) {
    this.#parts = parts;
  }

  /**
   * Makes a container ready to start.
   *
   * @throws AgentError What was wrong with it; nothing is left of it then.
   */
  async create(args: CreateContainerArgs): Promise<number> {
    const { id } = args;
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/.test(id)) {
      throw new AgentError("InvalidArgument", `cannot use "${id}" as the id of a container`);
    }
    if (this.#containers.has(id)) {
      throw new AgentError("AlreadyExists", `the container "${id}" exists`);
    }
    if (this.#containers.size >= CONTAINERS_MAX) {
      throw new AgentError("ResourceExhausted", `a guest has at most ${CONTAINERS_MAX} containers`);
    }
    const container: Container = {
      id,
      state: "creating",
      rootfs: undefined,
      oom: undefined,
      entrance: undefined,
      init: undefined,
      introduce: undefined,
      oomTold: undefined,
      calls: new Set(),
    };
    this.#containers.set(id, container);
    try {
      const pid = await this.#make(container, args);
      container.state = "created";
      return pid;
    } catch (thrown) {
      await this.#destroy(container);
      throw thrown;
    }
  }

  /** Starts the init process of a created container. */
  start(id: string): void {
    const container = this.#get(id);
    if (container.state !== "created") {
      throw new AgentError(
        "FailedPrecondition",
        `cannot start the container "${id}": it is ${container.state}, not created`,
      );
    }
    if (container.init === undefined) releaseInit(id);
    else container.init.letGo();
    container.state = "running";
  }

  /** Starts a process beside the init. */
  async exec(args: Requests["exec"]["args"]): Promise<number> {
    const container = this.#get(args.container);
    const action = `cannot run the process "${args.exec}" in the container "${args.container}"`;
    if (container.state !== "running" || args.exec === "") {
      const why = args.exec === "" ? "it has no name" : `the container is ${container.state}`;
      throw new AgentError("FailedPrecondition", `${action}: ${why}`);
    }
    const document = crunProcess(args.process, args.stdio.terminal);
    const { entrance } = container;
    const plan = entrance === undefined ? undefined : planEnter(document, entrance.filter);
    const program = programOf(args.process);
    return await this.#run(container, args, {
      start: (stdio) => {
        if (entrance !== undefined && plan !== undefined) {
          return enterContainer(entrance, plan, stdio, action);
        }
        container.introduce?.();
        container.introduce = undefined;
        return callCrun({
          action,
          verb: "exec",
          container: container.id,
          document,
          program,
          stdio,
        });
      },
    });
  }

  /** Sends a signal to a process, or to all of a container. */
  kill(args: Requests["kill"]["args"]): void {
    const container = this.#get(args.container);
    if (args.all !== true || args.exec !== "") {
      this.#parts.agent.processes.signal(args, args.signal);
    } else if (args.signal === SIGKILL) {
      killCgroup(container.id);
    } else {
      signalCgroup(container.id, args.signal);
    }
  }

  /** Freezes a container. */
  async pause(id: string): Promise<void> {
    const container = this.#inState(id, "running", "pause");
    await setFrozen(id, true);
    if (container.state === "running") container.state = "paused";
  }

  /** Thaws a container. */
  async resume(id: string): Promise<void> {
    const container = this.#inState(id, "paused", "resume");
    await setFrozen(id, false);
    if (container.state === "paused") container.state = "running";
  }

  /** Changes the limits of a container. */
  update(id: string, resources: JsonObject): void {
    this.#get(id);
    writeLimits(id, limitWrites(resources, readCgroupFile(id, "cpu.max")));
  }

  /** The process ids of a container. */
  pids(id: string): number[] {
    this.#get(id);
    return cgroupPids(id);
  }

  /** Kills what still runs in a container and releases all it holds. */
  async delete(id: string): Promise<void> {
    const container = this.#get(id);
    if (container.state === "creating" || container.state === "deleting") {
      throw new AgentError(
        "FailedPrecondition",
        `cannot delete the container "${id}": it is being ${
          container.state === "creating" ? "created" : "deleted"
        }`,
      );
    }
    await this.#destroy(container);
  }

  /** What each container uses. */
  usage(): ContainerUsage[] {
    return [...this.#containers.keys()].map(cgroupUsage).filter((usage) => usage !== undefined);
  }

  /** What there is, for a host that was restarted. */
  inventory(): InventoryEntry[] {
    const entries: InventoryEntry[] = [];
    for (const { id, state } of this.#containers.values()) {
      if (state === "creating" || state === "deleting") continue;
      const processes = this.#parts.agent.processes.of(id)
        .map(({ name, pid, streams }) => ({ exec: name.exec, pid, stdio: streams }));
      entries.push({ container: id, state, processes });
    }
    return entries;
  }

  /** Tells again what the host could not be told. */
  retell(): void {
    for (const container of this.#containers.values()) {
      if (container.oomTold === false) this.#tellOom(container);
    }
  }

  /** Kills everything, before the guest is switched off. */
  killAll(): void {
    for (const id of this.#containers.keys()) killCgroup(id);
  }

  /** Whether a process of a container still runs. */
  hasProcesses(): boolean {
    return [...this.#containers.keys()].some((id) => cgroupPids(id).length > 0);
  }

  async #make(container: Container, args: CreateContainerArgs): Promise<number> {
    const { id, config } = args;
    this.#parts.agent.processes.reserve({ container: id, exec: "" });
    this.#parts.pod.settle();
    const mounts = args.mounts.map((mount) => this.#bindOf(mount));
    writeSysctls(containerSysctls(config));
    const rootfs = await prepareRootfs(args.rootfs, {
      container: id,
      readonly: objectAt(config, "root")["readonly"] === true,
      mountpoints: [
        ...listAt(config, "mounts").flatMap((mount) =>
          typeof mount === "object" && mount !== null && "destination" in mount
            ? [String(mount["destination"])]
            : []
        ),
        ...mounts.map((mount) => mount.destination),
      ],
    }, this.#parts);
    container.rootfs = rootfs;
    const document = crunConfig(config, {
      rootfs: rootfs.path,
      mounts,
      cgroupsPath: cgroupsPath(id),
      pidNamespace: args.pidNamespace === "pod" ? this.#parts.pids.path() : undefined,
      terminal: args.stdio.terminal,
      device: deviceNumbers,
      hasHugePages,
    });
    const action = `cannot create the container "${id}"`;
    const program = programOf(objectAt(config, "process"));
    return await this.#run(container, { container: id, exec: "", stdio: args.stdio }, {
      start: async (stdio) => {
        const plan = planCreation(document);
        const init = plan === undefined ? undefined : await createInit(id, plan, stdio);
        if (init === undefined) {
          return await callCrun({
            action,
            verb: "create",
            container: id,
            document,
            program,
            stdio,
          });
        }
        const { pid } = init;
        container.init = init;
        container.introduce = () =>
          introduce({ container: id, document, cgroupsPath: cgroupsPath(id), pid });
        return pid;
      },
      started: (pid) => {
        container.oom = watchOom(id, () => this.#tellOom(container));
        container.entrance = openEntrance(id, pid, document);
      },
      // In a pid name space of its own the kernel kills what is left when the first process ends.
      ended: () => this.#initEnded(container, args.pidNamespace === "pod"),
    });
  }

  /** Has a process made, and keeps it. */
  async #run(
    container: Container,
    { container: id, exec, stdio: streams }: ProcessName & Pick<CreateContainerArgs, "stdio">,
    how: {
      readonly start: (stdio: ProcessStdio) => Promise<number>;
      readonly started?: (pid: number) => void;
      readonly ended?: () => void;
    },
  ): Promise<number> {
    const { agent } = this.#parts;
    const name = { container: id, exec };
    agent.processes.reserve(name);
    const stdio = new ProcessStdio(agent.streams, streams);
    try {
      const pid = await track(container.calls, how.start(stdio));
      how.started?.(pid);
      agent.processes.add({
        name,
        pid,
        stdio,
        streams,
        oom: () => (container.oom?.count() ?? 0) > 0,
        ended: () => how.ended?.(),
      });
      return pid;
    } catch (thrown) {
      stdio.abandon("the process was not started");
      throw thrown;
    }
  }

  #initEnded(container: Container, killsOthers: boolean): void {
    if (container.state !== "deleting") container.state = "stopped";
    if (killsOthers) killCgroup(container.id);
  }

  #tellOom(container: Container): void {
    // Once is enough: the host wants to know why, not how often.
    if (container.oomTold === true) return;
    container.oomTold = this.#parts.agent.tell({ kind: "oom", container: container.id });
  }

  /** Releases all that a container holds, in whatever state it is. */
  async #destroy(container: Container): Promise<void> {
    const { id } = container;
    container.state = "deleting";
    killCgroup(id);
    // A process that crun is just making might come after the kill.
    await Promise.allSettled(container.calls);
    killCgroup(id);
    const notes: (string | undefined)[] = [];
    if (!await cgroupEmptied(id)) notes.push("its processes do not end");
    await this.#exitsNoted(id);
    container.oom?.stop();
    if (container.entrance !== undefined) closeEntrance(container.entrance);
    container.entrance = undefined;
    container.init?.close();
    notes.push(forgetContainer(id), await removeCgroup(id));
    notes.push(...await container.rootfs?.release() ?? []);
    for (const process of this.#parts.agent.processes.of(id)) {
      if (process.exit === undefined) process.stdio.abandon("the container was deleted");
    }
    this.#parts.agent.processes.forget(id);
    this.#containers.delete(id);
    for (const note of notes) {
      if (note !== undefined) log("warn", `deleting the container "${id}": ${note}`);
    }
  }

  /** Waits until the ends of all processes of a container were noticed. */
  async #exitsNoted(id: string): Promise<void> {
    for (let waitedMs = 0; waitedMs < REAP_MS; waitedMs += 2) {
      if (this.#parts.agent.processes.of(id).every((process) => process.exit !== undefined)) return;
      await sleep(2);
    }
  }

  #bindOf(mount: GuestMount): BindMount {
    const { destination, readonly } = mount;
    if (!destination.startsWith("/")) {
      throw new AgentError("InvalidArgument", `cannot mount at "${destination}": not absolute`);
    }
    const source = this.#sourceOf(mount);
    if (mount.kind !== "shm") return { destination, readonly, source };
    return { destination, readonly, source, options: ["nosuid", "nodev", "noexec"] };
  }

  #sourceOf(mount: GuestMount): string {
    const { shared, volumes, memory, pod } = this.#parts;
    switch (mount.kind) {
      case "shared":
        return shared.path(mount.path);
      case "volume":
        return volumes.source(mount.volume, mount.path);
      case "memory":
        return memory.source(mount.name, mount.sizeBytes, mount.owner);
      case "shm":
      case "podFile":
        return pod.source(mount);
    }
  }

  #get(id: string): Container {
    const container = this.#containers.get(id);
    if (container !== undefined) return container;
    throw new AgentError("NotFound", `cannot find the container "${id}"`);
  }

  #inState(id: string, state: Container["state"], verb: string): Container {
    const container = this.#get(id);
    if (container.state === state) return container;
    throw new AgentError(
      "FailedPrecondition",
      `cannot ${verb} the container "${id}": it is ${container.state}, not ${state}`,
    );
  }
}

/** Keeps a promise in a set while it is pending. */
async function track<T>(set: Set<Promise<unknown>>, promise: Promise<T>): Promise<T> {
  set.add(promise);
  try {
    return await promise;
  } finally {
    set.delete(promise);
  }
}

/** The first word of a process's command line. */
function programOf(process: JsonObject): string {
  return String(listAt(process, "args")[0] ?? "");
}
