/**
 * The disks of a guest, shared by containers with the same image: each image is attached once, for
 * as long as a container uses it.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import { Serial } from "../lifecycle/serial.ts";
import type { Machine } from "./hypervisor.ts";

/** A disk that is attached. */
interface Attached {
  readonly serial: string;
  users: number;
}

/** Attaches images to one machine. */
export class GuestDisks {
  readonly #machine: Pick<Machine, "attachDisk" | "detachDisk">;
  readonly #disks = new Map<string, Attached>();
  readonly #serial = new Serial();

  /** Attaches nothing yet. */
  constructor(machine: Pick<Machine, "attachDisk" | "detachDisk">) {
    this.#machine = machine;
  }

  /**
   * Attaches an image, unless it is attached; to be given back by {@link GuestDisks.release}.
   *
   * @param key Names the image's content.
   * @param path Where it is; the VMM's user can read it.
   * @param signal Aborted when the caller gave up.
   * @returns The serial number that the guest finds it by.
   */
  async use(key: string, path: string, signal: AbortSignal): Promise<string> {
    return await this.#serial.run(async () => {
      const known = this.#disks.get(key);
      if (known !== undefined) {
        known.users++;
        return known.serial;
      }
      const wanted = crypto.randomUUID().slice(0, 8);
      const disk = { path, serial: wanted, readonly: true };
      const { serial } = await this.#machine.attachDisk(disk, signal);
      this.#disks.set(key, { serial, users: 1 });
      return serial;
    });
  }

  /** Takes note of a use that an earlier process had begun. */
  keep(key: string, serial: string): void {
    const known = this.#disks.get(key);
    if (known === undefined) this.#disks.set(key, { serial, users: 1 });
    else known.users++;
  }

  /**
   * Ends a use; with the last one the image is taken away.
   *
   * @throws {SandboxError} Where the machine does not let it go; it can be called again then.
   */
  async release(key: string): Promise<void> {
    await this.#serial.runAlways(async () => {
      const disk = this.#disks.get(key);
      if (disk === undefined) return;
      if (disk.users > 1) {
        disk.users--;
        return;
      }
      try {
        await this.#machine.detachDisk(disk.serial);
      } catch (error) {
        if (SandboxError.from(error).code !== "NotFound") throw error;
      }
      this.#disks.delete(key);
    });
  }
}
