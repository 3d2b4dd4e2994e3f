/**
 * The disks of a running machine. A slot is a virtio-blk device that was there from the start with
 * nothing behind it: attaching an image puts another file behind its block node (`blockdev-reopen`),
 * which takes about 3 ms and needs nothing of the guest. What is writable, or finds no slot free, is
 * plugged into a PCI Express port, which takes the guest about 200 ms.
 *
 * @module
 */

import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type { DiskSpec } from "../hypervisor.ts";
import {
  HOTPLUG_PORTS,
  imageNode,
  type PluggedDisk,
  pluggedNames,
  portName,
  slotNames,
} from "./command_line.ts";
import { type QmpClient, QmpRefusal } from "./qmp.ts";
import type { QmpEvent } from "./qmp_events.ts";
import { Turns } from "./turns.ts";

/** Serial numbers that virtio-blk takes (20 bytes) and QEMU's options need no escape for. */
const SERIAL = /^[A-Za-z0-9-]{1,20}$/;
/** How long the guest may take to let a disk go, in milliseconds. */
const UNPLUG_MS = 30_000;

interface Slot {
  /** Counts images, so that no two nodes have the same name. */
  turn: number;
  /** The image in it; undefined while it is empty. */
  path: string | undefined;
}

interface Port {
  readonly serial: string;
  readonly path: string;
  readonly readonly: boolean;
}

/** The disks of one machine. */
export class Disks {
  readonly #qmp: QmpClient;
  readonly #machine: string;
  readonly #slots: readonly Slot[];
  readonly #ports: (Port | undefined)[] = Array.from({ length: HOTPLUG_PORTS });
  readonly #turns = new Turns();
  readonly #leaving = new Map<string, PromiseWithResolvers<void>>();

  /**
   * Disks of a machine that has just begun.
   *
   * @param qmp Its control connection.
   * @param machine Its id, for messages.
   * @param slots How many slots it has.
   * @param plugged What was plugged in already.
   */
  constructor(
    qmp: QmpClient,
    machine: string,
    slots: number,
    plugged: readonly PluggedDisk[] = [],
  ) {
    this.#qmp = qmp;
    this.#machine = machine;
    this.#slots = Array.from({ length: slots }, () => ({ turn: 0, path: undefined }));
    for (const { port, path, serial } of plugged) {
      this.#ports[port] = { serial, path, readonly: true };
    }
  }

  /**
   * Finds out what a machine has that an earlier process changed. An image that was opened but did
   * not get into its slot is closed.
   */
  async discover(): Promise<void> {
    const nodes = await this.#qmp.execute("query-named-block-nodes", { flat: true });
    const byName = new Map(nodes.map((node) => [node.name, node]));
    for (const { name, file } of nodes) {
      const match = /^slot(\d+)-image(\d+)$/.exec(name);
      const slot = this.#slots[Number(match?.[1])];
      if (match === null || slot === undefined) continue;
      slot.turn = Math.max(slot.turn, Number(match[2]) + 1);
      if (byName.get(slotNames(Number(match[1])).name)?.file === file) slot.path = file;
      else await this.#qmp.execute("blockdev-del", { "node-name": name });
    }
    for (const device of await this.#qmp.execute("qom-list", { path: "/machine/peripheral" })) {
      const match = /^disk(\d+)-([A-Za-z0-9-]+)$/.exec(device);
      const port = Number(match?.[1]);
      if (match?.[2] === undefined || port >= HOTPLUG_PORTS) continue;
      const node = byName.get(pluggedNames(port, match[2]).node);
      this.#ports[port] = {
        serial: match[2],
        path: node?.file ?? "",
        readonly: node?.readonly ?? false,
      };
    }
  }

  /** See {@link Machine.attachDisk}. */
  attach(disk: DiskSpec, signal: AbortSignal): Promise<{ readonly serial: string }> {
    const action = `cannot attach disk "${disk.path}" to machine "${this.#machine}"`;
    return this.#turns.take(async () => {
      throwIfAborted(signal, action);
      try {
        const slot = disk.readonly ? this.#slots.findIndex(({ path }) => path === undefined) : -1;
        return slot < 0 ? await this.#plug(disk) : await this.#insert(slot, disk.path);
      } catch (thrown) {
        const error = SandboxError.from(thrown);
        throw new SandboxError(error.code, `${action}: ${error.message}`, { cause: error });
      }
    });
  }

  /** See {@link Machine.detachDisk}. */
  detach(serial: string): Promise<void> {
    return this.#turns.take(async () => {
      const slot = this.#slots.findIndex((_, index) => slotNames(index).name === serial);
      if (this.#slots[slot]?.path !== undefined) return await this.#empty(slot);
      const port = this.#ports.findIndex((plugged) => plugged?.serial === serial);
      if (port >= 0) return await this.#unplug(port, serial);
      throw new SandboxError(
        "NotFound",
        `cannot detach disk "${serial}" from machine "${this.#machine}": it has none of that serial`,
      );
    });
  }

  /** Images in slots: what a saved machine needs to have put back. */
  get inserted(): readonly { readonly slot: number; readonly path: string }[] {
    return this.#slots.flatMap(({ path }, slot) => path === undefined ? [] : [{ slot, path }]);
  }

  /** Disks that are plugged in. */
  get plugged(): readonly (PluggedDisk & { readonly readonly: boolean })[] {
    return this.#ports.flatMap((disk, port) => disk === undefined ? [] : [{ port, ...disk }]);
  }

  /** Puts an image back into the slot that it was saved in. */
  restore(slot: number, path: string): Promise<unknown> {
    return this.#turns.take(() => this.#insert(slot, path));
  }

  /** Hears of devices that the guest let go, or not. */
  handle(event: QmpEvent): void {
    if (event.kind === "DEVICE_DELETED") this.#leaving.get(event.device)?.resolve();
    else if (event.kind === "DEVICE_UNPLUG_GUEST_ERROR") {
      this.#leaving.get(event.device)?.reject(
        new SandboxError("FailedPrecondition", `the guest did not let "${event.device}" go`),
      );
    }
  }

  async #insert(index: number, path: string): Promise<{ readonly serial: string }> {
    const slot = this.#slots[index];
    if (slot === undefined) throw new SandboxError("NotFound", `there is no disk slot ${index}`);
    const image = imageNode(index, slot.turn++);
    await this.#open(image, path, true);
    try {
      await this.#putBehind(index, image);
    } catch (thrown) {
      await this.#qmp.execute("blockdev-del", { "node-name": image }).catch(() => undefined);
      throw thrown;
    }
    slot.path = path;
    return { serial: slotNames(index).name };
  }

  async #empty(index: number): Promise<void> {
    const slot = this.#slots[index];
    if (slot === undefined) return;
    await this.#putBehind(index, slotNames(index).empty);
    slot.path = undefined;
    await this.#qmp.execute("blockdev-del", { "node-name": imageNode(index, slot.turn - 1) });
  }

  async #putBehind(index: number, file: string): Promise<void> {
    const { name } = slotNames(index);
    await this.#qmp.execute("blockdev-reopen", {
      options: [{ driver: "raw", "node-name": name, "read-only": true, file }],
    });
  }

  async #open(node: string, path: string, readonly: boolean): Promise<void> {
    const isDevice = await Deno.stat(path).then(({ isBlockDevice }) => isBlockDevice, (thrown) => {
      if (!(thrown instanceof Deno.errors.NotFound)) return false;
      throw new SandboxError("FailedPrecondition", "there is no such file");
    });
    await this.#qmp.execute("blockdev-add", {
      driver: isDevice === true ? "host_device" : "file",
      "node-name": node,
      filename: path,
      "read-only": readonly,
      // Many machines read the same image; only one may write to one.
      locking: readonly ? "off" : "auto",
    });
  }

  async #plug({ path, serial, readonly }: DiskSpec): Promise<{ readonly serial: string }> {
    if (!SERIAL.test(serial)) {
      throw new SandboxError(
        "InvalidArgument",
        `serial "${serial}" is not made of 1 to 20 letters, digits and "-"`,
      );
    }
    const port = this.#ports.findIndex((plugged) => plugged === undefined);
    if (port < 0) {
      throw new SandboxError(
        "ResourceExhausted",
        `all of its ${this.#slots.length} disk slots and ${HOTPLUG_PORTS} ports are in use: ` +
          "make machines with more disk slots",
      );
    }
    if (this.#ports.some((plugged) => plugged?.serial === serial)) {
      throw new SandboxError("AlreadyExists", `it has a disk with the serial "${serial}"`);
    }
    const { device, file, node } = pluggedNames(port, serial);
    await this.#open(file, path, readonly);
    try {
      const raw = { driver: "raw", "node-name": node, "read-only": readonly, file } as const;
      await this.#qmp.execute("blockdev-add", raw);
      const bus = portName(port);
      const args = { driver: "virtio-blk-pci", id: device, drive: node, bus, serial };
      await this.#qmp.execute("device_add", args);
    } catch (thrown) {
      await this.#closePlugged(node, file);
      throw thrown;
    }
    this.#ports[port] = { serial, path, readonly };
    return { serial };
  }

  async #unplug(port: number, serial: string): Promise<void> {
    const { device, file, node } = pluggedNames(port, serial);
    const left = Promise.withResolvers<void>();
    left.promise.catch(() => undefined);
    this.#leaving.set(device, left);
    const timer = setTimeout(() => {
      const message = `the guest did not let disk "${serial}" go within ${UNPLUG_MS} ms`;
      left.reject(new SandboxError("DeadlineExceeded", message));
    }, UNPLUG_MS);
    try {
      await this.#qmp.execute("device_del", { id: device });
      await Promise.race([left.promise, this.#qmp.closed.then(gone)]);
    } catch (thrown) {
      // It left after an earlier call had given up waiting.
      if (thrown instanceof QmpRefusal && thrown.kind === "DeviceNotFound") left.resolve();
      else throw this.#detachError(serial, thrown);
    } finally {
      clearTimeout(timer);
      this.#leaving.delete(device);
    }
    this.#ports[port] = undefined;
    await this.#closePlugged(node, file);
  }

  #detachError(serial: string, thrown: unknown): SandboxError {
    const error = SandboxError.from(thrown);
    return new SandboxError(
      error.code,
      `cannot detach disk "${serial}" from machine "${this.#machine}": ${error.message}`,
      { cause: error },
    );
  }

  async #closePlugged(node: string, file: string): Promise<void> {
    for (const name of [node, file]) {
      await this.#qmp.execute("blockdev-del", { "node-name": name }).catch(() => undefined);
    }
  }
}

function gone(): never {
  throw new SandboxError("Unavailable", "the machine has ended");
}
