/**
 * A sandbox of the runsc that is installed, with one container of busybox, for tests of what talks to
 * sandboxes (as root).
 *
 * @module
 */

import { Gate } from "../../../host/gate.ts";
import { HandedStdio } from "../../../host/handed_stdio.ts";
import { launcher, run } from "../../../host/testing/fixture.ts";
import type { ContainerSpec, StdioSpec } from "../../../lifecycle/spec.ts";
import { noLog } from "../../../log.ts";
import { SentryControl } from "../control.ts";
import { sentryExec } from "../control_exec.ts";
import { Runsc } from "../runsc.ts";
import { readRecord } from "../runsc_state.ts";

const SANDBOX = "pod";
/** The container's id. */
export const CONTAINER = "container";

/** No stream at all. */
export const NO_STDIO: StdioSpec = {
  stdin: { kind: "null" },
  stdout: { kind: "null" },
  stderr: { kind: "null" },
  terminal: false,
};

/** A sandbox with a container. */
export class RealSandbox implements AsyncDisposable {
  #execs = 0;

  /** Its control socket. */
  readonly control: SentryControl;

  private constructor(readonly directory: string, readonly runsc: Runsc) {
    const socket = `${directory}/root/runsc-${SANDBOX}.sock`;
    this.control = new SentryControl(socket, new Gate(`${directory}/gate`).connect);
  }

  /**
   * Starts them.
   *
   * @param script What the container's shell runs.
   */
  static async start(script: string): Promise<RealSandbox> {
    const directory = `/run/quasaur-io-${crypto.randomUUID().slice(0, 8)}`;
    const rootfs = `${directory}/rootfs`;
    await Deno.mkdir(rootfs, { recursive: true });
    const runsc = new Runsc({
      program: "/usr/bin/runsc",
      launcher,
      root: `${directory}/root`,
      logs: `${directory}/logs`,
      platform: "systrap",
      network: "none",
      ignoresCgroups: true,
    });
    const sandbox = new RealSandbox(directory, runsc);
    try {
      for (const name of ["bin", "proc", "dev", "tmp"]) await Deno.mkdir(`${rootfs}/${name}`);
      await Deno.copyFile("/bin/busybox", `${rootfs}/bin/busybox`);
      for (const name of ["sh", "sleep", "cat", "stty", "true"]) {
        await Deno.symlink("busybox", `${rootfs}/bin/${name}`);
      }
      await sandbox.#run(SANDBOX, ["sleep", "1000"]);
      await sandbox.#run(CONTAINER, ["sh", "-c", script]);
      return sandbox;
    } catch (error) {
      await sandbox[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #run(id: string, args: readonly string[]): Promise<void> {
    const bundle = `${this.directory}/${id}`;
    await Deno.mkdir(bundle);
    await Deno.writeTextFile(`${bundle}/config.json`, JSON.stringify(config(id, args)));
    const names = { id, sandboxId: SANDBOX };
    await this.runsc.create({ ...names, bundle });
    await this.runsc.start(names);
  }

  /**
   * Opens the streams of a process in the container.
   *
   * @param stdio Where they go.
   */
  async open(stdio: StdioSpec): Promise<HandedStdio> {
    const directory = `${this.directory}/exec${this.#execs++}`;
    await Deno.mkdir(directory);
    const socketDirectory = this.directory;
    return await HandedStdio.open(stdio, {
      launcher,
      directory,
      socketDirectory,
      label: "exec",
      log: noLog,
    });
  }

  /**
   * Starts a process in the container.
   *
   * @param args What to run.
   * @param stdio Its streams.
   * @param changes What is special about it.
   * @param signal Gives up.
   * @returns Its id in the sandbox.
   */
  async exec(
    args: readonly string[],
    stdio: HandedStdio,
    changes: Partial<ContainerSpec["process"]> = {},
    signal: AbortSignal = new AbortController().signal,
  ): Promise<number> {
    const process = {
      args,
      env: ["PATH=/bin"],
      cwd: "/",
      user: { uid: 0, gid: 0, additionalGids: [] },
      ...changes,
    };
    const { control } = this;
    const exec = { launcher, control, containerId: CONTAINER, process, stdio, netRaw: false };
    const pid = await sentryExec(exec, signal);
    stdio.begun();
    return pid;
  }

  /** Kills the sandbox as if it had crashed. */
  async kill(): Promise<void> {
    const record = await readRecord(`${this.directory}/root`, { id: SANDBOX, sandboxId: SANDBOX });
    const identity = record === undefined ? undefined : await launcher.identify(record.sandboxPid);
    if (identity !== undefined) await launcher.kill(identity);
  }

  /** Ends it and removes all of it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await run("rm", "-rf", this.directory);
  }
}

function config(id: string, args: readonly string[]): object {
  const capabilities = ["CAP_KILL", "CAP_NET_RAW", "CAP_CHOWN"];
  return {
    ociVersion: "1.1.0",
    process: {
      user: { uid: 0, gid: 0 },
      args,
      env: ["PATH=/bin"],
      cwd: "/",
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    },
    root: { path: "../rootfs", readonly: true },
    mounts: [{ destination: "/proc", type: "proc", source: "proc" }],
    linux: {
      namespaces: ["pid", "ipc", "uts", "mount", "network"].map((type) => ({ type })),
    },
    annotations: {
      "io.kubernetes.cri.container-type": id === SANDBOX ? "sandbox" : "container",
      "io.kubernetes.cri.sandbox-id": SANDBOX,
    },
  };
}
