/**
 * Finds the processes of wasm pods that have one of their own, as a person would: in /proc.
 *
 * @module
 */

/** The processes of pods, by the pod's id. */
export interface PodProcesses {
  /** The runtime process. */
  readonly runtimes: ReadonlyMap<string, number>;
  /** The process that relays containerd's calls. */
  readonly relays: ReadonlyMap<string, number>;
}

/** Looks once at the processes of this machine. */
export async function podProcesses(): Promise<PodProcesses> {
  const runtimes = new Map<string, number>();
  const relays = new Map<string, number>();
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const words = (await text(`/proc/${name}/cmdline`)).split("\0").filter((word) => word !== "");
    const [, id] = /^quasaur-pod (\S+)$/.exec(words[0] ?? "") ?? [];
    if (id !== undefined) runtimes.set(id, Number(name));
    const isRelay = (await text(`/proc/${name}/comm`)).trim() === "quasaur-relay";
    if (isRelay) relays.set(words.at(-1) ?? "", Number(name));
  }
  return { runtimes, relays };
}

/**
 * The process id of a pod's runtime process; undefined where it has none.
 *
 * @param podId The pod's id.
 */
export async function runtimeProcess(podId: string): Promise<number | undefined> {
  return (await podProcesses()).runtimes.get(podId);
}

/** The fields of /proc/PID/status. */
export async function processStatus(pid: number): Promise<ReadonlyMap<string, string>> {
  const lines = (await text(`/proc/${pid}/status`)).split("\n").filter((line) => line !== "");
  return new Map(lines.map((line): [string, string] => {
    const [name = "", ...value] = line.split(":");
    return [name, value.join(":").trim()];
  }));
}

/** A file's text; empty when it is not there. */
async function text(path: string): Promise<string> {
  return await Deno.readTextFile(path).catch(() => "");
}
