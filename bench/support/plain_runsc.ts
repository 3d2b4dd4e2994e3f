/**
 * What a user gets of runsc without us: the same two containers, from the same configurations and
 * with the same flags as in a pod of ours that runs, started by nobody but this process.
 *
 * @module
 */

import type { Bed } from "../../tests/support/bed.ts";
import { removeCgroup } from "../../tests/support/cgroups.ts";
import { run } from "../../tests/support/command.ts";
import { type RunscProcesses, runscProcesses } from "../../tests/support/runsc_processes.ts";
import { waitFor } from "../../tests/support/wait.ts";

/** Flags that say where runsc keeps and logs things: not part of how containers run. */
const PLACES =
  /^--(root|log|log-format|log-fd|debug|debug-log|debug-log-fd|panic-log|panic-log-fd)(=|$)/;
/** The annotations of gVisor that make containers a pod. */
const CONTAINER_TYPE = "io.kubernetes.cri.container-type";
const SANDBOX_ID = "io.kubernetes.cri.sandbox-id";
/** The file in which runsc keeps what containers write, in their root directory. */
const FILESTORE = ".gvisor.filestore";

/** A container as runsc lists it. */
interface Listed {
  readonly id: string;
  readonly bundle: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A container's config.json, as far as it is read or changed here. */
interface Config {
  readonly root: { readonly path: string };
  readonly annotations?: Readonly<Record<string, string>>;
  readonly linux?: { readonly cgroupsPath?: string };
}

/** The times of one start in milliseconds. */
export interface PlainTimes {
  /** Creating and starting the container that holds the pod. */
  readonly sandboxMs: number;
  /** Creating the pod's container. */
  readonly createMs: number;
  /** Starting it. */
  readonly startMs: number;
}

/** What a pod of ours runs with. */
interface Model {
  readonly program: string;
  readonly flags: readonly string[];
  readonly root: string;
  readonly sandbox: Listed;
  readonly container: Listed;
}

/** Starts what a pod of ours has by runsc alone. The pod has to run as long. */
export class PlainRunsc {
  readonly #bed: Bed;
  readonly #model: Model;
  #started = 0;

  private constructor(bed: Bed, model: Model) {
    this.#bed = bed;
    this.#model = model;
  }

  /**
   * Looks at the one pod of a bed.
   *
   * @param bed The bed; it has one pod, with one container.
   */
  static async like(bed: Bed): Promise<PlainRunsc> {
    const { sandboxes } = await runscProcesses(bed.directory);
    const [sandbox, ...others] = sandboxes;
    if (sandbox === undefined || others.length > 0) {
      throw new Error(`found ${sandboxes.length} sandboxes of runsc, expected 1`);
    }
    const { pid, words } = sandbox;
    const flags = words.slice(1, words.indexOf("boot"));
    const root = flags.find((flag) => flag.startsWith("--root="))?.slice("--root=".length) ?? "";
    const program = await Deno.readLink(`/proc/${pid}/exe`);
    const containers = await list(program, root);
    const ofType = (type: string): Listed => {
      const found = containers.filter(({ annotations }) => annotations?.[CONTAINER_TYPE] === type);
      if (found[0] === undefined || found.length > 1) {
        throw new Error(`runsc lists ${found.length} containers of type ${type}, expected 1`);
      }
      return found[0];
    };
    return new PlainRunsc(bed, {
      program,
      flags: flags.filter((flag) => !PLACES.test(flag)),
      root,
      sandbox: ofType("sandbox"),
      container: ofType("container"),
    });
  }

  /** Starts the two containers and ends them. Only the start is timed. */
  async start(): Promise<PlainTimes> {
    await using place = await this.#place();
    return await place.start();
  }

  /**
   * Starts several times the two containers at the same time, and ends them.
   *
   * @param count How many times.
   * @returns From the first call until the last container was started, in milliseconds.
   */
  async startMany(count: number): Promise<number> {
    await using places = new AsyncDisposableStack();
    const ready: Place[] = [];
    while (ready.length < count) ready.push(places.use(await this.#place()));
    const begin = performance.now();
    await Promise.all(ready.map((place) => place.start()));
    return performance.now() - begin;
  }

  /**
   * Runs a command in the pod's own container.
   *
   * @param command The command and its arguments.
   */
  async exec(command: readonly string[]): Promise<void> {
    const { program, flags, root, container } = this.#model;
    await runsc(program, [...flags, `--root=${root}`, "exec", container.id, ...command]);
  }

  /** Makes the bundles of a start. */
  async #place(): Promise<Place> {
    // The path of a socket in it is bounded.
    const directory = await Deno.makeTempDir({ prefix: "qs-plain-" });
    const id = `plain${this.#started++}`;
    const { program, flags, sandbox, container } = this.#model;
    const bundles = [
      await this.#copyBundle(sandbox, `${directory}/sandbox`, id),
      await this.#copyBundle(container, `${directory}/container`, id),
    ];
    return new Place({ directory, id, program, flags, bundles });
  }

  /** Copies a configuration: other ids and another cgroup, everything else the same. */
  async #copyBundle(of: Listed, to: string, id: string): Promise<CopiedBundle> {
    const config: Config = JSON.parse(await Deno.readTextFile(`${of.bundle}/config.json`));
    const { root, annotations = {}, linux = {} } = config;
    const path = root.path.startsWith("/") ? root.path : `${of.bundle}/${root.path}`;
    const isInPod = annotations[SANDBOX_ID] !== undefined;
    const parent = this.#bed.directory.split("/").at(-1);
    const cgroup = linux.cgroupsPath === undefined ? undefined : `/${parent}/${id}`;
    const changed = {
      ...config,
      root: { ...root, path },
      annotations: isInPod ? { ...annotations, [SANDBOX_ID]: id } : annotations,
      linux: { ...linux, ...cgroup === undefined ? {} : { cgroupsPath: `${cgroup}/${of.id}` } },
    };
    await Deno.mkdir(to);
    await Deno.writeTextFile(`${to}/config.json`, JSON.stringify(changed));
    return { rootfs: path, cgroup };
  }
}

/** A configuration that was copied. */
interface CopiedBundle {
  readonly rootfs: string;
  /** The cgroup of the start; undefined where there is none. */
  readonly cgroup: string | undefined;
}

/** What a start needs. */
interface PlaceOptions {
  readonly directory: string;
  /** The id of the sandbox; that of the container is the same with an ending. */
  readonly id: string;
  readonly program: string;
  readonly flags: readonly string[];
  readonly bundles: readonly CopiedBundle[];
}

/** Where runsc keeps the two containers of one start. Disposing of it ends them. */
class Place implements AsyncDisposable {
  readonly #options: PlaceOptions;

  constructor(options: PlaceOptions) {
    this.#options = options;
  }

  /** Creates and starts both, one after the other. */
  async start(): Promise<PlainTimes> {
    const { directory, id } = this.#options;
    const begin = performance.now();
    await this.#runsc("create", `--bundle=${directory}/sandbox`, id);
    await this.#runsc("start", id);
    const sandboxed = performance.now();
    await this.#runsc("create", `--bundle=${directory}/container`, `${id}-c`);
    const created = performance.now();
    await this.#runsc("start", `${id}-c`);
    const started = performance.now();
    return {
      sandboxMs: sandboxed - begin,
      createMs: created - sandboxed,
      startMs: started - created,
    };
  }

  /** Kills what runs, as taking containers down one by one takes runsc seconds. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { directory, id, bundles } = this.#options;
    await kill(await runscProcesses(directory));
    await waitFor("plain runsc to end", async () => {
      const { sandboxes, gofers } = await runscProcesses(directory);
      return sandboxes.length + gofers.length === 0;
    });
    for (const { rootfs, cgroup } of bundles) {
      await Deno.remove(`${rootfs}/${FILESTORE}.${id}`).catch(() => undefined);
      if (cgroup !== undefined) await removeCgroup(cgroup);
    }
    await Deno.remove(directory, { recursive: true });
  }

  async #runsc(...args: readonly string[]): Promise<void> {
    const { directory, program, flags } = this.#options;
    const places = [`--root=${directory}/root`, `--log=${directory}/log`, "--log-format=json"];
    await runsc(program, [...flags, ...places, ...args]);
  }
}

/** The containers that runsc knows at a place. */
async function list(program: string, root: string): Promise<readonly Listed[]> {
  const { stdout } = await run([program, `--root=${root}`, "list", "-format", "json"]);
  const found: unknown = JSON.parse(stdout);
  return Array.isArray(found) ? found : [];
}

/** Runs runsc. What it starts must not hold a pipe of ours, and has no output anybody wants. */
async function runsc(program: string, args: readonly string[]): Promise<void> {
  const command = new Deno.Command(program, {
    args: [...args],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  });
  const { code } = await command.output();
  if (code !== 0) throw new Error(`cannot run "${program} ${args.join(" ")}": status ${code}`);
}

/** Kills processes unless they have ended. */
async function kill({ sandboxes, gofers }: RunscProcesses): Promise<void> {
  const pids = [...sandboxes.map(({ pid }) => `${pid}`), ...gofers.map((pid) => `${pid}`)];
  if (pids.length > 0) await run(["kill", "-9", ...pids], { check: false });
}
