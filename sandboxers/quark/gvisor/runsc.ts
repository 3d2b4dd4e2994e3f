/**
 * Typed calls to runsc, gVisor's program. Each is one short process, bounded and cancellable; what it
 * says in its log becomes the error. runsc keeps what it knows on disk, so nothing is kept here.
 *
 * Facts of the protocol: the command line of gVisor's release 20240729 (package runsc/cmd).
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import {
  callRunsc,
  failure,
  runRunsc,
  type RunscAnswer,
  type RunscCallOptions,
  type RunscStdio,
} from "./runsc_call.ts";
import {
  parseList,
  parsePids,
  parseState,
  parseStats,
  parseWait,
  type RunscState,
  type RunscStats,
} from "./runsc_answers.ts";
import type { RunscOptions } from "./runsc_options.ts";
import { readRecord, removeRecord, type RunscContainer } from "./runsc_state.ts";
import { type RunscVersion, runscVersion } from "./runsc_version.ts";

export type { RunscCallOptions, RunscStdio } from "./runsc_call.ts";
export type { RunscState, RunscStats } from "./runsc_answers.ts";
export type { NetworkStack, Platform, RunscOptions } from "./runsc_options.ts";

/** A container to create. */
export interface RunscCreate extends RunscContainer {
  /** Its bundle, an absolute path: a directory with config.json. */
  readonly bundle: string;
  /** The streams of a sandbox; those of a container are given when it is started. */
  readonly stdio?: RunscStdio;
  /** The file that takes the process id of the sandbox, an absolute path. */
  readonly pidFile?: string;
  /** The socket that takes the terminal of a container that has one, an absolute path. */
  readonly consoleSocket?: string;
}

/** A process to start in a container. */
export interface RunscExec {
  /** The container. */
  readonly id: string;
  /** The file that describes it (`process` of config.json), an absolute path. */
  readonly processFile: string;
  /** Its streams. */
  readonly stdio?: RunscStdio;
  /** The socket that takes its terminal, an absolute path. */
  readonly consoleSocket?: string;
  /** The file that takes the process id of the runsc that waits for it, an absolute path. */
  readonly pidFile: string;
  /** The file that takes its process id inside, an absolute path. */
  readonly insidePidFile: string;
}

/** What was started. */
export interface RunscExecuted {
  /** The process of runsc that waits for the end; it may be killed, the process inside goes on. */
  readonly waiterPid: number;
  /** The process's id in the sandbox's first process namespace. */
  readonly pid: number;
}

/** A checkpoint. */
export interface RunscCheckpoint {
  /** The directory that takes it, an absolute path. */
  readonly imageDirectory: string;
  /** Whether the sandbox goes on. */
  readonly leavesRunning?: boolean;
}

/** Calls runsc. */
export class Runsc {
  /**
   * Starts nothing yet.
   *
   * @param options What all calls have in common.
   */
  constructor(readonly options: RunscOptions) {}

  /**
   * The same with other options, such as another network for one pod.
   *
   * @param changes What is different.
   */
  with(changes: Partial<RunscOptions>): Runsc {
    return new Runsc({ ...this.options, ...changes });
  }

  /**
   * Which version it is.
   *
   * @throws {SandboxError} `FailedPrecondition` where it is missing or is no runsc.
   */
  async version(): Promise<RunscVersion> {
    return await runscVersion(this.options.program);
  }

  /**
   * Creates a sandbox with its first container, or a container in a sandbox. Where it fails nothing
   * is left of it, but perhaps its cgroup.
   *
   * @param create What to create; of a container that has a terminal, the terminal comes now.
   * @throws {SandboxError} `AlreadyExists`; `NotFound` where the sandbox is not there;
   *   `InvalidArgument`; `ResourceExhausted`; `DeadlineExceeded`; `Cancelled`.
   */
  async create(create: RunscCreate, options: RunscCallOptions = {}): Promise<void> {
    const { id, bundle, pidFile, consoleSocket, stdio = {} } = create;
    const action = `cannot create container "${id}"`;
    const { root } = this.options;
    // runsc itself refuses too, and on its way out forgets the one that is there.
    if (await readRecord(root, create) !== undefined) {
      throw new SandboxError("AlreadyExists", `${action}: there is one`);
    }
    const sandbox = { id: create.sandboxId, sandboxId: create.sandboxId };
    if (id !== create.sandboxId && await readRecord(root, sandbox) === undefined) {
      throw new SandboxError("NotFound", `${action}: there is no sandbox "${create.sandboxId}"`);
    }
    const args = [
      "create",
      `--bundle=${bundle}`,
      ...(pidFile === undefined ? [] : [`--pid-file=${pidFile}`]),
      ...(consoleSocket === undefined ? [] : [`--console-socket=${consoleSocket}`]),
      id,
    ];
    try {
      await callRunsc(this.options, { ...options, action, args, stdio, startsProcesses: true });
    } catch (error) {
      await removeRecord(root, create).catch(() => undefined);
      throw error;
    }
  }

  /**
   * Starts what was created. A sandbox takes over its network now.
   *
   * @param container Which one.
   * @param stdio The streams of a container without a terminal; a sandbox has its own already.
   * @throws {SandboxError} `NotFound`; `InvalidArgument` where its program cannot be executed;
   *   `FailedPrecondition` where it was started, or the network cannot be used.
   */
  async start(
    container: RunscContainer,
    stdio: RunscStdio = {},
    options: RunscCallOptions = {},
  ): Promise<void> {
    const { id, sandboxId } = container;
    const { network, hidesNetworkSettings = false } = this.options;
    const isMasked = hidesNetworkSettings && network === "sandbox" && id === sandboxId;
    const action = `cannot start container "${id}"`;
    const args = ["start", id];
    await callRunsc(this.options, {
      ...options,
      action,
      args,
      stdio,
      isMasked,
      startsProcesses: true,
    });
  }

  /**
   * Starts a process in a container and leaves a runsc behind that waits for its end.
   *
   * @returns As soon as it runs.
   * @throws {SandboxError} `NotFound`; `InvalidArgument` where its program cannot be executed;
   *   `FailedPrecondition` where the container does not run.
   */
  async exec(exec: RunscExec, options: RunscCallOptions = {}): Promise<RunscExecuted> {
    const { id, stdio = {}, consoleSocket, pidFile, insidePidFile } = exec;
    const action = `cannot run a process in container "${id}"`;
    const args = [
      "exec",
      "--detach",
      `--process=${exec.processFile}`,
      `--pid-file=${pidFile}`,
      `--internal-pid-file=${insidePidFile}`,
      ...(consoleSocket === undefined ? [] : [`--console-socket=${consoleSocket}`]),
      id,
    ];
    await callRunsc(this.options, { ...options, action, args, stdio, startsProcesses: true });
    const [waiterPid, pid] = await Promise.all([pidFile, insidePidFile].map(readPid));
    return { waiterPid: waiterPid ?? 0, pid: pid ?? 0 };
  }

  /**
   * Runs a command in a container to its end.
   *
   * @param id The container.
   * @param command The command and its arguments; the user and environment are the container's.
   * @returns Its exit status and what it wrote.
   * @throws {SandboxError} As {@link Runsc.exec}; `DeadlineExceeded`.
   */
  async run(
    id: string,
    command: readonly string[],
    options: RunscCallOptions = {},
  ): Promise<Omit<RunscAnswer, "log">> {
    const action = `cannot run "${command[0] ?? ""}" in container "${id}"`;
    const answer = await runRunsc(this.options, {
      ...options,
      action,
      args: ["exec", id, ...command],
    });
    if (answer.status !== 0 && answer.log !== "") throw failure(action, answer);
    const { status, stdout, stderr } = answer;
    return { status, stdout, stderr };
  }

  /**
   * Sends a signal.
   *
   * @param id The container.
   * @param signal signal(7), 1 to 64.
   * @param target Whom to: the first process unless `all` is set, or a `pid` inside is given.
   * @throws {SandboxError} `NotFound` where there is no such process any more; `FailedPrecondition`
   *   where the container was not started.
   */
  async kill(
    id: string,
    signal: number,
    target: { readonly all?: boolean; readonly pid?: number } = {},
    options: RunscCallOptions = {},
  ): Promise<void> {
    const action = `cannot send signal ${signal} to container "${id}"`;
    const args = [
      "kill",
      ...(target.all === true ? ["--all"] : []),
      ...(target.pid === undefined ? [] : [`--pid=${target.pid}`]),
      id,
      `${signal}`,
    ];
    await callRunsc(this.options, { ...options, action, args });
  }

  /**
   * What there is to know of a container, also whether its first process has ended.
   *
   * @throws {SandboxError} `NotFound`.
   */
  async state(id: string, options: RunscCallOptions = {}): Promise<RunscState> {
    const action = `cannot look at container "${id}"`;
    return parseState(
      action,
      await callRunsc(this.options, { ...options, action, args: ["state", id] }),
    );
  }

  /** All containers, those of all sandboxes. */
  async list(options: RunscCallOptions = {}): Promise<RunscState[]> {
    const action = "cannot list containers";
    const args = ["list", "--format=json"];
    return parseList(action, await callRunsc(this.options, { ...options, action, args }));
  }

  /**
   * Waits for the end of a container's first process, or of another; a process of runsc waits
   * meanwhile. Of a process that has ended before, runsc knows the status once.
   *
   * @param id The container.
   * @param pid Another process, by its id in the sandbox's first process namespace.
   * @returns Its exit status, 128 and the signal where it was killed.
   * @throws {SandboxError} `NotFound`; `FailedPrecondition` where the sandbox has ended.
   */
  async wait(id: string, pid?: number, options: RunscCallOptions = {}): Promise<number> {
    const action = `cannot wait for container "${id}"`;
    const args = ["wait", ...(pid === undefined ? [] : [`--rootpid=${pid}`]), id];
    const text = await callRunsc(this.options, { timeoutMs: Infinity, ...options, action, args });
    return parseWait(action, text);
  }

  /**
   * Freezes a container: all containers of its sandbox stand still.
   *
   * @throws {SandboxError} `FailedPrecondition` where it does not run.
   */
  async pause(id: string, options: RunscCallOptions = {}): Promise<void> {
    const action = `cannot pause container "${id}"`;
    await callRunsc(this.options, { ...options, action, args: ["pause", id] });
  }

  /**
   * Thaws what {@link Runsc.pause} froze.
   *
   * @throws {SandboxError} `FailedPrecondition` where it is not paused.
   */
  async resume(id: string, options: RunscCallOptions = {}): Promise<void> {
    const action = `cannot resume container "${id}"`;
    await callRunsc(this.options, { ...options, action, args: ["resume", id] });
  }

  /**
   * What a container uses now.
   *
   * @throws {SandboxError} `NotFound`; `FailedPrecondition` where it has ended.
   */
  async stats(id: string, options: RunscCallOptions = {}): Promise<RunscStats> {
    const action = `cannot measure container "${id}"`;
    const args = ["events", "--stats", id];
    return parseStats(action, await callRunsc(this.options, { ...options, action, args }));
  }

  /** The processes of a container, by their ids in the sandbox's first process namespace. */
  async pids(id: string, options: RunscCallOptions = {}): Promise<number[]> {
    const action = `cannot list the processes of container "${id}"`;
    const args = ["ps", "--format=json", id];
    return parsePids(action, await callRunsc(this.options, { ...options, action, args }));
  }

  /**
   * Saves a sandbox with all its containers.
   *
   * @param id The sandbox.
   * @throws {SandboxError} `FailedPrecondition` where it does not run.
   */
  async checkpoint(
    id: string,
    { imageDirectory, leavesRunning = false }: RunscCheckpoint,
    options: RunscCallOptions = {},
  ): Promise<void> {
    const action = `cannot save sandbox "${id}"`;
    const args = [
      "checkpoint",
      `--image-path=${imageDirectory}`,
      ...(leavesRunning ? ["--leave-running"] : []),
      id,
    ];
    await callRunsc(this.options, { ...options, action, args });
  }

  /**
   * Brings a saved sandbox, or a container of one, back: creates and starts it.
   *
   * @param create As for {@link Runsc.create}, with the bundle that it was saved with.
   * @param imageDirectory Where it was saved, an absolute path.
   * @throws {SandboxError} As {@link Runsc.create}, and where the image cannot be read.
   */
  async restore(
    create: RunscCreate,
    imageDirectory: string,
    options: RunscCallOptions = {},
  ): Promise<void> {
    const { id, sandboxId, bundle, pidFile, consoleSocket, stdio = {} } = create;
    const action = `cannot restore container "${id}"`;
    const { network, hidesNetworkSettings = false } = this.options;
    const isMasked = hidesNetworkSettings && network === "sandbox" && id === sandboxId;
    const args = [
      "restore",
      "--detach",
      `--image-path=${imageDirectory}`,
      `--bundle=${bundle}`,
      ...(pidFile === undefined ? [] : [`--pid-file=${pidFile}`]),
      ...(consoleSocket === undefined ? [] : [`--console-socket=${consoleSocket}`]),
      id,
    ];
    await callRunsc(this.options, {
      ...options,
      action,
      args,
      stdio,
      isMasked,
      startsProcesses: true,
    });
  }

  /**
   * Changes limits, where this runsc can.
   *
   * @param id The container.
   * @param resourcesFile A file with `linux.resources` of config.json, an absolute path.
   * @throws {SandboxError} `Unimplemented` where it cannot.
   */
  async update(id: string, resourcesFile: string, options: RunscCallOptions = {}): Promise<void> {
    const action = `cannot change the limits of container "${id}"`;
    if (!(await this.commands(options)).has("update")) {
      throw new SandboxError("Unimplemented", `${action}: the installed runsc cannot`);
    }
    const args = ["update", `--resources=${resourcesFile}`, id];
    await callRunsc(this.options, { ...options, action, args });
  }

  /** The names of the calls that this runsc has. */
  async commands(options: RunscCallOptions = {}): Promise<ReadonlySet<string>> {
    const action = "cannot ask runsc for its commands";
    const text = await callRunsc(this.options, { ...options, action, args: ["help"] });
    return new Set([...text.matchAll(/^\t(\S+) {2,}\S/gm)].flatMap(([, name]) => name ?? []));
  }

  /**
   * Removes a container or sandbox. runsc waits until its processes are nobody's any more, which is
   * as soon as the first process of this machine takes note of their end: up to seconds.
   *
   * @param id Which one; nothing happens where there is none.
   * @param force Whether what still runs is killed.
   * @throws {SandboxError} `FailedPrecondition` where it runs and `force` is not set.
   */
  async delete(id: string, force = false, options: RunscCallOptions = {}): Promise<void> {
    const action = `cannot delete container "${id}"`;
    const args = ["delete", ...(force ? ["--force"] : []), id];
    try {
      await callRunsc(this.options, { ...options, action, args });
    } catch (error) {
      if (!(error instanceof SandboxError) || error.code !== "NotFound") throw error;
    }
  }
}

async function readPid(path: string): Promise<number> {
  const text = await Deno.readTextFile(path).catch(() => "");
  const pid = Number(text.trim());
  return Number.isSafeInteger(pid) && pid > 0 ? pid : 0;
}
