/**
 * From what Run is asked for to what the lifecycle is asked for: checked here, once, before anything
 * is done for it.
 *
 * @module
 */

import type {
  DnsConfig,
  Mount,
  PublishedPort,
  Rootfs,
  RunRequest,
} from "../../../proto/gen/quasaur/management/v1/management_pb.ts";
import { checkId } from "../../lifecycle/ids.ts";
import type {
  BindMountSpec,
  DnsSpec,
  NetworkSpec,
  ProcessSpec,
  ResourceSpec,
  StdioSpec,
} from "../../lifecycle/spec.ts";
import type { RunAbilities } from "./abilities.ts";
import { MARKS, OWN_ANNOTATIONS } from "./marks.ts";
import {
  bad,
  checkPairs,
  checkPath,
  checkWords,
  processOf,
  resourcesOf,
  terminalSizeOf,
} from "./request_checks.ts";

/** Where a root file system comes from. */
export type RootfsPlan = {
  readonly kind: "directory" | "template" | "staged";
  readonly path: string;
};

/** What was asked for, checked. */
export interface RunPlan {
  /** Empty for one that is made up. */
  readonly name: string;
  /** Where its root file system comes from. */
  readonly rootfs: RootfsPlan;
  /** Whether that cannot be written to. */
  readonly readonlyRootfs: boolean;
  /** Its first process. */
  readonly process: ProcessSpec;
  /** Whether that has a terminal. */
  readonly terminal: boolean;
  /** The terminal's first size. */
  readonly terminalSize: StdioSpec["terminalSize"];
  /** Whether it has standard input. */
  readonly stdin: boolean;
  /** What it sees of the host. */
  readonly mounts: readonly BindMountSpec[];
  /** Limits. */
  readonly resources: ResourceSpec;
  /** Its network. */
  readonly network: NetworkSpec;
  /** How names are looked up. */
  readonly dns: DnsSpec;
  /** Hostname inside; empty for the kind's own choice. */
  readonly hostname: string;
  /** Labels of the sandbox. */
  readonly labels: Readonly<Record<string, string>>;
  /** Annotations of the sandbox, with those by which it is known later. */
  readonly annotations: Readonly<Record<string, string>>;
  /** How the image is called; empty for none. */
  readonly image: string;
  /** The runtime type; missing for none. */
  readonly runtime?: string;
  /** Whether the first Attach starts it. */
  readonly startOnAttach: boolean;
}

const MOUNTS_MAX = 128;
const DNS_MAX = 32;
const PORTS_MAX = 64;
const PORT_MAX = 65_535;
const TEXT_LENGTH_MAX = 512;
const NO_DNS: DnsSpec = { servers: [], searches: [], options: [] };

/**
 * Checks a request.
 *
 * @param request The request.
 * @param abilities What the kind gives.
 * @throws {SandboxError} `InvalidArgument`, naming the field.
 */
export function planRun(request: RunRequest, abilities: RunAbilities): RunPlan {
  const { name, hostname, image, runtime, process, remove, startOnAttach } = request;
  if (name !== "") checkId("name", name);
  if (!/^[A-Za-z0-9.-]{0,63}$/.test(hostname)) {
    throw bad("hostname", hostname, `at most 63 letters, digits, "." and "-"`);
  }
  checkText("image", image);
  checkText("runtime", runtime);
  const network = withPorts(networkOf(request.network, abilities), request.ports);
  const isBehindUser = network.kind === "user" && request.dns === undefined;
  return {
    name,
    rootfs: rootfsOf(request.rootfs),
    readonlyRootfs: request.readonlyRootfs,
    process: processOf(process, [
      ...abilities.env,
      ...(process?.terminal === true && abilities.env.length > 0 ? ["TERM=xterm"] : []),
    ]),
    terminal: process?.terminal === true,
    terminalSize: terminalSizeOf("process.terminal_size", process?.terminalSize),
    stdin: request.stdin,
    mounts: mountsOf(request.mounts),
    resources: resourcesOf(request.resources),
    network,
    dns: isBehindUser ? abilities.userDns ?? NO_DNS : dnsOf(request.dns),
    hostname,
    labels: checkPairs("labels", request.labels),
    annotations: {
      ...checkAnnotations(request.annotations),
      ...OWN_ANNOTATIONS,
      ...(remove ? { [MARKS.remove]: "true" } : {}),
      ...(startOnAttach ? { [MARKS.startOnAttach]: "true" } : {}),
    },
    image,
    ...(runtime === "" ? {} : { runtime: runtimeOf(runtime) }),
    startOnAttach,
  };
}

function checkText(field: string, text: string): void {
  // deno-lint-ignore no-control-regex
  if (text.length <= TEXT_LENGTH_MAX && !/[\u0000-\u001f\u007f]/.test(text)) return;
  throw bad(field, text, `at most ${TEXT_LENGTH_MAX} characters, none of them a control character`);
}

/** A word alone stands for the runtime type of the handler with that name. */
function runtimeOf(runtime: string): string {
  return /^[a-z]+$/.test(runtime) ? `io.containerd.quasaur-${runtime}.v1` : runtime;
}

function rootfsOf(rootfs: Rootfs | undefined): RootfsPlan {
  const { case: source, value = "" } = rootfs?.source ?? { case: undefined };
  switch (source) {
    case "directory":
      return { kind: "directory", path: checkPath("rootfs.directory", value) };
    case "templateDirectory": {
      const path = checkPath("rootfs.template_directory", value);
      // They would part the options of an overlay.
      if (!/[,:\\]/.test(path)) return { kind: "template", path };
      throw bad("rootfs.template_directory", path, `a path without ",", ":" and "\\"`);
    }
    case "stagedDirectory":
      return { kind: "staged", path: checkPath("rootfs.staged_directory", value) };
    case undefined:
      throw bad("rootfs", "", "one of directory, template_directory and staged_directory");
  }
}

function networkOf(network: string, abilities: RunAbilities): NetworkSpec {
  if (network === "") return abilities.network;
  if (network === "host" || network === "none" || network === "user") return { kind: network };
  if (network.startsWith("/")) return { kind: "namespace", path: checkPath("network", network) };
  throw bad("network", network, `"host", "none", "user" or the path of a network namespace`);
}

/** Ports are those of the VMM behind whose address translation it is: nobody else can have any. */
function withPorts(network: NetworkSpec, ports: readonly PublishedPort[]): NetworkSpec {
  if (ports.length === 0) return network;
  if (network.kind !== "user") {
    throw bad("network", network.kind, `"user" where ports are published`);
  }
  if (ports.length > PORTS_MAX) throw bad("ports", ports.length, `at most ${PORTS_MAX}`);
  return { ...network, ports: ports.map(portOf) };
}

function portOf({ address, hostPort, containerPort, protocol }: PublishedPort) {
  const numbers = [["host_port", hostPort], ["container_port", containerPort]] as const;
  for (const [field, port] of numbers) {
    if (port < 1 || port > PORT_MAX) throw bad(`ports.${field}`, port, `1 to ${PORT_MAX}`);
  }
  if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(address)) {
    throw bad("ports.address", address, "an IPv4 address");
  }
  if (protocol !== "tcp" && protocol !== "udp") {
    throw bad("ports.protocol", protocol, '"tcp" or "udp"');
  }
  return { address, hostPort, containerPort, protocol } as const;
}

function mountsOf(mounts: readonly Mount[]): readonly BindMountSpec[] {
  if (mounts.length > MOUNTS_MAX) throw bad("mounts", mounts.length, `at most ${MOUNTS_MAX}`);
  const taken = new Set<string>();
  return mounts.map(({ source, destination, readonly }) => {
    checkPath("mounts.source", source);
    const inner = checkPath("mounts.destination", destination).replace(/(?<=.)\/+$/, "");
    if (/^\/+$/.test(inner)) throw bad("mounts.destination", destination, `a path below "/"`);
    if (taken.has(inner)) throw bad("mounts.destination", destination, "one mount for each path");
    taken.add(inner);
    return { source, destination: inner, readonly };
  });
}

function dnsOf(dns: DnsConfig | undefined): DnsSpec {
  if (dns === undefined) return NO_DNS;
  const { servers, searches, options } = dns;
  for (const [field, words] of Object.entries({ servers, searches, options })) {
    checkWords(`dns.${field}`, words);
    if (words.length > DNS_MAX) throw bad(`dns.${field}`, words.length, `at most ${DNS_MAX}`);
    const strange = words.find((word) => !/^[\x21-\x7e]{1,255}$/.test(word));
    if (strange !== undefined) throw bad(`dns.${field}`, strange, "a word of printable ASCII");
  }
  return { servers, searches, options };
}

function checkAnnotations(
  annotations: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const prefix = MARKS.prefix;
  const reserved = Object.keys(annotations).find((key) => key.startsWith(prefix));
  if (reserved === undefined) return checkPairs("annotations", annotations);
  throw bad("annotations key", reserved, `one that does not begin with "${prefix}"`);
}
