/**
 * Quark's driver with a double in Quark's place, for tests: a host with a root file system, files for
 * output, and a look at the end at what was left behind.
 *
 * @module
 */

import assert from "node:assert/strict";
import { BusyboxRootfs } from "../../../../tests/support/busybox_rootfs.ts";
import { mountsBelow } from "../../../../tests/support/mount_table.ts";
import { type DoubleChoice, QuarkDouble } from "../../../../tests/support/quark_double/fixture.ts";
import { Gate } from "../../../host/gate.ts";
import { HostMounter } from "../../../host/mounter.ts";
import { launcher, runDirectory, until } from "../../../host/testing/fixture.ts";
import type { SandboxHandle } from "../../../lifecycle/driver.ts";
import type { ContainerSpec, ExecSpec, StdioSpec, StreamSpec } from "../../../lifecycle/spec.ts";
import { containerSpec, execSpec, sandboxSpec } from "../../../lifecycle/testing/specs.ts";
import { createLog } from "../../../log.ts";
import { Quark } from "../kernel.ts";
import type { QuarkOptions } from "../options.ts";

/** A signal that never fires. */
export const NEVER: AbortSignal = new AbortController().signal;

/** What containers are asked for, beyond the least. */
export type ContainerChanges = Partial<Omit<ContainerSpec, "stdio">> & {
  readonly stdio?: Partial<StdioSpec>;
};

/** The world of a test. */
export class QuarkWorld implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  /** What was logged. */
  readonly lines: string[] = [];
  readonly #handles = new Set<SandboxHandle>();

  private constructor(
    /** A directory below /run. */
    readonly directory: string,
    /** The double. */
    readonly double: QuarkDouble,
    /** A root file system with busybox. */
    readonly rootfs: BusyboxRootfs,
  ) {}

  /**
   * Makes one.
   *
   * @param choice What the double does beyond the usual.
   */
  static async make(choice: DoubleChoice = {}): Promise<QuarkWorld> {
    await using undo = new AsyncDisposableStack();
    const { path } = undo.use(await runDirectory());
    const double = undo.use(await QuarkDouble.install(choice));
    const rootfs = undo.use(await BusyboxRootfs.make());
    const world = new QuarkWorld(path, double, rootfs);
    world.#stack.use(undo.move());
    return world;
  }

  /** The directory of the pods' directories. */
  get podDirectory(): string {
    return `${this.directory}/pods`;
  }

  /**
   * A driver; several stand for sandboxers one after the other.
   *
   * @param changes Options that differ.
   */
  quark(changes: Partial<QuarkOptions> = {}): Quark {
    const { connect } = new Gate(`${this.directory}/gate.sock`);
    return new Quark({
      launcher,
      mounter: new HostMounter(launcher),
      connect,
      podDirectory: this.podDirectory,
      program: this.double.program,
      configPath: this.double.configPath,
      readyMs: 20_000,
      log: createLog({ write: (line) => this.lines.push(line) }),
      ...changes,
    });
  }

  /** Starts a sandbox, which is ended with the world. */
  async start(quark: Quark, id = "pod", changes = {}): Promise<SandboxHandle> {
    const sandbox = await quark.start(sandboxSpec(id, changes), NEVER);
    this.keep(sandbox);
    return sandbox;
  }

  /** Has a sandbox be ended with the world. */
  keep(sandbox: SandboxHandle): void {
    this.#handles.add(sandbox);
  }

  /** A container that runs a shell command; its output goes to {@link output}. */
  container(id: string, command: string, changes: ContainerChanges = {}): ContainerSpec {
    const { stdio, process, ...rest } = changes;
    return containerSpec(id, "pod", {
      rootfs: { kind: "directory", path: this.rootfs.path },
      process: process ?? this.#shell(command),
      ...rest,
      stdio: { ...this.#stdio(id), ...stdio },
    });
  }

  /** An exec that runs a shell command; its output goes to {@link output}. */
  exec(id: string, command: string, stdio: Partial<StdioSpec> = {}): ExecSpec {
    return execSpec(id, { process: this.#shell(command), stdio: { ...this.#stdio(id), ...stdio } });
  }

  /** What a container or exec wrote. */
  async output(id: string, stream: "stdout" | "stderr" = "stdout"): Promise<string> {
    return await Deno.readTextFile(`${this.directory}/${id}.${stream}`);
  }

  /** Waits until something was written. */
  async wrote(id: string, text: string): Promise<void> {
    await until(`${id} writes ${text}`, async () => (await this.output(id)).includes(text));
  }

  /** A new FIFO. */
  async fifo(name: string): Promise<StreamSpec & { readonly path: string }> {
    const path = `${this.directory}/${name}`;
    const { success } = await new Deno.Command("mkfifo", { args: [path] }).output();
    assert.ok(success);
    return { kind: "path", path };
  }

  /** Has the double close all connections, where it has the fault for that. */
  async dropConnections(): Promise<void> {
    const [pod] = await this.#directories();
    const sign = `${pod}/task.sock.drop`;
    await Deno.writeTextFile(sign, "");
    await until("connections are closed", async () => {
      return await Deno.stat(sign).then(() => false, () => true);
    });
  }

  /** What is left of pods: directories and mounts. */
  async left(): Promise<string[]> {
    const mounts = await mountsBelow(this.podDirectory);
    return [
      ...await this.#directories(),
      ...mounts.map(({ target }) => target),
      ...await this.#processes(),
    ];
  }

  async #directories(): Promise<string[]> {
    const found: string[] = [];
    try {
      for await (const { name } of Deno.readDir(this.podDirectory)) {
        found.push(`${this.podDirectory}/${name}`);
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    return found;
  }

  #shell(command: string) {
    return {
      args: ["/bin/sh", "-c", command],
      env: ["PATH=/bin", "WHO=me"],
      cwd: "/",
      user: { uid: 0, gid: 0, additionalGids: [] },
    };
  }

  #stdio(id: string): StdioSpec {
    const file = (name: string): StreamSpec => {
      const path = `${this.directory}/${id}.${name}`;
      Deno.writeFileSync(path, new Uint8Array());
      return { kind: "path", path };
    };
    const streams = { stdout: file("stdout"), stderr: file("stderr") };
    return { stdin: { kind: "null" }, ...streams, terminal: false };
  }

  /** Processes that have to do with this world. */
  async #processes(): Promise<string[]> {
    const found: string[] = [];
    for await (const { name } of Deno.readDir("/proc")) {
      if (!/^\d+$/.test(name)) continue;
      const line = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
      if (line.includes(this.directory)) {
        found.push(`process ${name} ${line.replaceAll("\0", " ")}`);
      }
    }
    return found;
  }

  /** Ends what runs, and checks that nothing is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      for (const sandbox of this.#handles) await sandbox.stop(0);
      await until("nothing is left", async () => (await this.left()).length === 0);
    } finally {
      await this.#stack.disposeAsync();
    }
  }
}
