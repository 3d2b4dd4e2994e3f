/**
 * What tests of real machines share: places, a spec, and QEMU with the launcher.
 *
 * @module
 */

import { DEFAULT_KERNEL } from "../../../../guest/image/paths.ts";
import { Launcher } from "../../../host/launcher.ts";
import { measureTscKhz } from "../../accelerator/accelerator.ts";
import type { MachinePlace, MachineSpec, SavedMachine } from "../../hypervisor.ts";
import { Qemu, type QemuOptions } from "../qemu.ts";
import { buildProbeInitrd, Probe } from "./probe_guest.ts";

/** The user that VMMs run as in tests. */
export const USER = { uid: 1_879_048_193, gid: 1_879_048_192 };

/** How long anything in these tests may take, in milliseconds. */
export const LIMIT_MS = 60_000;

/** A signal that nobody aborts but the clock. */
export function limit(): AbortSignal {
  return AbortSignal.timeout(LIMIT_MS);
}

let tscKhz: Promise<number> | undefined;

/** A QEMU as a sandboxer has it. */
export function qemuIn(directory: string, options: Partial<QemuOptions> = {}): Qemu {
  return new Qemu({
    program: "/usr/bin/qemu-system-x86_64",
    launcher: new Launcher(),
    connect: (path) => Deno.connect({ transport: "unix", path }),
    directory,
    tscKhz: () => tscKhz ??= measureTscKhz(new Launcher()),
    ...options,
  });
}

/** A small machine with the probe. */
export function probeSpec(initrd: string, changes: Partial<MachineSpec> = {}): MachineSpec {
  return {
    machine: "microvm",
    machineOptions: "",
    accelerator: "tcg",
    cpuModel: "",
    cpus: 1,
    cpusMax: 1,
    memoryBytes: 128 << 20,
    memoryMaxBytes: 128 << 20,
    hugepages: false,
    kernel: DEFAULT_KERNEL,
    initrd,
    kernelParams: "",
    entropySource: "/dev/urandom",
    network: "none",
    interfaces: 0,
    diskSlots: 2,
    sharedTree: false,
    console: false,
    ...changes,
  };
}

/** A directory with places in it; removed at the end. */
export class Bench implements AsyncDisposable {
  /** QEMU. */
  readonly qemu: Qemu;
  #places = 0;
  #template: Promise<SavedMachine> | undefined;

  private constructor(
    /** The directory. */
    readonly directory: string,
    /** The probe's initrd. */
    readonly initrd: string,
  ) {
    this.qemu = qemuIn(directory);
  }

  /** Makes the directory and the probe. */
  static async make(): Promise<Bench> {
    const directory = await Deno.makeTempDir({ prefix: "quasaur-qemu-" });
    // VMMs run as another user.
    await Deno.chmod(directory, 0o711);
    const initrd = await buildProbeInitrd(directory);
    await Deno.chmod(initrd, 0o644);
    return new Bench(directory, initrd);
  }

  /** A directory of its own that VMMs can enter. */
  async subdirectory(name: string): Promise<string> {
    const path = `${this.directory}/${name}`;
    await Deno.mkdir(path, { mode: 0o711 });
    return path;
  }

  /** A place for a machine. */
  async place(changes: Partial<MachinePlace> = {}): Promise<MachinePlace> {
    const id = `m${this.#places++}`;
    const directory = await this.subdirectory(id);
    await Deno.chown(directory, USER.uid, USER.gid);
    return { id, directory, user: USER, cgroup: "", sharedTreeSocket: undefined, ...changes };
  }

  /** A saved machine that is made at the first use. */
  template(): Promise<SavedMachine> {
    return this.#template ??= this.#makeTemplate();
  }

  #makeTemplate(): Promise<SavedMachine> {
    return this.save("template", probeSpec(this.initrd));
  }

  /** Boots a machine to its first answer and saves it. */
  async save(
    name: string,
    spec: MachineSpec,
    changes: Partial<MachinePlace> = {},
  ): Promise<SavedMachine> {
    const directory = await this.subdirectory(name);
    const place = await this.place({ memoryFile: `${directory}/memory`, ...changes });
    const machine = await this.qemu.boot(spec, place, limit());
    try {
      using probe = await Probe.connect(machine.agentSocket);
      await probe.hear();
      await probe.ask("ping");
    } catch (thrown) {
      await machine.stop();
      throw thrown;
    }
    await machine.save(directory, { resume: false });
    return { directory, spec };
  }

  /** Removes the directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** Names of what is left in a place, its log apart. */
export async function leftIn({ directory }: MachinePlace): Promise<string[]> {
  const names = await Array.fromAsync(Deno.readDir(directory), ({ name }) => name);
  return names.filter((name) => name !== "vmm.log").sort();
}
