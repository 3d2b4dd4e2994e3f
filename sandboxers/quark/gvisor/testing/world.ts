/**
 * What tests of runsc share: a place of its own for its state, bundles to run, and an end of all that
 * was left running.
 *
 * @module
 */

import { Launcher } from "../../../host/launcher.ts";
import { Runsc } from "../runsc.ts";
import type { RunscOptions } from "../runsc_options.ts";
import { listRecords, readRecord, type RunscContainer } from "../runsc_state.ts";

/** How long an ended process may stay a zombie, in milliseconds. */
const KILL_MS = 10_000;

/** A configuration, to be changed by a test. */
export interface TestBundle extends RunscContainer {
  /** The command; `/bin/busybox` is there and nothing else. */
  readonly args: readonly string[];
  /** The network namespace of a sandbox, a path; an empty one unless given. */
  readonly netns?: string;
}

/** A place for runsc. */
export class RunscWorld implements AsyncDisposable {
  /** The launcher that set-up built. */
  readonly launcher = new Launcher();
  /** Where everything is, a short path. */
  readonly directory: string;
  /** Calls runsc there. */
  readonly runsc: Runsc;

  private constructor(directory: string, more: Partial<RunscOptions>) {
    this.directory = directory;
    this.runsc = new Runsc({
      program: "/usr/bin/runsc",
      launcher: this.launcher,
      root: `${directory}/root`,
      logs: `${directory}/logs`,
      platform: "systrap",
      network: "none",
      ignoresCgroups: true,
      ...more,
    });
  }

  /** Makes one, with a root file system that has busybox in it. */
  static async open(more: Partial<RunscOptions> = {}): Promise<RunscWorld> {
    const directory = `/run/quasaur-test-${crypto.randomUUID().slice(0, 8)}`;
    await Deno.mkdir(`${directory}/rootfs/bin`, { recursive: true });
    await Deno.copyFile("/bin/busybox", `${directory}/rootfs/bin/busybox`);
    for (const name of ["dev", "etc", "proc", "sys", "tmp"]) {
      await Deno.mkdir(`${directory}/rootfs/${name}`);
    }
    return new RunscWorld(directory, more);
  }

  /** Writes a bundle; that of a sandbox is one whose id is the sandbox's. */
  async bundle({ id, sandboxId, args, netns }: TestBundle): Promise<string> {
    const path = `${this.directory}/${id}`;
    await Deno.mkdir(path, { recursive: true });
    const types = ["pid", "ipc", "uts", "mount"].map((type) => ({ type }));
    const network = { type: "network", ...(netns === undefined ? {} : { path: netns }) };
    const config = {
      ociVersion: "1.0.2",
      process: {
        user: { uid: 0, gid: 0 },
        args,
        env: ["PATH=/bin"],
        cwd: "/",
        capabilities: {},
      },
      root: { path: `${this.directory}/rootfs`, readonly: true },
      mounts: [{ destination: "/proc", type: "proc", source: "proc" }],
      annotations: {
        "io.kubernetes.cri.container-type": id === sandboxId ? "sandbox" : "container",
        "io.kubernetes.cri.sandbox-id": sandboxId,
      },
      linux: { namespaces: [...types, network] },
    };
    await Deno.writeTextFile(`${path}/config.json`, JSON.stringify(config));
    return path;
  }

  /** Creates and starts a container, or a sandbox; its output goes to a file, or nowhere. */
  async start(bundle: TestBundle, stdout?: string): Promise<void> {
    const { id, sandboxId } = bundle;
    await this.runsc.create({ id, sandboxId, bundle: await this.bundle(bundle) });
    await this.runsc.start({ id, sandboxId }, { stdout });
  }

  /** Makes the file that a container's output goes to. */
  async output(id: string): Promise<string> {
    const path = `${this.directory}/${id}/out`;
    await Deno.mkdir(`${this.directory}/${id}`, { recursive: true });
    await Deno.writeTextFile(path, "");
    return path;
  }

  /** The processes that were started for this place and run now, by their command lines. */
  async processes(): Promise<string[]> {
    const found: string[] = [];
    for await (const { name } of Deno.readDir("/proc")) {
      if (!/^\d+$/.test(name)) continue;
      const line = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
      if (line.includes(`${this.directory}/`)) found.push(line.replaceAll("\0", " "));
    }
    return found;
  }

  /** Kills what runs and removes everything, also after a test that failed. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { root } = this.runsc.options;
    for (const container of await listRecords(root)) {
      const record = await readRecord(root, container).catch(() => undefined);
      for (const pid of [record?.sandboxPid ?? 0, record?.goferPid ?? 0]) {
        const process = pid === 0 ? undefined : await this.launcher.identify(pid);
        if (process !== undefined) await this.launcher.kill(process, KILL_MS);
      }
    }
    await Deno.remove(this.directory, { recursive: true });
  }
}
