/**
 * Grows a running machine by plugging in memory modules. What the guest makes of them is its agent's.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { MachineSpec } from "../hypervisor.ts";
import { memoryModules, MODULE_BYTES } from "./command_line.ts";
import type { QmpClient } from "./qmp.ts";

/** How large a machine is now. */
export interface MachineSize {
  /** CPUs. */
  readonly cpus: number;
  /** Memory in bytes. */
  readonly memoryBytes: number;
}

/**
 * Grows a machine to a size at the least; memory grows by whole modules. Never shrinks. CPUs were all
 * there from the start and only have to be brought online by the agent: plugging them in does not
 * work in a guest whose kernel does not know that it has a hypervisor.
 *
 * @param qmp Its control connection.
 * @param spec What it was made of.
 * @param size What it is to have.
 * @throws {SandboxError} `ResourceExhausted` beyond what it was made for; then nothing changed.
 */
export async function growMachine(
  qmp: QmpClient,
  spec: MachineSpec,
  size: MachineSize,
): Promise<void> {
  const cpusMax = Math.max(spec.cpus, spec.cpusMax);
  if (size.cpus > cpusMax) {
    throw new SandboxError(
      "ResourceExhausted",
      `cannot grow the machine to ${size.cpus} CPUs: it was made for ${cpusMax} at most`,
    );
  }
  const modulesMax = memoryModules(spec);
  const needed = Math.max(0, Math.ceil((size.memoryBytes - spec.memoryBytes) / MODULE_BYTES));
  if (needed > modulesMax) {
    throw new SandboxError(
      "ResourceExhausted",
      `cannot grow the machine to ${size.memoryBytes} bytes of memory: it was made for ` +
        `${spec.memoryBytes + modulesMax * MODULE_BYTES} at most`,
    );
  }
  if (needed === 0) return;
  const { length } = await qmp.execute("query-memory-devices", {});
  for (let module = length; module < needed; module++) await plugModule(qmp, spec, module);
}

/** Whether memory was plugged into a machine. */
export async function hasGrown(qmp: QmpClient, spec: MachineSpec): Promise<boolean> {
  if (memoryModules(spec) === 0) return false;
  return (await qmp.execute("query-memory-devices", {})).length > 0;
}

async function plugModule(qmp: QmpClient, spec: MachineSpec, module: number): Promise<void> {
  const memory = `module-memory${module}`;
  await qmp.execute("object-add", {
    "qom-type": "memory-backend-memfd",
    id: memory,
    size: MODULE_BYTES,
    share: true,
    ...(spec.hugepages ? { hugetlb: true, hugetlbsize: 2 ** 21 } : {}),
  });
  try {
    await qmp.execute("device_add", { driver: "pc-dimm", id: `module${module}`, memdev: memory });
  } catch (thrown) {
    await qmp.execute("object-del", { id: memory }).catch(() => undefined);
    throw thrown;
  }
}
