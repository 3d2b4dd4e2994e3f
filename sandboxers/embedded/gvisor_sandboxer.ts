/**
 * A sandboxer of gVisor in this process, over any driver, and its sandboxes.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Sandboxer as Lifecycle } from "../lifecycle/sandboxer.ts";
import type { RootfsSpec, Stats } from "../lifecycle/spec.ts";
import { ContainerRuns } from "./container_runs.ts";
import type {
  GvisorOpenOptions,
  GvisorRunOptions,
  GvisorSandbox,
  GvisorSandboxer,
  GvisorSandboxOptions,
} from "./gvisor_api.ts";
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
}

/** See {@link GvisorSandboxer}. */
export class EmbeddedGvisorSandboxer implements GvisorSandboxer {
  readonly kind = "gvisor";
  readonly #options: GvisorOpenOptions;
  readonly #cgroup: string;
  readonly #files: GvisorFiles;
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
    this.#sandboxes = new Sandboxes(loaded, options);
  }

  /** Creates and starts a sandbox. */
  async createSandbox(options: GvisorSandboxOptions = {}): Promise<GvisorSandbox> {
    const { id = newId("sandbox"), network = { kind: "none" }, signal } = options;
    return await this.#sandboxes.start(
      linuxSandboxSpec(id, options, { network, cgroupParent: this.#cgroup }),
      (lifecycle, onDisposed) =>
        new EmbeddedGvisorSandbox({ lifecycle, id, files: this.#files }, this.#options, onDisposed),
      signal,
    );
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
}

/** See {@link GvisorSandbox}. */
class EmbeddedGvisorSandbox implements GvisorSandbox {
  readonly id: string;
  readonly #lifecycle: Lifecycle;
  readonly #files: GvisorFiles;
  readonly #runs: ContainerRuns<EmbeddedLinuxContainer>;
  readonly #onDisposed: () => void;

  constructor(
    { lifecycle, id, files }: GvisorSandboxPorts,
    { onWarning }: Pick<GvisorOpenOptions, "onWarning">,
    onDisposed: () => void,
  ) {
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
