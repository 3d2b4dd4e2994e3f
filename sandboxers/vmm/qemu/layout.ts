/**
 * Names the way in which this program builds machines: another program, or a later version of it, may
 * give the same machine other devices, and must not load what this one has saved.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { MachineSpec } from "../hypervisor.ts";
import { qemuArguments } from "./command_line.ts";

/** Machines that have every device between them. */
const SAMPLES: readonly Partial<MachineSpec>[] = [
  { machine: "microvm", accelerator: "tcg", network: "tap", interfaces: 1 },
  { machine: "microvm", accelerator: "kvm", network: "user", interfaces: 1, sharedTree: true },
  { machine: "q35", accelerator: "tcg", network: "none", interfaces: 0, cpusMax: 2 },
];

const MIB = 2 ** 20;

/** A text that changes with the arguments that QEMU gets for the same machines. */
export function machineLayout(): string {
  const hash = createHash("sha256");
  for (const sample of SAMPLES) {
    const spec: MachineSpec = {
      machine: "microvm",
      machineOptions: "",
      accelerator: "tcg",
      cpuModel: "",
      cpus: 1,
      cpusMax: 1,
      memoryBytes: 128 * MIB,
      memoryMaxBytes: 128 * MIB,
      hugepages: false,
      kernel: "/kernel",
      initrd: "/initrd",
      kernelParams: "",
      entropySource: "/dev/urandom",
      network: "none",
      interfaces: 0,
      diskSlots: 2,
      sharedTree: false,
      console: false,
      ...sample,
    };
    const args = qemuArguments({
      spec,
      place: {
        id: "sample",
        directory: "/sample",
        user: undefined,
        cgroup: "",
        sharedTreeSocket: spec.sharedTree ? "/sample/share.sock" : undefined,
      },
      start: { kind: "boot", tscKhz: 1_000_000 },
      memory: { kind: "file", path: "/sample/memory" },
      balloon: true,
      firstTapFd: 10,
    });
    hash.update(JSON.stringify(args));
  }
  return hash.digest("hex").slice(0, 16);
}
