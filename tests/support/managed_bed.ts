/**
 * One sandboxer without containerd, in a directory that goes away at the end: for tests of what is
 * made through the management API.
 *
 * @module
 */

import { ManagementClient } from "../../sandboxers/client/management_client.ts";
import { killLeftProcesses } from "./left_processes.ts";
import { mountsBelow } from "./mount_table.ts";
import {
  SandboxerPaths,
  SandboxerProcess,
  type SandboxerProgram,
  sandboxerProgram,
} from "./sandboxer.ts";
import { claimBed, sweepStaleBeds } from "./stale_beds.ts";

/** How the names of beds begin; stale ones are found by it. */
const PREFIX = "qs-";
/** A directory that overlays can lie in. */
const PARENT = "/var/tmp";
/** How long processes that outlive a sandboxer may take to end after it, in milliseconds. */
const LEAVE_MS = 3_000;

/** A running sandboxer without containerd. */
export class ManagedBed implements AsyncDisposable {
  private constructor(
    /** The directory that holds everything. */
    readonly directory: string,
    /** The sandboxer. */
    readonly sandboxer: SandboxerProcess,
    /** A client of it. */
    readonly client: ManagementClient,
  ) {}

  /**
   * Starts one.
   *
   * @param kind The kind of sandbox: `wasm`, `vmm` or `quark`.
   * @param more What differs from how it runs usually.
   */
  static async start(kind: string, more: Partial<SandboxerProgram> = {}): Promise<ManagedBed> {
    await sweepStaleBeds(PARENT, PREFIX);
    const directory = await Deno.makeTempDir({ dir: PARENT, prefix: PREFIX });
    // Sandboxes run as users of their own, and have their files below.
    await Deno.chmod(directory, 0o711);
    await claimBed(directory);
    const paths = new SandboxerPaths(kind, directory);
    const flags = ["--containerd-events=none", ...more.flags ?? []];
    const program = { ...sandboxerProgram(kind), ...more, flags };
    const sandboxer = new SandboxerProcess(program, paths, "debug");
    const bed = new ManagedBed(directory, sandboxer, new ManagementClient(paths.socketPath));
    try {
      await sandboxer.start();
      return bed;
    } catch (error) {
      await bed[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The state directory of the sandboxer. */
  get stateDirectory(): string {
    return this.sandboxer.paths.stateDirectory;
  }

  /** What lies below the state directory, such as `runs`; none where it is not there. */
  async left(name: string): Promise<string[]> {
    const entries = Deno.readDir(`${this.stateDirectory}/${name}`);
    return (await Array.fromAsync(entries).catch(() => [])).map((entry) => entry.name);
  }

  /** Removes what is there, stops the sandboxer and deletes the directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { client, sandboxer, directory } = this;
    if (sandboxer.process.running) {
      for (const { id } of await client.list().catch(() => [])) {
        await client.remove({ target: id, force: true }).catch(() => undefined);
      }
    }
    client.close();
    await sandboxer[Symbol.asyncDispose]();
    const survivors = await killLeftProcesses(directory, [this.stateDirectory], LEAVE_MS);
    const left = await mountsBelow(directory);
    if (left.length > 0) {
      throw new Error(`Cannot remove ${directory}: still mounted: ${JSON.stringify(left)}`);
    }
    const log = survivors.length === 0 ? "" : await sandboxer.process.logTail();
    await Deno.remove(directory, { recursive: true });
    if (survivors.length === 0) return;
    const commands = survivors.map(({ command }) => command.slice(0, 300));
    throw new Error(`Processes of the bed had to be killed: ${commands.join("\n")}\n${log}`);
  }
}
