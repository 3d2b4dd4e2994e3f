/**
 * From the Sandbox API's Create request to a {@link SandboxSpec}: decoded and checked here, once.
 * CRI sends the whole pod config in `options`; other clients may leave it out and then get a sandbox
 * on the host's network, with what the `sandbox` message says.
 *
 * @module
 */

import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import type { ControllerCreateRequest } from "../../proto/gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import {
  NamespaceMode,
  type PodSandboxConfig,
  PodSandboxConfigSchema,
} from "../../proto/gen/runtime/v1/pod_pb.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import { checkId } from "../lifecycle/ids.ts";
import type { DnsSpec, NetworkSpec, SandboxSpec } from "../lifecycle/spec.ts";
import { cgroupPath } from "./cgroup_path.ts";
import { podResources } from "./resources.ts";

/**
 * What a Create request asks for.
 *
 * @param request From containerd.
 * @param namespace The caller's containerd namespace.
 * @throws SandboxError `InvalidArgument`, naming the field.
 */
export function sandboxSpec(request: ControllerCreateRequest, namespace: string): SandboxSpec {
  const { sandboxId, sandbox } = request;
  checkId("sandbox_id", sandboxId);
  if (sandbox !== undefined && sandbox.sandboxId !== "" && sandbox.sandboxId !== sandboxId) {
    throw invalid("sandbox.sandbox_id", sandbox.sandboxId, `"${sandboxId}" like sandbox_id`);
  }
  const config = request.options === undefined ? undefined : podConfig(request.options);
  const runtime = sandbox?.runtime?.name ?? "";
  return {
    id: sandboxId,
    namespace,
    ...(runtime === "" ? {} : { runtime }),
    name: podName(config) ?? sandbox?.labels["name"] ?? sandboxId,
    hostname: hostname(config?.hostname ?? ""),
    network: network(request.netnsPath, config),
    dns: dns(config),
    cgroupParent: cgroupPath(config?.linux?.cgroupParent ?? ""),
    resources: podResources(
      config?.linux?.resources,
      config?.linux?.overhead,
      "options.linux",
    ),
    ...sysctls(config),
    labels: { ...config?.labels ?? sandbox?.labels },
    annotations: { ...request.annotations, ...config?.annotations },
  };
}

/** Unpacks `options`. containerd writes type URLs without a host part, others with one. */
function podConfig(options: Any): PodSandboxConfig {
  const type = options.typeUrl.slice(options.typeUrl.lastIndexOf("/") + 1);
  if (type !== PodSandboxConfigSchema.typeName) {
    throw invalid("options.type_url", options.typeUrl, `"${PodSandboxConfigSchema.typeName}"`);
  }
  try {
    return fromBinary(PodSandboxConfigSchema, options.value);
  } catch (error) {
    throw new SandboxError(
      "InvalidArgument",
      `invalid options.value: cannot decode it as ${type}: ` +
        (error instanceof Error ? error.message : String(error)),
      { cause: error },
    );
  }
}

function podName(config: PodSandboxConfig | undefined): string | undefined {
  const { name = "", namespace = "" } = config?.metadata ?? {};
  if (name === "") return undefined;
  return namespace === "" ? name : `${namespace}/${name}`;
}

/** The longest hostname of Linux, in bytes (HOST_NAME_MAX). */
const HOSTNAME_LENGTH_MAX = 64;

function hostname(value: string): string {
  if (value === "" || (/^[\x21-\x7e]+$/.test(value) && value.length <= HOSTNAME_LENGTH_MAX)) {
    return value;
  }
  throw invalid("options.hostname", value, `at most ${HOSTNAME_LENGTH_MAX} printable characters`);
}

/** The network: CNI has set a namespace up before Create; an empty path means the host's. */
function network(path: string, config: PodSandboxConfig | undefined): NetworkSpec {
  const mode = config?.linux?.securityContext?.namespaceOptions?.network;
  const onNode = config === undefined || mode === NamespaceMode.NODE;
  if (path === "") {
    if (onNode) return { kind: "host" };
    throw invalid("netns_path", path, "a network namespace, as the pod is not on the node's");
  }
  if (config !== undefined && onNode) {
    throw invalid("netns_path", path, "nothing, as the pod is on the node's network");
  }
  if (!path.startsWith("/") || path.includes("\0") || path.split("/").includes("..")) {
    throw invalid("netns_path", path, `an absolute path without ".."`);
  }
  return { kind: "namespace", path };
}

/** Kernel settings, where the pod has any. */
function sysctls(config: PodSandboxConfig | undefined): Pick<SandboxSpec, "sysctls"> {
  const settings = config?.linux?.sysctls ?? {};
  return Object.keys(settings).length === 0 ? {} : { sysctls: { ...settings } };
}

function dns(config: PodSandboxConfig | undefined): DnsSpec {
  const { servers = [], searches = [], options = [] } = config?.dnsConfig ?? {};
  for (const [field, values] of Object.entries({ servers, searches, options })) {
    // Each becomes a word of resolv.conf: white space in one would be another line or word.
    const strange = values.find((value) => !/^[\x21-\x7e]+$/.test(value));
    if (strange !== undefined) {
      throw invalid(`options.dns_config.${field}`, strange, "a word without white space");
    }
  }
  return { servers, searches, options };
}

function invalid(field: string, value: string, expected: string): SandboxError {
  const found = JSON.stringify(value.length > 200 ? `${value.slice(0, 200)}...` : value);
  return new SandboxError("InvalidArgument", `invalid ${field} ${found}: expected ${expected}`);
}
