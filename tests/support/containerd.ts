/**
 * Starts a containerd of its own for tests, the demo and the benchmarks: own directories, own
 * sockets, own pod network. It disturbs no containerd that may run on the machine, several can run
 * side by side, and it takes everything away when it is disposed.
 *
 * @module
 */

import { GrpcClient } from "../../proto/grpc.ts";
import { RuntimeService } from "../../proto/gen/runtime/v1/api_pb.ts";
import type { LogLevel } from "../../sandboxers/log.ts";
import { run, tail } from "./command.ts";
import {
  type BedNetwork,
  cniConfig,
  containerdConfig,
  handlersOf,
  type ProxySandboxer,
} from "./containerd_config.ts";
import { unmountBelow } from "./mount_table.ts";
import { freeNetwork, removeNetwork } from "./network.ts";
import { imageArchive, type ImageDescription } from "./oci_image.ts";
import { killShims } from "./shims.ts";
import { ManagedProcess } from "./managed_process.ts";
import { REPOSITORY } from "./permissions.ts";
import { waitFor } from "./wait.ts";

/** The stub shim's source; each sandboxer's runtime type finds it under its own name. */
const STUB_SHIM = `${REPOSITORY}/task/shim/containerd-shim-quasaur`;

/** How a containerd that sends traces does so: soon, as tests wait for them. */
const SENDING = { OTEL_SERVICE_NAME: "containerd", OTEL_BSP_SCHEDULE_DELAY: "100" };

/** A running containerd. */
export class Containerd implements AsyncDisposable {
  /** The process; stopped and started by the methods here. */
  readonly process: ManagedProcess;

  private constructor(
    /** The directory that holds everything of this containerd. */
    readonly directory: string,
    /** The network of its pods. */
    readonly network: BedNetwork,
    traces: string | undefined,
  ) {
    this.process = new ManagedProcess({
      name: "containerd",
      command: ["containerd", "-c", `${directory}/config.toml`],
      env: {
        ...(traces === undefined ? {} : { OTEL_EXPORTER_OTLP_ENDPOINT: traces, ...SENDING }),
        PATH: `${directory}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      },
      logPath: `${directory}/containerd.log`,
    });
  }

  /** The path of the socket that serves CRI and containerd's own services. */
  get socketPath(): string {
    return `${this.directory}/containerd.sock`;
  }

  /** The path of the socket that takes events. */
  get eventsPath(): string {
    return `${this.socketPath}.ttrpc`;
  }

  /** The state directory: bundles and FIFOs. */
  get state(): string {
    return `${this.directory}/state`;
  }

  /** The root directory: contents and snapshots. */
  get root(): string {
    return `${this.directory}/root`;
  }

  /**
   * Starts a containerd and waits until its CRI service answers.
   *
   * @param directory An empty directory on a file system that overlayfs can write to; it stays the
   *   caller's, and is left without mounts.
   * @param sandboxers The sandboxers it shall know; they need not run yet.
   * @param logLevel How much it logs.
   * @param traces Where it sends traces, such as `http://127.0.0.1:4318`; missing for nowhere.
   */
  static async start(
    directory: string,
    sandboxers: readonly ProxySandboxer[] = [],
    logLevel: LogLevel = "debug",
    traces?: string,
  ): Promise<Containerd> {
    const network = await freeNetwork(directory);
    await Deno.mkdir(`${directory}/cni/net.d`, { recursive: true });
    await Deno.mkdir(`${directory}/bin`, { recursive: true });
    for (const handler of sandboxers.flatMap(handlersOf)) {
      await Deno.symlink(STUB_SHIM, `${directory}/bin/containerd-shim-${handler}-v1`);
    }
    await Deno.writeTextFile(
      `${directory}/config.toml`,
      containerdConfig(directory, sandboxers, logLevel, traces !== undefined),
    );
    await Deno.writeTextFile(
      `${directory}/cni/net.d/10-bed.conflist`,
      cniConfig(directory, network),
    );
    const containerd = new Containerd(directory, network, traces);
    try {
      await containerd.resume();
      return containerd;
    } catch (error) {
      await containerd[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Starts it again after it was stopped, over what it left; waits until CRI answers. */
  async resume(): Promise<void> {
    await this.process.start();
    await waitFor("containerd's CRI service", async () => {
      if (!this.process.running) return true;
      using client = new GrpcClient(this.socketPath);
      const { status } = await client.call(RuntimeService.method.status, {}, { timeoutMs: 2_000 });
      return status?.conditions.every((condition) => condition.status);
    }, { timeoutMs: 30_000 });
    if (!this.process.running) {
      throw new Error(
        `Cannot start containerd: it ended at once\n${tail(await this.process.log())}`,
      );
    }
  }

  /** Stops and starts it; pods and containers keep running meanwhile. */
  async restart(): Promise<void> {
    await this.process.stop();
    await this.resume();
  }

  /**
   * Runs `ctr` against it in Kubernetes' namespace.
   *
   * @param args The arguments after the address and the namespace.
   * @returns What it printed.
   */
  async ctr(...args: string[]): Promise<string> {
    const { stdout } = await run(["ctr", "-a", this.socketPath, "-n", "k8s.io", ...args]);
    return stdout;
  }

  /**
   * Makes an image and brings it in.
   *
   * @param image What the image holds.
   * @returns Its reference.
   */
  async importImage(image: ImageDescription): Promise<string> {
    const path = await Deno.makeTempFile({ dir: this.directory, suffix: ".tar" });
    try {
      await Deno.writeFile(path, await imageArchive(image));
      await this.ctr("images", "import", path);
    } finally {
      await Deno.remove(path);
    }
    return image.reference;
  }

  /**
   * Stops it and removes what is left: shims, mounts, network namespaces and the bridge. The files
   * stay until the owner of the directory removes them.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.process.stop();
    await killShims(this.socketPath, this.state);
    await removeNetwork(this.network.name);
    await unmountBelow(this.directory);
  }
}
