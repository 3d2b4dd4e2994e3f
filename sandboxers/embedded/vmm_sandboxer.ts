/**
 * A sandboxer of microVMs in this process, over any driver.
 *
 * @module
 */

import { resolve } from "node:path";
import type { Sandboxer as Lifecycle } from "../lifecycle/sandboxer.ts";
import { readSnapshotRecord } from "../vmm/snapshot/record.ts";
import { newId } from "./ids.ts";
import { EmbeddedImages } from "./images.ts";
import type { EmbeddedLinuxContainer } from "./linux_container.ts";
import { type LoadedDriver, Sandboxes } from "./sandboxes.ts";
import { NO_CHECKS, type VmmChecks } from "./vmm_run_checks.ts";
import type {
  VmmOpenOptions,
  VmmRestoredSandbox,
  VmmRestoreOptions,
  VmmSandbox,
  VmmSandboxer,
  VmmSandboxOptions,
} from "./vmm_api.ts";
import { vmmSandboxSpec } from "./vmm_run_options.ts";
import { EmbeddedVmmSandbox, type VmmSandboxPorts } from "./vmm_sandbox.ts";
import { NO_SNAPSHOTS, snapshotSandboxSpec, type VmmSnapshots } from "./vmm_snapshots.ts";

/** The vmm kind, loaded. */
export interface LoadedVmm extends LoadedDriver {
  /** Refuses what cannot be had; missing for nothing. */
  readonly checks?: VmmChecks;
  /** Takes snapshots, and makes sandboxes of them; missing where nobody can. */
  readonly snapshots?: VmmSnapshots;
}

/** See {@link VmmSandboxer}. */
export class EmbeddedVmmSandboxer implements VmmSandboxer {
  readonly kind = "vmm";
  readonly #options: VmmOpenOptions;
  readonly #sandboxes: Sandboxes<EmbeddedVmmSandbox>;
  readonly #images: EmbeddedImages;
  readonly #checks: VmmChecks;
  readonly #snapshots: VmmSnapshots;

  /**
   * Takes a driver over.
   *
   * @param loaded The driver, and what is released after it.
   * @param options What the sandboxer was opened with.
   */
  constructor(loaded: LoadedVmm, options: VmmOpenOptions) {
    this.#options = options;
    this.#images = new EmbeddedImages(options);
    this.#checks = loaded.checks ?? NO_CHECKS;
    this.#snapshots = loaded.snapshots ?? NO_SNAPSHOTS;
    this.#sandboxes = new Sandboxes(loaded, options);
  }

  /** Creates and starts a machine. */
  async createSandbox(options: VmmSandboxOptions = {}): Promise<VmmSandbox> {
    const { id = newId("sandbox"), signal } = options;
    this.#checks.sandbox(options);
    return await this.#sandboxes.start(
      vmmSandboxSpec(id, options),
      (lifecycle, onDisposed) =>
        new EmbeddedVmmSandbox(this.#portsOf(lifecycle), id, onDisposed, new Map()),
      signal,
    );
  }

  /** Makes a machine of a snapshot. */
  async restore(
    directory: string,
    options: VmmRestoreOptions = {},
  ): Promise<VmmRestoredSandbox> {
    const { id = newId("sandbox"), signal } = options;
    this.#sandboxes.checkOpen(id);
    const path = resolve(directory);
    const record = await readSnapshotRecord(path);
    const ids = new Map(record.containers.map((container) => [container.id, newId("container")]));
    const spec = snapshotSandboxSpec(id, record);
    this.#snapshots.startFrom(spec, { directory: path, record, ids });
    const containers = new Map<string, EmbeddedLinuxContainer>();
    const sandbox = await this.#sandboxes.start(
      spec,
      (lifecycle, onDisposed) =>
        new EmbeddedVmmSandbox(this.#portsOf(lifecycle), id, onDisposed, containers),
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

  #portsOf(lifecycle: Lifecycle): VmmSandboxPorts {
    return {
      lifecycle,
      checks: this.#checks,
      images: this.#images,
      options: this.#options,
      snapshot: (id, to, signal) => this.#snapshots.snapshot(id, to, signal),
      fork: async (id, options) => {
        await using place = await this.#snapshots.temporary();
        await this.#snapshots.snapshot(id, place.directory, options.signal);
        return await this.restore(place.directory, options);
      },
    };
  }

  /** Ends everything and releases the driver. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#sandboxes[Symbol.asyncDispose]();
  }
}
