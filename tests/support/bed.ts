/**
 * The test bed: a private containerd with the sandboxers that a test wants, in one directory that
 * goes away at the end. Tests, the demo and the benchmarks all stand on it.
 *
 * @module
 */

import type { LogLevel } from "../../sandboxers/log.ts";
import { removeCgroup } from "./cgroups.ts";
import { run } from "./command.ts";
import { Containerd } from "./containerd.ts";
import { PAUSE_IMAGE } from "./containerd_config.ts";
import { Cri } from "./cri.ts";
import { killLeftProcesses } from "./left_processes.ts";
import { fileSystemType, mountsBelow } from "./mount_table.ts";
import { busyboxImage } from "./oci_image.ts";
import {
  SandboxerPaths,
  SandboxerProcess,
  type SandboxerProgram,
  sandboxerProgram,
} from "./sandboxer.ts";
import { claimBed, sweepStaleBeds } from "./stale_beds.ts";

/** Directories in which a bed may live, the best first. */
const PARENTS = ["/var/tmp", "/tmp", "/dev/shm"];

/** How the names of beds begin. */
const PREFIX = "qs-";

/** File systems that cannot hold the upper directory of an overlay. Source: overlayfs documentation. */
const NO_OVERLAY = ["overlay", "fuse", "nfs", "nfs4", "9p", "virtiofs"];

/** Options of {@link Bed.start}. */
export interface BedOptions {
  /** The sandboxers to run: this repository's by kind, such as `wasm`, or others; default none. */
  readonly kinds?: readonly (string | SandboxerProgram)[];
  /** How much containerd and the sandboxers log. Default `debug`. */
  readonly logLevel?: LogLevel;
  /** Whether runc pods can run too: brings the image for their own process. Default false. */
  readonly runc?: boolean;
  /** Whether sockets and state lie in memory, as /run does on most machines. Default false. */
  readonly runInMemory?: boolean;
  /** Whether containerd starts before the sandboxers instead of after them. Default false. */
  readonly containerdFirst?: boolean;
  /** Where containerd sends traces, such as `http://127.0.0.1:4318`. Default nowhere. */
  readonly containerdTraces?: string;
}

/** How long processes that outlive a sandboxer may take to end after it, in milliseconds. */
const LEAVE_MS = 3_000;

/** A running test bed. */
export class Bed implements AsyncDisposable {
  #containerd: Containerd | undefined;
  readonly #sandboxers: readonly SandboxerProcess[];

  private constructor(
    /** The directory that holds everything. */
    readonly directory: string,
    kinds: readonly (string | SandboxerProgram)[],
    /** How much containerd and the sandboxers log. */
    readonly logLevel: LogLevel,
    private readonly containerdTraces: string | undefined,
  ) {
    this.#sandboxers = kinds.map((kind) => {
      const program = typeof kind === "string" ? sandboxerProgram(kind) : kind;
      return new SandboxerProcess(program, new SandboxerPaths(program.kind, directory), logLevel);
    });
  }

  /**
   * Starts a bed.
   *
   * @param options What runs in it.
   * @throws {Error} When containerd or a sandboxer does not come up; nothing is left behind then.
   */
  static async start(options: BedOptions = {}): Promise<Bed> {
    const parent = await parentDirectory();
    await sweepStaleBeds(parent, PREFIX);
    const directory = await Deno.makeTempDir({ dir: parent, prefix: PREFIX });
    // VMMs run as users of their own, and have their files below.
    await Deno.chmod(directory, 0o711);
    await claimBed(directory);
    const { kinds = [], logLevel = "debug", containerdTraces } = options;
    const bed = new Bed(directory, kinds, logLevel, containerdTraces);
    try {
      if (options.runInMemory) await bed.#mountRunDirectories();
      if (options.containerdFirst) await bed.#startContainerd();
      for (const sandboxer of bed.#sandboxers) await sandboxer.start();
      if (!options.containerdFirst) await bed.#startContainerd();
      if (options.runc) {
        const entrypoint = ["/bin/tail", "-f", "/dev/null"];
        await bed.containerd.importImage(await busyboxImage(PAUSE_IMAGE, { entrypoint }));
      }
      return bed;
    } catch (error) {
      await bed[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Its containerd. */
  get containerd(): Containerd {
    if (this.#containerd === undefined) throw new Error("The bed has no containerd yet");
    return this.#containerd;
  }

  /**
   * One of its sandboxers.
   *
   * @param kind Such as `wasm`.
   */
  sandboxer(kind: string): SandboxerProcess {
    const found = this.#sandboxers.find(({ paths }) => paths.kind === kind);
    if (found === undefined) throw new Error(`The bed has no sandboxer "${kind}"`);
    return found;
  }

  /**
   * The sandboxer that serves a runtime handler; undefined where none of ours does.
   *
   * @param handler Such as `quasaur-wasm`.
   */
  servingHandler(handler: string): SandboxerProcess | undefined {
    return this.#sandboxers.find(({ paths }) => paths.handlers.includes(handler));
  }

  /** A new connection to CRI. Tests open their own, so that none outlives its test. */
  cri(): Cri {
    return new Cri(this.containerd.socketPath, `${this.directory}/logs`, this.#cgroup);
  }

  /** The ends of all logs, for a failed test. */
  async logTails(): Promise<string> {
    const processes = [...this.#sandboxers, ...this.#containerd ? [this.#containerd] : []];
    return (await Promise.all(processes.map(({ process }) => process.logTail(40)))).join("\n");
  }

  /** Removes the pods, stops everything and deletes the directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#containerd?.process.running) {
      using cri = this.cri();
      await cri.removeAllPods().catch(() => {});
    }
    await this.#containerd?.process.stop();
    for (const sandboxer of this.#sandboxers) await sandboxer[Symbol.asyncDispose]();
    await this.#containerd?.[Symbol.asyncDispose]();
    const states = this.#sandboxers.map(({ paths }) => paths.stateDirectory);
    const survivors = await killLeftProcesses(this.directory, states, LEAVE_MS);
    const logs = survivors.length === 0 ? "" : await this.logTails();
    await removeCgroup(this.#cgroup);
    for (const target of this.#runDirectories) {
      await run(["umount", "-l", target], { check: false });
    }
    const left = await mountsBelow(this.directory);
    if (left.length > 0) {
      throw new Error(`Cannot remove ${this.directory}: still mounted: ${JSON.stringify(left)}`);
    }
    await Deno.remove(this.directory, { recursive: true });
    if (survivors.length > 0) {
      const commands = survivors.map(({ command }) => command.slice(0, 300));
      throw new Error(
        `Processes of the bed had to be killed: ${commands.join("\n")}\n${logs}`,
      );
    }
  }

  /** The cgroup that holds those of the pods. */
  get #cgroup(): string {
    return `/${this.directory.split("/").at(-1)}`;
  }

  /** What stands in for directories below /run. */
  get #runDirectories(): string[] {
    return ["state", "quasaur", "runc"].map((name) => `${this.directory}/${name}`);
  }

  async #mountRunDirectories(): Promise<void> {
    for (const target of this.#runDirectories) {
      await Deno.mkdir(target);
      await run(["mount", "-t", "tmpfs", "-o", "mode=0711,size=512m", "tmpfs", target]);
    }
  }

  async #startContainerd(): Promise<void> {
    this.#containerd = await Containerd.start(
      this.directory,
      this.#sandboxers.map(({ paths }) => paths),
      this.logLevel,
      this.containerdTraces,
    );
  }
}

/** The first directory on which overlayfs works. */
async function parentDirectory(): Promise<string> {
  for (const parent of PARENTS) {
    if (!NO_OVERLAY.includes(await fileSystemType(parent))) return parent;
  }
  throw new Error(
    `Cannot start a test bed: none of ${PARENTS.join(", ")} can hold an overlay's upper directory`,
  );
}
