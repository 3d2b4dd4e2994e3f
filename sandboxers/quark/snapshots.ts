/**
 * Snapshots of sandboxes of this kind: gVisor's have them, as far as runsc can save and bring back
 * what runs in them.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { SandboxSpec } from "../lifecycle/spec.ts";
import type { QuarkDriver } from "./driver.ts";
import type { Gvisor } from "./gvisor/kernel.ts";
import type { SnapshotRequest } from "./gvisor/snapshot/restore.ts";

/** How long a snapshot may take where nobody gives it up, in milliseconds. */
const SNAPSHOT_MS = 600_000;

/** Takes snapshots, and makes sandboxes of them. */
export class QuarkSnapshots {
  readonly #driver: QuarkDriver;
  readonly #gvisor: Gvisor;

  /**
   * Takes none yet.
   *
   * @param driver Runs the sandboxes.
   * @param gvisor The kernel that has snapshots.
   */
  constructor(driver: QuarkDriver, gvisor: Gvisor) {
    this.#driver = driver;
    this.#gvisor = gvisor;
  }

  /**
   * Takes a snapshot of a sandbox, which goes on.
   *
   * @param id The sandbox.
   * @param directory Where it goes: an absolute path, where nothing is yet.
   * @param signal Aborted when the caller gave up; missing for never.
   * @throws {SandboxError} `NotFound`; `Unimplemented` for a sandbox of another kernel; see
   *   {@link Gvisor.snapshot}.
   */
  async take(id: string, directory: string, signal?: AbortSignal): Promise<void> {
    const action = `cannot take a snapshot of sandbox "${id}"`;
    const kernel = this.#driver.kernelOf(id);
    if (kernel === undefined) throw new SandboxError("NotFound", `${action}: not found`);
    if (kernel !== this.#gvisor.name) {
      throw new SandboxError(
        "Unimplemented",
        `${action}: the application kernel ${kernel} cannot do that`,
      );
    }
    const late = AbortSignal.timeout(SNAPSHOT_MS);
    const end = signal === undefined ? late : AbortSignal.any([signal, late]);
    await this.#gvisor.snapshot(id, directory, end);
  }

  /**
   * Has the start of a sandbox be one of a snapshot.
   *
   * @param spec The sandbox: this very object, whatever its id.
   * @param request The snapshot.
   */
  startFrom(spec: SandboxSpec, request: SnapshotRequest): void {
    this.#driver.startWith(spec, this.#gvisor.name);
    this.#gvisor.startFrom(spec, request);
  }
}
