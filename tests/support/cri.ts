/**
 * A small CRI client: what kubelet would ask of containerd, in a few words. Pods and containers are
 * objects that remove themselves when they are disposed.
 *
 * @module
 */

import type { Message, MessageInitShape } from "@bufbuild/protobuf";
import { GrpcClient } from "../../proto/grpc.ts";
import {
  type ContainerConfigSchema,
  ContainerState,
  type ContainerStats,
  type ContainerStatus,
  ImageService,
  type LinuxContainerSecurityContextSchema,
  type MountSchema,
  type PodSandboxStatus,
  RuntimeService,
  SecurityProfile_ProfileType,
} from "../../proto/gen/runtime/v1/api_pb.ts";
import {
  type LinuxContainerResourcesSchema,
  NamespaceMode,
  type NamespaceOptionSchema,
  type PodSandboxConfigSchema,
} from "../../proto/gen/runtime/v1/pod_pb.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { makeCgroup } from "./cgroups.ts";
import { type ExecResult, ExecStream } from "./exec_stream.ts";
import { type ContainerLog, readContainerLog } from "./logs.ts";
import { waitFor } from "./wait.ts";

/** The methods of CRI's runtime service, for {@link Cri.client}. */
export const runtime: typeof RuntimeService.method = RuntimeService.method;

/** The methods of CRI's image service, for {@link Cri.client}. */
export const images: typeof ImageService.method = ImageService.method;

/** A pod to run. */
export interface PodOptions {
  /** Unique in its containerd; default a fresh name. */
  readonly name?: string;
  /** The runtime handler, such as `quasaur-wasm` or `runc`. */
  readonly handler: string;
  /** `host` for the host's network; `pod` for an address of its own. Default: {@link Cri.network}. */
  readonly network?: "host" | "pod";
  /** Whether its containers may be privileged. Default false. */
  readonly privileged?: boolean;
  /** Whose process ids its containers see: each its own, or those of the pod. Default `container`. */
  readonly processIds?: "container" | "pod";
  /** Labels of the pod. */
  readonly labels?: Record<string, string>;
  /** Annotations of the pod. */
  readonly annotations?: Record<string, string>;
  /** Limits of the pod as a whole. */
  readonly resources?: MessageInitShape<typeof LinuxContainerResourcesSchema>;
  /** How long RunPodSandbox may take, in milliseconds. Default 60000. */
  readonly timeoutMs?: number;
}

/** A pod that can be run at once. */
export interface PreparedPod {
  /** What CRI gets. */
  readonly config: MessageInitShape<typeof PodSandboxConfigSchema>;
  /** What was asked for. */
  readonly options: PodOptions;
}

/** A container to create. */
export interface ContainerOptions {
  /** Unique in its pod; default `main`. */
  readonly name?: string;
  /** The image's reference. */
  readonly image: string;
  /** Replaces the image's entrypoint. */
  readonly command?: string[];
  /** Replaces the image's arguments. */
  readonly args?: string[];
  /** Variables added to the image's environment. */
  readonly env?: Record<string, string>;
  /** Replaces the image's working directory. */
  readonly workingDir?: string;
  /** Host directories to mount. */
  readonly mounts?: MessageInitShape<typeof MountSchema>[];
  /** Limits. */
  readonly resources?: MessageInitShape<typeof LinuxContainerResourcesSchema>;
  /** Who it runs as and what it may do; the pod's namespaces are filled in. */
  readonly security?: SecurityOptions;
  /** Whether standard input stays open. */
  readonly stdin?: boolean;
  /** Whether it gets a terminal. */
  readonly tty?: boolean;
  /** Labels of the container. */
  readonly labels?: Record<string, string>;
  /** Annotations of the container. */
  readonly annotations?: Record<string, string>;
}

/** Who a container runs as, and what it may do. */
export interface SecurityOptions {
  /** User id. */
  readonly user?: number;
  /** Group id; only with a user id. */
  readonly group?: number;
  /** Further groups. */
  readonly groups?: readonly number[];
  /** Whether its root file system cannot be written to. */
  readonly readonlyRootfs?: boolean;
  /** The runtime's own profile of system calls instead of none. */
  readonly runtimeDefaultSeccomp?: boolean;
  /** Capabilities beside the usual ones, such as `NET_ADMIN`. */
  readonly addCapabilities?: readonly string[];
  /** Usual capabilities that it does not get; `ALL` for all. */
  readonly dropCapabilities?: readonly string[];
  /** Paths that it sees nothing of. */
  readonly maskedPaths?: readonly string[];
  /** Whether its processes cannot gain rights by set-user-id programs. */
  readonly noNewPrivileges?: boolean;
  /** Whether it may do everything. */
  readonly privileged?: boolean;
}

/** How long calls that start or stop something may take, in milliseconds. */
const CALL_TIMEOUT_MS = 60_000;

/** A connection to containerd's CRI service. */
export class Cri implements Disposable {
  /** For calls that have no method here. */
  readonly client: GrpcClient;
  /** The network of pods that ask for none: `host`, unless their kind cannot have that. */
  network: "host" | "pod" = "host";

  /**
   * Makes a client.
   *
   * @param socketPath Containerd's socket.
   * @param logDirectory Where the logs of all pods go.
   * @param cgroup The cgroup below which each pod gets one, as kubelet would make it.
   */
  constructor(socketPath: string, readonly logDirectory: string, readonly cgroup: string) {
    this.client = new GrpcClient(socketPath);
  }

  /**
   * Runs a pod.
   *
   * @param options What kind of pod.
   * @throws {SandboxError} When containerd refuses.
   */
  async runPod(options: PodOptions): Promise<Pod> {
    return await this.runPrepared(await this.preparePod(options));
  }

  /**
   * Does for a pod what kubelet does before it asks for it: makes its cgroup and its log directory.
   *
   * @param options What kind of pod.
   */
  async preparePod(options: PodOptions): Promise<PreparedPod> {
    const name = options.name ?? `pod-${crypto.randomUUID().slice(0, 8)}`;
    options = { network: this.network, ...options };
    const cgroup = `${this.cgroup}/${name}`;
    const config = podConfig(name, `${this.logDirectory}/${name}`, cgroup, options);
    await makeCgroup(cgroup);
    await Deno.mkdir(`${this.logDirectory}/${name}`, { recursive: true });
    return { config, options };
  }

  /**
   * Runs a pod that was made ready.
   *
   * @param pod What {@link Cri.preparePod} gave.
   * @throws {SandboxError} When containerd refuses.
   */
  async runPrepared({ config, options }: PreparedPod): Promise<Pod> {
    const { podSandboxId } = await this.client.call(
      runtime.runPodSandbox,
      { config, runtimeHandler: options.handler },
      { timeoutMs: options.timeoutMs ?? CALL_TIMEOUT_MS },
    );
    return new Pod(this, podSandboxId, config);
  }

  /** The ids of all pods. */
  async podIds(): Promise<string[]> {
    const { items } = await this.client.call(runtime.listPodSandbox, {});
    return items.map(({ id }) => id);
  }

  /**
   * The ids of all containers.
   *
   * @param podId Of this pod only.
   */
  async containerIds(podId = ""): Promise<string[]> {
    const { containers } = await this.client.call(runtime.listContainers, {
      filter: { podSandboxId: podId },
    });
    return containers.map(({ id }) => id);
  }

  /** Stops and removes every pod; what fails is left alone. */
  async removeAllPods(): Promise<void> {
    const ids = await this.podIds();
    await Promise.allSettled(ids.map((id) => this.removePod(id)));
  }

  /**
   * Stops and removes a pod with its containers. Succeeds where there is none.
   *
   * @param id The pod's id.
   */
  async removePod(id: string): Promise<void> {
    const options = { timeoutMs: CALL_TIMEOUT_MS };
    try {
      await this.client.call(runtime.stopPodSandbox, { podSandboxId: id }, options);
      await this.client.call(runtime.removePodSandbox, { podSandboxId: id }, options);
    } catch (error) {
      if (!(error instanceof SandboxError && error.code === "NotFound")) throw error;
    }
  }

  /** Closes the connection; pods keep running. */
  [Symbol.dispose](): void {
    this.client.close();
  }
}

/** A pod. */
export class Pod implements AsyncDisposable {
  /** Wraps a pod; {@link Cri.runPod} makes them. */
  constructor(
    /** The client that made it. */
    readonly cri: Cri,
    /** Its id. */
    readonly id: string,
    /** What it was made from. */
    readonly config: MessageInitShape<typeof PodSandboxConfigSchema>,
  ) {}

  /** Its status. */
  async status(): Promise<PodSandboxStatus> {
    const { status } = await this.cri.client.call(runtime.podSandboxStatus, {
      podSandboxId: this.id,
    });
    if (status === undefined) throw new Error(`Cannot read the status of pod "${this.id}": empty`);
    return status;
  }

  /** What containerd and the sandboxer tell of it beyond its status. */
  async info(): Promise<Record<string, string>> {
    const request = { podSandboxId: this.id, verbose: true };
    return (await this.cri.client.call(runtime.podSandboxStatus, request)).info;
  }

  /** Its address in the pod network. */
  async ip(): Promise<string> {
    return (await this.status()).network?.ip ?? "";
  }

  /**
   * Creates a container.
   *
   * @param options What it runs.
   */
  async createContainer(options: ContainerOptions): Promise<Container> {
    const namespaces = this.config.linux?.securityContext?.namespaceOptions ?? {};
    const config = containerConfig(options, namespaces);
    const { containerId } = await this.cri.client.call(
      runtime.createContainer,
      { podSandboxId: this.id, config, sandboxConfig: this.config },
      { timeoutMs: CALL_TIMEOUT_MS },
    );
    return new Container(this, containerId, `${this.config.logDirectory}/${config.logPath}`);
  }

  /**
   * Creates and starts a container.
   *
   * @param options What it runs.
   */
  async startContainer(options: ContainerOptions): Promise<Container> {
    const container = await this.createContainer(options);
    await container.start();
    return container;
  }

  /**
   * Runs a container to its end.
   *
   * @param options What it runs.
   * @param timeoutMs How long it may run, in milliseconds.
   */
  async runContainer(options: ContainerOptions, timeoutMs?: number): Promise<FinishedContainer> {
    const container = await this.startContainer(options);
    const { exitCode, reason, message } = await container.exited(timeoutMs);
    return { container, exitCode, reason, message, ...await container.log() };
  }

  /** Stops it with all its containers. */
  async stop(): Promise<void> {
    const request = { podSandboxId: this.id };
    await this.cri.client.call(runtime.stopPodSandbox, request, { timeoutMs: CALL_TIMEOUT_MS });
  }

  /** Removes it, stopping it first where need be. */
  async remove(): Promise<void> {
    const request = { podSandboxId: this.id };
    await this.cri.client.call(runtime.removePodSandbox, request, { timeoutMs: CALL_TIMEOUT_MS });
  }

  /** Stops and removes it unless that has happened. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.cri.removePod(this.id);
  }
}

/** A container that has ended, and what it left. */
export interface FinishedContainer extends ContainerLog {
  /** The container. */
  readonly container: Container;
  /** Exit status. */
  readonly exitCode: number;
  /** CRI's one word for how it ended, such as `Completed`. */
  readonly reason: string;
  /** What is known beyond that. */
  readonly message: string;
}

/** A container. */
export class Container {
  /** Wraps a container; {@link Pod.createContainer} makes them. */
  constructor(
    /** Its pod. */
    readonly pod: Pod,
    /** Its id. */
    readonly id: string,
    /** Its log file. */
    readonly logPath: string,
  ) {}

  /** Starts it. */
  async start(): Promise<void> {
    const request = { containerId: this.id };
    await this.#client.call(runtime.startContainer, request, { timeoutMs: CALL_TIMEOUT_MS });
  }

  /** Its status. */
  async status(): Promise<ContainerStatus> {
    const { status } = await this.#client.call(runtime.containerStatus, { containerId: this.id });
    if (status === undefined) throw new Error(`Cannot read the status of "${this.id}": empty`);
    return status;
  }

  /** Its state by name: `CREATED`, `RUNNING`, `EXITED` or `UNKNOWN`. */
  async state(): Promise<string> {
    return (ContainerState[(await this.status()).state] ?? "").replace("CONTAINER_", "");
  }

  /**
   * Waits for its end.
   *
   * @param timeoutMs How long at most, in milliseconds. Default 30000.
   */
  async exited(timeoutMs = 30_000): Promise<ContainerStatus> {
    return await waitFor(`the end of container "${this.id}"`, async () => {
      const status = await this.status();
      return status.state === ContainerState.CONTAINER_EXITED && status;
    }, { timeoutMs });
  }

  /** What it wrote so far. */
  async log(): Promise<ContainerLog> {
    return await readContainerLog(this.logPath);
  }

  /**
   * Waits until its standard output has a line.
   *
   * @param line The whole line, or what it matches.
   * @returns The line.
   */
  async printed(line: string | RegExp): Promise<string> {
    return await waitFor(`"${line}" in the output of container "${this.id}"`, async () => {
      const { stdout } = await this.log();
      return stdout.find((text) => typeof line === "string" ? text === line : line.test(text));
    });
  }

  /** What it uses. */
  async stats(): Promise<ContainerStats> {
    const { stats } = await this.#client.call(runtime.containerStats, { containerId: this.id });
    if (stats === undefined) throw new Error(`Cannot read the statistics of "${this.id}": empty`);
    return stats;
  }

  /**
   * Runs a command in it to its end.
   *
   * @param cmd The command and its arguments.
   */
  async exec(cmd: string[]): Promise<ExecResult> {
    const { exitCode, stdout, stderr } = await this.#client.call(runtime.execSync, {
      containerId: this.id,
      cmd,
      timeout: 10n,
    });
    const decoder = new TextDecoder();
    return { exitCode, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  }

  /**
   * Runs a command in it with its streams attached, as `kubectl exec -i` does.
   *
   * @param cmd The command and its arguments.
   */
  async execStreaming(cmd: string[]): Promise<ExecStream> {
    const streams = { stdin: true, stdout: true, stderr: true };
    const request = { containerId: this.id, cmd, ...streams };
    const { url } = await this.#client.call(runtime.exec, request);
    return await ExecStream.attach(url);
  }

  /**
   * Runs a command in it at a terminal, as `kubectl exec -it` does.
   *
   * @param cmd The command and its arguments.
   */
  async execAtTerminal(cmd: string[]): Promise<ExecStream> {
    const request = { containerId: this.id, cmd, stdin: true, stdout: true, tty: true };
    const { url } = await this.#client.call(runtime.exec, request);
    return await ExecStream.attach(url);
  }

  /**
   * Attaches to its own process, as `kubectl attach -i` does.
   *
   * @param tty Whether it has a terminal.
   */
  async attach(tty: boolean): Promise<ExecStream> {
    const streams = { stdin: true, stdout: true, stderr: !tty, tty };
    const { url } = await this.#client.call(runtime.attach, { containerId: this.id, ...streams });
    return await ExecStream.attach(url);
  }

  /**
   * Stops it.
   *
   * @param graceSeconds How long it may take to end by itself, in seconds.
   */
  async stop(graceSeconds: number): Promise<void> {
    const request = { containerId: this.id, timeout: BigInt(graceSeconds) };
    await this.#client.call(runtime.stopContainer, request, { timeoutMs: CALL_TIMEOUT_MS });
  }

  /** Removes it, killing it first where need be. */
  async remove(): Promise<void> {
    const request = { containerId: this.id };
    await this.#client.call(runtime.removeContainer, request, { timeoutMs: CALL_TIMEOUT_MS });
  }

  /** The pod's connection. */
  get #client(): GrpcClient {
    return this.pod.cri.client;
  }
}

/** A pod's configuration, as kubelet would fill it. */
function podConfig(
  name: string,
  logDirectory: string,
  cgroupParent: string,
  options: PodOptions,
): MessageInitShape<typeof PodSandboxConfigSchema> {
  const network = options.network === "pod" ? NamespaceMode.POD : NamespaceMode.NODE;
  return {
    metadata: { name, uid: crypto.randomUUID(), namespace: "default", attempt: 0 },
    hostname: options.network === "pod" ? name : "",
    logDirectory,
    dnsConfig: {
      servers: ["10.96.0.10"],
      searches: ["default.svc.cluster.local"],
      options: ["ndots:5"],
    },
    labels: { app: name, ...options.labels },
    annotations: options.annotations ?? {},
    linux: {
      cgroupParent,
      ...options.resources === undefined ? {} : { resources: options.resources },
      securityContext: {
        privileged: options.privileged ?? false,
        namespaceOptions: {
          network,
          pid: options.processIds === "pod" ? NamespaceMode.POD : NamespaceMode.CONTAINER,
          ipc: NamespaceMode.POD,
        },
      },
    },
  };
}

/** A container's configuration, as kubelet would fill it: with the namespaces of its pod. */
function containerConfig(
  options: ContainerOptions,
  namespaceOptions: MessageInitShape<typeof NamespaceOptionSchema>,
): MessageInitShape<typeof ContainerConfigSchema> & { readonly logPath: string } {
  const { name = "main" } = options;
  const encoder = new TextEncoder();
  return {
    metadata: { name, attempt: 0 },
    image: { image: options.image },
    command: options.command ?? [],
    args: options.args ?? [],
    workingDir: options.workingDir ?? "",
    envs: Object.entries(options.env ?? {})
      .map(([key, value]) => ({ key, value: encoder.encode(value) })),
    mounts: options.mounts ?? [],
    labels: options.labels ?? {},
    annotations: options.annotations ?? {},
    logPath: `${name}.log`,
    stdin: options.stdin ?? false,
    tty: options.tty ?? false,
    linux: {
      resources: options.resources ?? {},
      securityContext: { namespaceOptions, ...securityContext(options.security ?? {}) },
    },
  };
}

/** A container's security context, as kubelet would fill it. */
function securityContext(
  security: SecurityOptions,
): Exclude<MessageInitShape<typeof LinuxContainerSecurityContextSchema>, Message> {
  const { user, group, groups = [], readonlyRootfs = false, runtimeDefaultSeccomp } = security;
  const { addCapabilities = [], dropCapabilities = [] } = security;
  return {
    readonlyRootfs,
    noNewPrivs: security.noNewPrivileges ?? false,
    privileged: security.privileged ?? false,
    maskedPaths: [...security.maskedPaths ?? []],
    capabilities: {
      addCapabilities: [...addCapabilities],
      dropCapabilities: [...dropCapabilities],
    },
    supplementalGroups: groups.map(BigInt),
    ...(user === undefined ? {} : { runAsUser: { value: BigInt(user) } }),
    ...(group === undefined ? {} : { runAsGroup: { value: BigInt(group) } }),
    ...(runtimeDefaultSeccomp
      ? { seccomp: { profileType: SecurityProfile_ProfileType.RuntimeDefault } }
      : {}),
  };
}
