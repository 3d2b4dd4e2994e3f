/**
 * The sandboxes of an embedded sandboxer of any kind: starts them over one lifecycle with nothing on
 * disk, and ends them with the sandboxer.
 *
 * @module
 */

import type { Driver } from "../lifecycle/driver.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import { type Mounter, noMounts } from "../lifecycle/mounter.ts";
import { Sandboxer as Lifecycle } from "../lifecycle/sandboxer.ts";
import type { SandboxSpec } from "../lifecycle/spec.ts";
import { MemoryStore } from "../lifecycle/store.ts";
import type { OpenOptions } from "./api.ts";

/** A kind that was loaded. Disposing of it releases what its driver holds. */
export interface LoadedDriver extends AsyncDisposable {
  /** Runs its sandboxes. */
  readonly driver: Driver;
  /** Mounts root file systems; missing where containers have directories only. */
  readonly mounter?: Mounter;
}

/** Sandboxes. */
export class Sandboxes<S extends AsyncDisposable> implements AsyncDisposable {
  readonly #loaded: LoadedDriver;
  readonly #lifecycle: Lifecycle;
  readonly #sandboxes = new Set<S>();
  #disposal: Promise<void> | undefined;

  /** Takes the kind over. */
  constructor(loaded: LoadedDriver, { onWarning }: Pick<OpenOptions, "onWarning">) {
    this.#loaded = loaded;
    this.#lifecycle = new Lifecycle({
      driver: loaded.driver,
      store: new MemoryStore(),
      mounter: loaded.mounter ?? noMounts,
      ...(onWarning && { log: { warn: onWarning } }),
    });
  }

  /**
   * Creates and starts a sandbox.
   *
   * @param spec What is asked for.
   * @param wrap Makes the object that the caller gets.
   * @param signal Aborting it gives the start up.
   * @throws {SandboxError} `FailedPrecondition` after disposal, or what the lifecycle throws.
   */
  async start(
    spec: SandboxSpec,
    wrap: (lifecycle: Lifecycle, onDisposed: () => void) => S,
    signal?: AbortSignal,
  ): Promise<S> {
    const { id } = spec;
    this.checkOpen(id);
    const lifecycle = this.#lifecycle;
    await lifecycle.createSandbox(spec);
    await lifecycle.startSandbox(id, signal);
    const sandbox: S = wrap(lifecycle, () => this.#sandboxes.delete(sandbox));
    this.#sandboxes.add(sandbox);
    return sandbox;
  }

  /**
   * Refuses new sandboxes after disposal.
   *
   * @throws {SandboxError} `FailedPrecondition`
   */
  checkOpen(id: string): void {
    if (this.#disposal === undefined) return;
    throw new SandboxError(
      "FailedPrecondition",
      `cannot create sandbox "${id}": the sandboxer was disposed of`,
    );
  }

  /** Ends everything and releases the kind. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposal ??= this.#dispose();
    return this.#disposal;
  }

  async #dispose(): Promise<void> {
    await using last = new AsyncDisposableStack();
    last.use(this.#loaded);
    last.defer(() => this.#lifecycle.close());
    // Also one that was being created when the disposal began.
    last.defer(async () => {
      for (const { spec } of this.#lifecycle.sandboxes()) {
        await this.#lifecycle.deleteSandbox(spec.id);
      }
    });
    for (const sandbox of this.#sandboxes) last.use(sandbox);
  }
}
