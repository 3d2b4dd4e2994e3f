/**
 * A sandboxer of microVMs in this process, over any driver.
 *
 * @module
 */

import { newId } from "./ids.ts";
import { type LoadedDriver, Sandboxes } from "./sandboxes.ts";
import { NO_CHECKS, type VmmChecks } from "./vmm_run_checks.ts";
import type { VmmOpenOptions, VmmSandbox, VmmSandboxer, VmmSandboxOptions } from "./vmm_api.ts";
import { vmmSandboxSpec } from "./vmm_run_options.ts";
import { EmbeddedVmmSandbox } from "./vmm_sandbox.ts";

/** The vmm kind, loaded. */
export interface LoadedVmm extends LoadedDriver {
  /** Refuses what cannot be had; missing for nothing. */
  readonly checks?: VmmChecks;
}

/** See {@link VmmSandboxer}. */
export class EmbeddedVmmSandboxer implements VmmSandboxer {
  readonly kind = "vmm";
  readonly #options: VmmOpenOptions;
  readonly #sandboxes: Sandboxes<EmbeddedVmmSandbox>;
  readonly #checks: VmmChecks;

  /**
   * Takes a driver over.
   *
   * @param loaded The driver, and what is released after it.
   * @param options What the sandboxer was opened with.
   */
  constructor(loaded: LoadedVmm, options: VmmOpenOptions) {
    this.#options = options;
    this.#checks = loaded.checks ?? NO_CHECKS;
    this.#sandboxes = new Sandboxes(loaded, options);
  }

  /** Creates and starts a machine. */
  async createSandbox(options: VmmSandboxOptions = {}): Promise<VmmSandbox> {
    const { id = newId("sandbox"), signal } = options;
    this.#checks.sandbox(options);
    return await this.#sandboxes.start(
      vmmSandboxSpec(id, options),
      (lifecycle, onDisposed) => {
        const ports = { lifecycle, checks: this.#checks, options: this.#options };
        return new EmbeddedVmmSandbox(ports, id, onDisposed);
      },
      signal,
    );
  }

  /** Ends everything and releases the driver. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#sandboxes[Symbol.asyncDispose]();
  }
}
