/**
 * A started machine of an embedded sandboxer: runs containers and ends them with itself.
 *
 * @module
 */

import type { Sandboxer as Lifecycle } from "../lifecycle/sandboxer.ts";
import type { Stats } from "../lifecycle/spec.ts";
import { ContainerRuns } from "./container_runs.ts";
import { newId } from "./ids.ts";
import type { VmmContainer, VmmOpenOptions, VmmRunOptions, VmmSandbox } from "./vmm_api.ts";
import { EmbeddedVmmContainer } from "./vmm_container.ts";
import type { VmmChecks } from "./vmm_run_checks.ts";
import { vmmContainerSpec } from "./vmm_run_options.ts";
import { VmmStdio } from "./vmm_stdio.ts";

/** What a sandbox works with. */
export interface VmmSandboxPorts {
  /** Runs it. */
  readonly lifecycle: Lifecycle;
  /** Refuses containers that cannot be had. */
  readonly checks: VmmChecks;
  /** What the sandboxer was opened with. */
  readonly options: Pick<VmmOpenOptions, "onWarning">;
}

/** See {@link VmmSandbox}. */
export class EmbeddedVmmSandbox implements VmmSandbox {
  readonly #ports: VmmSandboxPorts;
  readonly #runs: ContainerRuns<EmbeddedVmmContainer>;
  readonly #onDisposed: () => void;

  /**
   * Stands for a sandbox that was started.
   *
   * @param ports What it works with.
   * @param id Of a sandbox that is ready.
   * @param onDisposed Called once, when it is gone.
   */
  constructor(ports: VmmSandboxPorts, readonly id: string, onDisposed: () => void) {
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
        const stdio = undo.use(new VmmStdio(options, `container "${id}"`));
        const place = { id, sandboxId: this.id, stdio: stdio.spec };
        const spec = vmmContainerSpec(options, place);
        await this.#ports.checks.run(options);
        return { spec, stdio, onExit: () => stdio.end() };
      },
      wrap: (started) => new EmbeddedVmmContainer(started),
    });
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
