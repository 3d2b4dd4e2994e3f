/**
 * Writes the configuration of a private containerd: its own directories and sockets, the sandboxers
 * as proxy plugins, and a CNI bridge of its own without a way to the outside.
 *
 * @module
 */

import type { LogLevel } from "../../sandboxers/log.ts";

/** A sandboxer as containerd sees it. */
export interface ProxySandboxer {
  /** The sandboxer's name, such as `quasaur-wasm`. */
  readonly name: string;
  /** Its runtime handlers, each with a runtime type of its own (default: one of its own name). */
  readonly handlers?: readonly string[];
  /** The path of its controller socket. */
  readonly socketPath: string;
}

/** The network that pods get; each bed has its own. */
export interface BedNetwork {
  /** The name of the CNI network and of the bridge, at most 15 characters. */
  readonly name: string;
  /** The first three bytes of the pods' addresses, such as `10.211.7`. */
  readonly prefix: string;
}

/** Where Debian and others install CNI plugins. */
const CNI_BINARIES = ["/usr/lib/cni", "/opt/cni/bin"];

/** The image that containerd wants for a runc pod's own process. */
export const PAUSE_IMAGE = "quasaur.test/pause:1";

/** What sends traces where `OTEL_EXPORTER_OTLP_ENDPOINT` says. */
const TRACING_PLUGINS =
  "'io.containerd.tracing.processor.v1.otlp', 'io.containerd.internal.v1.tracing',";

/**
 * The text of containerd's config.toml.
 *
 * @param directory The directory that holds everything of this containerd.
 * @param sandboxers Each becomes a proxy plugin with its runtime handlers.
 * @param logLevel How much containerd logs.
 */
export function containerdConfig(
  directory: string,
  sandboxers: readonly ProxySandboxer[],
  logLevel: LogLevel,
  sendsTraces = false,
): string {
  const runtime = "plugins.'io.containerd.cri.v1.runtime'";
  return `version = 3
root = '${directory}/root'
state = '${directory}/state'
disabled_plugins = [
  'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper', 'io.containerd.snapshotter.v1.erofs',
  'io.containerd.snapshotter.v1.zfs', 'io.containerd.differ.v1.erofs',
  ${sendsTraces ? "" : TRACING_PLUGINS}
  'io.containerd.nri.v1.nri', 'io.containerd.monitor.container.v1.restart',
]
[grpc]
  address = '${directory}/containerd.sock'
[debug]
  level = '${logLevel}'
${sandboxers.map(proxyPlugin).join("")}
[plugins.'io.containerd.image-verifier.v1.bindir']
  bin_dir = '${directory}/verifiers'
[plugins.'io.containerd.internal.v1.opt']
  path = '${directory}/opt'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '${PAUSE_IMAGE}'
[plugins.'io.containerd.grpc.v1.cri']
  disable_tcp_service = true
  stream_server_address = '127.0.0.1'
  stream_server_port = '0'
[${runtime}]
  enable_unprivileged_ports = true
  # Else they are in a directory that all containerds of the machine share.
  netns_mounts_under_state_dir = true
  # Without CAP_SYS_RESOURCE a lower oom_score_adj cannot be set and every runc pod would fail.
  restrict_oom_score_adj = true
  [${runtime}.cni]
    bin_dirs = [${CNI_BINARIES.map((path) => `'${path}'`).join(", ")}]
    conf_dir = '${directory}/cni/net.d'
  [${runtime}.containerd]
    default_runtime_name = 'runc'
    [${runtime}.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      [${runtime}.containerd.runtimes.runc.options]
        Root = '${directory}/runc'
${sandboxers.map((sandboxer) => runtimeHandlers(runtime, sandboxer)).join("")}`;
}

/** The runtime handlers of a sandboxer by name. */
export function handlersOf({ name, handlers = [name] }: ProxySandboxer): readonly string[] {
  return handlers;
}

/** The proxy plugin of one sandboxer. */
function proxyPlugin({ name, socketPath }: ProxySandboxer): string {
  return `[proxy_plugins.${name}]
  type = 'sandbox'
  address = '${socketPath}'
`;
}

/** The runtime handlers of one sandboxer: the runtime type is what tells it which was asked for. */
function runtimeHandlers(runtime: string, sandboxer: ProxySandboxer): string {
  return handlersOf(sandboxer).map((handler) =>
    `    [${runtime}.containerd.runtimes.${handler}]
      runtime_type = 'io.containerd.${handler}.v1'
      sandboxer = '${sandboxer.name}'
`
  ).join("");
}

/**
 * The text of a CNI configuration list: a bridge with addresses from its own range.
 *
 * @param directory The directory that holds everything of this containerd.
 * @param network The network's names and addresses.
 */
export function cniConfig(directory: string, network: BedNetwork): string {
  return JSON.stringify(
    {
      cniVersion: "1.0.0",
      name: network.name,
      plugins: [{
        type: "bridge",
        bridge: network.name,
        isGateway: true,
        ipMasq: false,
        ipam: {
          type: "host-local",
          dataDir: `${directory}/cni/ipam`,
          ranges: [[{ subnet: `${network.prefix}.0/24` }]],
          routes: [{ dst: "0.0.0.0/0" }],
        },
      }],
    },
    null,
    2,
  );
}
