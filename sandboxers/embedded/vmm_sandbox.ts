/**
 * A started machine of an embedded sandboxer: runs containers and ends them with itself.
 *
 * @module
 */

import { resolve } from "node:path";
import { isPath, type Source } from "../images/source.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { Sandboxer as Lifecycle } from "../lifecycle/sandboxer.ts";
import type { RootfsSpec, Stats } from "../lifecycle/spec.ts";
import type { SnapshotContainer } from "../vmm/snapshot/record.ts";
import type { StdioMode } from "./api.ts";
import { ContainerRuns } from "./container_runs.ts";
import { newId } from "./ids.ts";
import type { EmbeddedImages } from "./images.ts";
import { EmbeddedLinuxContainer } from "./linux_container.ts";
import { linuxImageRun, linuxRootfsRun, type PlainLinuxRun } from "./linux_files.ts";
import { linuxContainerSpec } from "./linux_run_options.ts";
import { LinuxStdio } from "./linux_stdio.ts";
import type {
  VmmContainer,
  VmmOpenOptions,
  VmmRestoredSandbox,
  VmmRestoreOptions,
  VmmRunOptions,
  VmmSnapshotOptions,
} from "./vmm_api.ts";
import type { VmmChecks } from "./vmm_run_checks.ts";
import { vmmRootfs } from "./vmm_run_options.ts";
import { snapshotContainerSpec } from "./vmm_snapshots.ts";

/** What is said of a path where nothing is, is for those to say who look for a file system there. */
async function findFile(images: EmbeddedImages, name: string): Promise<Source> {
  try {
    return await images.find(name);
  } catch (error) {
    const isMissing = error instanceof SandboxError && error.code === "NotFound" && isPath(name);
    if (isMissing) return { kind: "disk", path: name };
    throw error;
  }
}

/** What a sandbox works with. */
export interface VmmSandboxPorts {
  /** Runs it. */
  readonly lifecycle: Lifecycle;
  /** Refuses containers that cannot be had. */
  readonly checks: VmmChecks;
  /** Gets images. */
  readonly images: EmbeddedImages;
  /** What the sandboxer was opened with. */
  readonly options: Pick<VmmOpenOptions, "onWarning">;
  /** Takes a snapshot of it. */
  snapshot(id: string, directory: string, signal: AbortSignal | undefined): Promise<void>;
  /** Makes another one of it. */
  fork(id: string, options: VmmRestoreOptions): Promise<VmmRestoredSandbox>;
}

/** See {@link VmmRestoredSandbox}. */
export class EmbeddedVmmSandbox implements VmmRestoredSandbox {
  readonly #ports: VmmSandboxPorts;
  readonly #runs: ContainerRuns<EmbeddedLinuxContainer>;
  readonly #onDisposed: () => void;

  /**
   * Stands for a sandbox that was started.
   *
   * @param ports What it works with.
   * @param id Of a sandbox that is ready.
   * @param onDisposed Called once, when it is gone.
   * @param containers Those of the snapshot that it was made of, by their ids in that.
   */
  constructor(
    ports: VmmSandboxPorts,
    readonly id: string,
    onDisposed: () => void,
    readonly containers: ReadonlyMap<string, VmmContainer>,
  ) {
    const { lifecycle, options: { onWarning } } = ports;
    this.#ports = ports;
    this.#runs = new ContainerRuns({
      lifecycle,
      sandboxId: id,
      ...(onWarning === undefined ? {} : { onWarning }),
    });
    this.#onDisposed = onDisposed;
  }

  /** Runs a command in a container of its own. */
  async run(options: VmmRunOptions): Promise<VmmContainer> {
    const { id = newId("container"), signal } = options;
    return await this.#runs.run({
      id,
      signal,
      prepare: async (undo) => {
        const stdio = undo.use(new LinuxStdio(options, `container "${id}"`));
        const { run, rootfs } = await this.#filesOf(options, undo);
        const place = { id, sandboxId: this.id, rootfs, stdio: stdio.spec };
        const spec = linuxContainerSpec(run, place);
        return { spec, stdio, onExit: () => stdio.end() };
      },
      wrap: (started) => new EmbeddedLinuxContainer(started),
    });
  }

  /** A machine does not write to what its files are made of. */
  async #filesOf(
    options: VmmRunOptions,
    undo: AsyncDisposableStack,
  ): Promise<{ readonly run: PlainLinuxRun; readonly rootfs: RootfsSpec }> {
    const { images, checks } = this.#ports;
    const path = vmmRootfs(options);
    const { rootfs, image } = options;
    const source = rootfs !== undefined || image === undefined
      ? undefined
      : await findFile(images, image);
    if (source !== undefined && source.kind !== "disk" && source.kind !== "file") {
      await checks.run({ ...options, image: "" });
      const run = await linuxImageRun(options, source, images, undo);
      return { run: run.options, rootfs: { kind: "directory", path: run.template } };
    }
    await checks.run(options);
    const run = await linuxRootfsRun(options, source === undefined ? path : undefined);
    return { run, rootfs: { kind: "directory", path } };
  }

  /**
   * Lets a container go on that was saved with the machine.
   *
   * @param saved The container.
   * @param id Its new id.
   * @param options Where its streams go.
   */
  async takeOver(
    saved: SnapshotContainer,
    id: string,
    { streams = "piped", signal }: VmmRestoreOptions,
  ): Promise<EmbeddedLinuxContainer> {
    return await this.#runs.run({
      id,
      signal: undefined,
      prepare: (undo) => {
        signal?.throwIfAborted();
        const { stdin, stdout, stderr, terminal } = saved.streams;
        const mode = (has: boolean): StdioMode => has ? streams : "null";
        const options = {
          stdin: mode(stdin),
          stdout: mode(stdout),
          stderr: mode(stderr),
          terminal,
        };
        const stdio = undo.use(new LinuxStdio(options, `container "${id}"`));
        const spec = snapshotContainerSpec(saved, { id, sandboxId: this.id, stdio: stdio.spec });
        return Promise.resolve({ spec, stdio, onExit: () => stdio.end() });
      },
      wrap: (started) => new EmbeddedLinuxContainer(started),
    });
  }

  /** Saves it with its memory. */
  async snapshot(directory: string, { signal }: VmmSnapshotOptions = {}): Promise<void> {
    await this.#ports.snapshot(this.id, resolve(directory), signal);
  }

  /** Makes another one that goes on by itself. */
  async fork(options: VmmRestoreOptions = {}): Promise<VmmRestoredSandbox> {
    return await this.#ports.fork(this.id, options);
  }

  /** What it uses. */
  async stats(): Promise<Stats> {
    return await this.#ports.lifecycle.sandboxStats(this.id);
  }

  /** Ends its containers and releases everything. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#runs.dispose(this.#onDisposed);
  }
}
