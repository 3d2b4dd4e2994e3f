/**
 * A sandboxer of gVisor in this process, over any driver, and its sandboxes.
 *
 * @module
 */

import { resolve } from "node:path";
import { SandboxError } from "../lifecycle/errors.ts";
import type { Sandboxer as Lifecycle } from "../lifecycle/sandboxer.ts";
import type { RootfsSpec, Stats } from "../lifecycle/spec.ts";
import { readSnapshotRecord, type SnapshotContainer } from "../quark/gvisor/snapshot/record.ts";
import type { StdioMode } from "./api.ts";
import { ContainerRuns } from "./container_runs.ts";
import type {
  GvisorOpenOptions,
  GvisorRestoredSandbox,
  GvisorRestoreOptions,
  GvisorRunOptions,
  GvisorSandbox,
  GvisorSandboxer,
  GvisorSandboxOptions,
  GvisorSnapshotOptions,
} from "./gvisor_api.ts";
import { type GvisorSnapshots, NO_SNAPSHOTS, savedContainerSpec } from "./gvisor_snapshots.ts";
import { newId } from "./ids.ts";
import { EmbeddedImages } from "./images.ts";
import type { LinuxContainer } from "./linux_api.ts";
import { EmbeddedLinuxContainer } from "./linux_container.ts";
import { linuxImageRun, linuxRootfsRun, type PlainLinuxRun } from "./linux_files.ts";
import { linuxContainerSpec, linuxSandboxSpec, rootfsPathOf } from "./linux_run_options.ts";
import { LinuxStdio } from "./linux_stdio.ts";
import { makeOverlayRootfs } from "./overlay_rootfs.ts";
import { type LoadedDriver, Sandboxes } from "./sandboxes.ts";

/** gVisor, loaded. */
export interface LoadedGvisor extends LoadedDriver {
  /** The cgroup of its sandboxes below each hierarchy's root; missing for none. */
  readonly cgroup?: string;
  /** Where containers of images write to; missing where they cannot be had. */
  readonly directory?: string;
  /** Takes snapshots, and makes sandboxes of them; missing where nobody can. */
  readonly snapshots?: GvisorSnapshots;
}

/** See {@link GvisorSandboxer}. */
export class EmbeddedGvisorSandboxer implements GvisorSandboxer {
  readonly kind = "gvisor";
  readonly #options: GvisorOpenOptions;
  readonly #cgroup: string;
  readonly #files: GvisorFiles;
  readonly #snapshots: GvisorSnapshots;
  readonly #sandboxes: Sandboxes<EmbeddedGvisorSandbox>;

  /**
   * Takes a driver over.
   *
   * @param loaded The driver, and what is released after it.
   * @param options What the sandboxer was opened with.
   */
  constructor(loaded: LoadedGvisor, options: GvisorOpenOptions) {
    this.#options = options;
    this.#cgroup = loaded.cgroup ?? "";
    this.#files = { images: new EmbeddedImages(options), directory: loaded.directory };
    this.#snapshots = loaded.snapshots ?? NO_SNAPSHOTS;
    this.#sandboxes = new Sandboxes(loaded, options);
  }

  /** Creates and starts a sandbox. */
  async createSandbox(options: GvisorSandboxOptions = {}): Promise<GvisorSandbox> {
    const { id = newId("sandbox"), network = { kind: "none" }, signal } = options;
    return await this.#sandboxes.start(
      linuxSandboxSpec(id, options, { network, cgroupParent: this.#cgroup }),
      (lifecycle, onDisposed) =>
        new EmbeddedGvisorSandbox(this.#portsOf(lifecycle, id), onDisposed, new Map()),
      signal,
    );
  }

  /** Makes a sandbox of a snapshot. */
  async restore(
    directory: string,
    options: GvisorRestoreOptions = {},
  ): Promise<GvisorRestoredSandbox> {
    const { id = newId("sandbox"), signal } = options;
    this.#sandboxes.checkOpen(id);
    const path = resolve(directory);
    const record = await readSnapshotRecord(path);
    const ids = new Map(record.containers.map((container) => [container.id, newId("container")]));
    const place = { network: { kind: "none" }, cgroupParent: this.#cgroup } as const;
    const { hostname, resources } = record;
    const spec = { ...linuxSandboxSpec(id, { hostname }, place), resources };
    this.#snapshots.startFrom(spec, { directory: path, record, ids });
    const containers = new Map<string, EmbeddedLinuxContainer>();
    const sandbox = await this.#sandboxes.start(
      spec,
      (lifecycle, onDisposed) =>
        new EmbeddedGvisorSandbox(this.#portsOf(lifecycle, id), onDisposed, containers),
      signal,
    );
    try {
      for (const container of record.containers) {
        const taken = await sandbox.takeOver(container, ids.get(container.id) ?? "", options);
        containers.set(container.id, taken);
      }
      return sandbox;
    } catch (error) {
      await sandbox[Symbol.asyncDispose]();
      throw error;
    }
  }

  #portsOf(lifecycle: Lifecycle, id: string): GvisorSandboxPorts {
    return {
      lifecycle,
      id,
      files: this.#files,
      options: this.#options,
      snapshot: (directory, signal) => this.#snapshots.take(id, directory, signal),
      fork: async (options) => {
        await using place = await this.#snapshots.temporary();
        await this.#snapshots.take(id, place.directory, options.signal);
        return await this.restore(place.directory, options);
      },
    };
  }

  /** Ends everything and releases the driver. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#sandboxes[Symbol.asyncDispose]();
  }
}

/** Where the files of containers come from. */
interface GvisorFiles {
  readonly images: EmbeddedImages;
  readonly directory: string | undefined;
}

/** What a sandbox works with. */
interface GvisorSandboxPorts {
  readonly lifecycle: Lifecycle;
  readonly id: string;
  readonly files: GvisorFiles;
  /** What the sandboxer was opened with. */
  readonly options: Pick<GvisorOpenOptions, "onWarning">;
  /** Takes a snapshot of it. */
  snapshot(directory: string, signal: AbortSignal | undefined): Promise<void>;
  /** Makes another one of it. */
  fork(options: GvisorRestoreOptions): Promise<GvisorRestoredSandbox>;
}

/** See {@link GvisorRestoredSandbox}. */
class EmbeddedGvisorSandbox implements GvisorRestoredSandbox {
  readonly id: string;
  readonly #ports: GvisorSandboxPorts;
  readonly #lifecycle: Lifecycle;
  readonly #files: GvisorFiles;
  readonly #runs: ContainerRuns<EmbeddedLinuxContainer>;
  readonly #onDisposed: () => void;

  constructor(
    ports: GvisorSandboxPorts,
    onDisposed: () => void,
    readonly containers: ReadonlyMap<string, LinuxContainer>,
  ) {
    const { lifecycle, id, files, options: { onWarning } } = ports;
    this.#ports = ports;
    this.id = id;
    this.#files = files;
    this.#lifecycle = lifecycle;
    this.#runs = new ContainerRuns({
      lifecycle,
      sandboxId: id,
      ...(onWarning === undefined ? {} : { onWarning }),
    });
    this.#onDisposed = onDisposed;
  }

  async run(options: GvisorRunOptions): Promise<LinuxContainer> {
    const { id = newId("container"), signal } = options;
    return await this.#runs.run({
      id,
      signal,
      prepare: async (undo) => {
        const stdio = undo.use(new LinuxStdio(options, `container "${id}"`));
        const { run, rootfs } = await this.#filesOf(id, options, undo);
        const place = { id, sandboxId: this.id, rootfs, stdio: stdio.spec };
        const spec = linuxContainerSpec(run, place);
        return { spec, stdio, onExit: () => stdio.end() };
      },
      wrap: (started) => new EmbeddedLinuxContainer(started),
    });
  }

  async #filesOf(
    id: string,
    options: GvisorRunOptions,
    undo: AsyncDisposableStack,
  ): Promise<{ readonly run: PlainLinuxRun; readonly rootfs: RootfsSpec }> {
    const { rootfs, image } = options;
    if (image === undefined) {
      const path = await checkedRootfs(options);
      return { run: await linuxRootfsRun(options, path), rootfs: { kind: "directory", path } };
    }
    const { images, directory } = this.#files;
    if (rootfs !== undefined || directory === undefined) {
      throw new SandboxError(
        "InvalidArgument",
        rootfs === undefined
          ? "cannot run an image: there is no directory for what it writes"
          : "cannot run the container: both rootfs and image are given: expected one of them",
      );
    }
    const source = await images.find(image);
    const run = await linuxImageRun(options, source, images, undo);
    const overlay = undo.use(await makeOverlayRootfs(directory, id, run.template));
    return { run: run.options, rootfs: overlay.spec };
  }

  /**
   * Lets a container go on that was saved with its sandbox.
   *
   * @param saved The container.
   * @param id Its new id.
   * @param options Where its streams go.
   */
  async takeOver(
    saved: SnapshotContainer,
    id: string,
    { streams = "piped", signal }: GvisorRestoreOptions,
  ): Promise<EmbeddedLinuxContainer> {
    return await this.#runs.run({
      id,
      signal: undefined,
      prepare: (undo) => {
        signal?.throwIfAborted();
        const { stdin, stdout, stderr } = saved.streams;
        const mode = (has: boolean): StdioMode => has ? streams : "null";
        const options = { stdin: mode(stdin), stdout: mode(stdout), stderr: mode(stderr) };
        const stdio = undo.use(new LinuxStdio(options, `container "${id}"`));
        const spec = savedContainerSpec(saved, { id, sandboxId: this.id, stdio: stdio.spec });
        return Promise.resolve({ spec, stdio, onExit: () => stdio.end() });
      },
      wrap: (started) => new EmbeddedLinuxContainer(started),
    });
  }

  async snapshot(directory: string, { signal }: GvisorSnapshotOptions = {}): Promise<void> {
    await this.#ports.snapshot(resolve(directory), signal);
  }

  async fork(options: GvisorRestoreOptions = {}): Promise<GvisorRestoredSandbox> {
    return await this.#ports.fork(options);
  }

  async stats(): Promise<Stats> {
    return await this.#lifecycle.sandboxStats(this.id);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#runs.dispose(this.#onDisposed);
  }
}

/** The root file system, found before gVisor speaks of it in its own words. */
async function checkedRootfs({ rootfs }: GvisorRunOptions): Promise<string> {
  const path = rootfsPathOf(rootfs, "rootfs, a directory");
  const action = `cannot use the root file system "${path}"`;
  let isDirectory: boolean;
  try {
    ({ isDirectory } = await Deno.stat(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new SandboxError("NotFound", `${action}: no such directory`, { cause: error });
    }
    throw SandboxError.from(error, action);
  }
  if (isDirectory) return path;
  throw new SandboxError("InvalidArgument", `${action}: it is no directory`);
}
