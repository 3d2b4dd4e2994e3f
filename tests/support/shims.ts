/**
 * Ends the runc shims that outlived their containerd, with all they hold.
 *
 * @module
 */

/** Where a containerd keeps the bundles of Kubernetes' containers, below its state directory. */
const BUNDLES = "io.containerd.runtime.v2.task/k8s.io";

/**
 * Kills the runc shims of one containerd and the containers they hold, and removes their sockets,
 * which lie in a directory that all containerds share.
 *
 * @param socketPath The containerd's socket.
 * @param stateDirectory The containerd's state directory.
 */
export async function killShims(socketPath: string, stateDirectory: string): Promise<void> {
  for (const pid of await shimPids(socketPath)) {
    for (const child of await childrenOf(pid)) killIfThere(child);
    killIfThere(pid);
  }
  for (const id of await names(`${stateDirectory}/${BUNDLES}`)) {
    for (const path of await shimSockets(socketPath, id)) await Deno.remove(path).catch(() => {});
  }
}

/**
 * The sockets of a shim: one for tasks and one for debugging. Source: containerd, pkg/shim,
 * SocketAddress.
 */
function shimSockets(socketPath: string, id: string): Promise<string[]> {
  const names = [`${socketPath}/k8s.io/${id}`, `${socketPath}/k8s.io/${id}/debug`];
  return Promise.all(names.map(async (name) => {
    const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(name));
    return `/run/containerd/s/${new Uint8Array(hash).toHex()}`;
  }));
}

/**
 * The process ids of the shims whose command line says that they belong to one containerd.
 *
 * @param socketPath The containerd's socket.
 */
export async function shimPids(socketPath: string): Promise<number[]> {
  const pids: number[] = [];
  for (const name of await names("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const [program = "", ...args] = (await text(`/proc/${name}/cmdline`)).split("\0");
    const isShim = program.split("/").at(-1)?.startsWith("containerd-shim-") ?? false;
    if (isShim && args.includes(socketPath)) pids.push(Number(name));
  }
  return pids;
}

/** The children of a process, whichever thread of it made them. */
async function childrenOf(pid: number): Promise<number[]> {
  const children: number[] = [];
  for (const thread of await names(`/proc/${pid}/task`)) {
    const list = await text(`/proc/${pid}/task/${thread}/children`);
    children.push(...list.split(" ").filter((word) => word !== "").map(Number));
  }
  return children;
}

/** The names in a directory; none when it is not there. */
async function names(directory: string): Promise<string[]> {
  try {
    return await Array.fromAsync(Deno.readDir(directory), ({ name }) => name);
  } catch {
    return [];
  }
}

/** A file's text; empty when it is not there. */
async function text(path: string): Promise<string> {
  return await Deno.readTextFile(path).catch(() => "");
}

/** Kills a process unless it is gone. */
function killIfThere(pid: number): void {
  try {
    Deno.kill(pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
