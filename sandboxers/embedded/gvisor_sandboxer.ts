/**
 * A sandboxer of gVisor in this process, over any driver, and its sandboxes.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Sandboxer as Lifecycle } from "../lifecycle/sandboxer.ts";
import type { Stats } from "../lifecycle/spec.ts";
import { ContainerRuns } from "./container_runs.ts";
import type {
  GvisorOpenOptions,
  GvisorRunOptions,
  GvisorSandbox,
  GvisorSandboxer,
  GvisorSandboxOptions,
} from "./gvisor_api.ts";
import { newId } from "./ids.ts";
import type { LinuxContainer } from "./linux_api.ts";
import { EmbeddedLinuxContainer } from "./linux_container.ts";
import { linuxContainerSpec, linuxSandboxSpec, rootfsPathOf } from "./linux_run_options.ts";
import { LinuxStdio } from "./linux_stdio.ts";
import { type LoadedDriver, Sandboxes } from "./sandboxes.ts";

/** gVisor, loaded. */
export interface LoadedGvisor extends LoadedDriver {
  /** The cgroup of its sandboxes below each hierarchy's root; missing for none. */
  readonly cgroup?: string;
}

/** See {@link GvisorSandboxer}. */
export class EmbeddedGvisorSandboxer implements GvisorSandboxer {
  readonly kind = "gvisor";
  readonly #options: GvisorOpenOptions;
  readonly #cgroup: string;
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
    this.#sandboxes = new Sandboxes(loaded, options);
  }

  /** Creates and starts a sandbox. */
  async createSandbox(options: GvisorSandboxOptions = {}): Promise<GvisorSandbox> {
    const { id = newId("sandbox"), network = { kind: "none" }, signal } = options;
    return await this.#sandboxes.start(
      linuxSandboxSpec(id, options, { network, cgroupParent: this.#cgroup }),
      (lifecycle, onDisposed) =>
        new EmbeddedGvisorSandbox(lifecycle, id, this.#options, onDisposed),
      signal,
    );
  }

  /** Ends everything and releases the driver. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#sandboxes[Symbol.asyncDispose]();
  }
}

/** See {@link GvisorSandbox}. */
class EmbeddedGvisorSandbox implements GvisorSandbox {
  readonly #lifecycle: Lifecycle;
  readonly #runs: ContainerRuns<EmbeddedLinuxContainer>;
  readonly #onDisposed: () => void;

  constructor(
    lifecycle: Lifecycle,
    readonly id: string,
    { onWarning }: Pick<GvisorOpenOptions, "onWarning">,
    onDisposed: () => void,
  ) {
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
        const rootfs = await checkedRootfs(options);
        const place = { id, sandboxId: this.id, rootfs, stdio: stdio.spec };
        const spec = linuxContainerSpec(options, place);
        return { spec, stdio, onExit: () => stdio.end() };
      },
      wrap: (started) => new EmbeddedLinuxContainer(started),
    });
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
