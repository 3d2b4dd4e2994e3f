/**
 * A driver whose containers do nothing until they are killed. It isolates nothing and runs nothing:
 * it is there so that the benchmarks can say what containerd, the sockets and the lifecycle cost by
 * themselves, and is part of no sandboxer. It only holds the outputs open while a container runs, as
 * any driver does: containerd takes its time over the end of a container that never had them open.
 *
 * @module
 */

import type {
  Capabilities,
  ContainerHandle,
  Driver,
  ProcessHandle,
  SandboxHandle,
} from "../../sandboxers/lifecycle/driver.ts";
import type { Exit, Stats, StdioSpec } from "../../sandboxers/lifecycle/spec.ts";

const capabilities: Capabilities = {
  exec: true,
  pause: false,
  updateContainer: false,
  updateSandbox: false,
  terminal: false,
};

/** Makes the driver. Its sandboxes hold nothing, so the next process can take them over as they are. */
export function noopDriver(): Driver {
  return {
    kind: "noop",
    capabilities,
    start: () => Promise.resolve(sandboxHandle()),
    adopt: () => Promise.resolve({ handle: sandboxHandle(), containers: new Map() }),
  };
}

function sandboxHandle(): SandboxHandle {
  const { promise: exited, resolve } = Promise.withResolvers<Exit>();
  const containers = new Set<ContainerHandle>();
  return {
    pid: 0,
    record: null,
    exited,
    async createContainer(spec) {
      const container = containerHandle(await openOutputs(spec.stdio));
      containers.add(container);
      return container;
    },
    stats,
    async stop() {
      for (const container of containers) await container.delete();
      containers.clear();
      resolve({ status: 0, at: Date.now(), reason: "exited" });
    },
  };
}

/** Opens the FIFOs of a container for both directions, so that opening waits for no reader. */
async function openOutputs({ stdout, stderr }: StdioSpec): Promise<Disposable> {
  using opened = new DisposableStack();
  for (const stream of [stdout, stderr]) {
    if (stream.kind !== "path") continue;
    opened.use(await Deno.open(stream.path, { read: true, write: true }));
  }
  return opened.move();
}

function containerHandle(outputs: Disposable): ContainerHandle {
  const processes = new Set<ProcessHandle>();
  const start = () => {
    const process = processHandle();
    processes.add(process);
    void process.exited.then(() => {
      processes.delete(process);
      if (processes.size === 0) outputs[Symbol.dispose]();
    });
    return Promise.resolve(process);
  };
  return {
    record: null,
    start,
    exec: start,
    pids: () => Promise.resolve([...processes].map(({ pid }) => pid)),
    stats,
    async delete() {
      await Promise.all([...processes].map((process) => process.kill(SIGKILL)));
      outputs[Symbol.dispose]();
    },
  };
}

const SIGKILL = 9;
/** Signals that a process may choose to ignore, and these all do (signal(7)). */
const IGNORED: readonly number[] = [0, 17, 18, 23, 28];

function processHandle(): ProcessHandle {
  const { promise: exited, resolve } = Promise.withResolvers<Exit>();
  return {
    pid: Deno.pid,
    exited,
    kill(signal) {
      if (!IGNORED.includes(signal)) {
        resolve({ status: 128 + signal, at: Date.now(), reason: "signaled" });
      }
      return Promise.resolve();
    },
    closeStdin: () => Promise.resolve(),
  };
}

function stats(): Promise<Stats> {
  return Promise.resolve({ at: Date.now(), cpuNs: 0, memoryBytes: 0, pids: 0 });
}
