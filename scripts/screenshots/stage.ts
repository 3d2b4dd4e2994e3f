/**
 * Where pictures are taken: a private view of this host's files, in which Quasaur stands in
 * /opt/quasaur, runs in /run/quasaur and is known to containerd, and nothing else is changed. Real
 * sandboxers with real pods run in it.
 *
 * @module
 */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { BRIDGE_NETWORK } from "../../cli/doctor/bridge_network.ts";
import type { RunRequestSchema } from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { ManagementClient } from "../../sandboxers/client/management_client.ts";
import { GUESTS_BUILD_DIR } from "../../tests/guests/build.ts";
import { BusyboxRootfs } from "../../tests/support/busybox_rootfs.ts";
import { run } from "../../tests/support/command.ts";
import { REPOSITORY } from "../../tests/support/permissions.ts";
import {
  SandboxerPaths,
  SandboxerProcess,
  sandboxerProgram,
} from "../../tests/support/sandboxer.ts";

/** Where the sources are seen. */
export const HOME = "/opt/quasaur";

/** The kinds of sandboxer, those whose pods come first first. */
const KINDS = ["wasm", "quark", "vmm"] as const;

/**
 * Runs a script of this repository as it is seen in {@link HOME}, where what it mounts is its own.
 *
 * @param script Its path in the repository.
 * @param args Its arguments.
 * @returns Its exit code.
 */
export async function runOnStage(script: string, args: readonly string[]): Promise<number> {
  const prepare = 'mount -t tmpfs -o mode=0755 tmpfs /opt && mkdir "$2" /opt/upper /opt/work && ' +
    'mount --bind "$1" "$2" && ' +
    "mount -t overlay -o lowerdir=/etc,upperdir=/opt/upper,workdir=/opt/work overlay /etc && " +
    "mount -t tmpfs -o mode=0755 tmpfs /run && mkdir /run/quasaur && " +
    'cd "$2" && shift 2 && exec "$@"';
  const { code } = await new Deno.Command("unshare", {
    args: [
      ...["--mount", "--propagation", "private", "/bin/sh", "-ec", prepare, "sh"],
      ...[REPOSITORY, HOME, Deno.execPath(), "run", "-A", `${HOME}/${script}`, ...args],
    ],
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).spawn().status;
  return code;
}

/** Sandboxers with pods. Disposing of it ends them. */
export class Stage implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();

  private constructor() {}

  /** Starts all. */
  static async set(): Promise<Stage> {
    const stage = new Stage();
    try {
      await knowContainerd();
      for (const kind of KINDS) await stage.#startSandboxer(kind);
      await stage.#startPods();
      return stage;
    } catch (error) {
      await stage[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #startSandboxer(kind: string): Promise<void> {
    const paths = new SandboxerPaths(kind, "/run");
    const sandboxer = new SandboxerProcess(sandboxerProgram(kind), paths, "info");
    this.#stack.use(sandboxer);
    await sandboxer.start();
  }

  async #startPods(): Promise<void> {
    const rootfs = this.#stack.use(await BusyboxRootfs.make());
    const serve = "while :; do sleep 1; done";
    const work = "while :; do n=0; while [ $n -lt 5000 ]; do n=$((n + 1)); done; sleep 0.1; done";
    await this.#run("quark", "notebook", "hub/notebook:5", rootfs.path, work);
    await this.#run("quark", "reports", "hub/reports:1.4", rootfs.path, serve);
    await this.#run("vmm", "build-4711", "hub/builder:12", rootfs.path, serve);
    for (const [name, image, guest] of WASM_PODS) await this.#runWasm(name, image, guest);
  }

  async #runWasm(name: string, image: string, guest: string): Promise<void> {
    await this.#start("wasm", {
      name,
      image,
      rootfs: { source: { case: "directory", value: GUESTS_BUILD_DIR } },
      process: { args: [`/${guest}.wasm`] },
      resources: { memoryBytes: 64n * 1024n * 1024n, cpuMillis: 200n },
    });
  }

  async #run(
    kind: string,
    name: string,
    image: string,
    rootfs: string,
    script: string,
  ): Promise<void> {
    await this.#start(kind, {
      name,
      image,
      rootfs: { source: { case: "templateDirectory", value: rootfs } },
      process: { args: ["/bin/sh", "-c", script], env: ["PATH=/bin"] },
      resources: { memoryBytes: 256n * 1024n * 1024n },
    });
  }

  async #start(kind: string, request: MessageInitShape<typeof RunRequestSchema>): Promise<void> {
    const client = this.#stack.use(new ManagementClient(`/run/quasaur/${kind}.sock`));
    const { sandboxId } = await client.run(request);
    this.#stack.defer(() => client.remove({ target: sandboxId, force: true }).then(() => {}));
  }

  /** The metrics sockets of all sandboxers, by kind. */
  get metrics(): ReadonlyMap<string, string> {
    return new Map(KINDS.map((kind) => [kind, `/run/quasaur/${kind}-metrics.sock`]));
  }

  /**
   * Lets pods come and go, so that there is something to be seen.
   *
   * @param ms For how long, in milliseconds.
   */
  async work(ms: number): Promise<void> {
    const rootfs = this.#stack.use(await BusyboxRootfs.make());
    const end = performance.now() + ms;
    const jobs: readonly [string, number, MessageInitShape<typeof RunRequestSchema>][] = [
      ["wasm", 250, {
        rootfs: { source: { case: "directory", value: GUESTS_BUILD_DIR } },
        process: { args: ["/hello.wasm"] },
      }],
      ["wasm", 900, {
        rootfs: { source: { case: "directory", value: GUESTS_BUILD_DIR } },
        process: { args: ["/trap.wasm"] },
      }],
      ["quark", 3_000, {
        rootfs: { source: { case: "templateDirectory", value: rootfs.path } },
        process: { args: ["/bin/echo", "done"] },
      }],
    ];
    await Promise.all(jobs.map(async ([kind, pauseMs, request]) => {
      using client = new ManagementClient(`/run/quasaur/${kind}.sock`);
      while (performance.now() < end) {
        const { sandboxId } = await client.run(request);
        await client.wait({ target: sandboxId });
        await client.remove({ target: sandboxId, force: true });
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
    }));
  }

  /** Ends all. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** Pods of WebAssembly: their name, their image, and the guest that they run. */
const WASM_PODS = [
  ["resize-images", "hub/resize:2.1", "spin"],
  ["checkout", "hub/checkout:7", "sleep"],
  ["edge-cache", "hub/edge-cache:3", "sleep"],
  ["search", "hub/search:1.9", "sleep"],
  ["webhooks", "hub/webhooks:4", "sleep"],
] as const;

/** Brings containerd's configuration and a network, as an administrator would. */
async function knowContainerd(): Promise<void> {
  await run([`${HOME}/deploy/bin/quasaur`, "containerd", "config", "--apply"]);
  await Deno.mkdir("/etc/cni/net.d", { recursive: true });
  await Deno.writeTextFile("/etc/cni/net.d/10-bridge.conflist", BRIDGE_NETWORK);
}
