/**
 * containerd's Sandbox API (`containerd.services.sandbox.v1.Controller`) on the lifecycle. It
 * translates and nothing else: what a sandbox is and which call is allowed when, the lifecycle knows.
 *
 * @module
 */

import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { UntypedServiceImplementation } from "@grpc/grpc-js";
import {
  Controller,
  type ControllerCreateRequest,
  type ControllerMetricsRequest,
  type ControllerPlatformRequest,
  type ControllerShutdownRequest,
  type ControllerStartRequest,
  type ControllerStatusRequest,
  type ControllerStopRequest,
  type ControllerUpdateRequest,
  type ControllerWaitRequest,
} from "../proto/gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { cgroupMetrics } from "./cgroup_metrics.ts";
import type { OpenCalls } from "./controller/calls.ts";
import { sandboxSpec } from "./controller/pod_config.ts";
import { updatedResources } from "./controller/resources.ts";
import { type Call, type UnaryHandlers, unaryImplementation } from "./controller/unary.ts";
import { abortError, SandboxError } from "./lifecycle/errors.ts";
import type { Sandboxer } from "./lifecycle/sandboxer.ts";
import type { ResourceSpec } from "./lifecycle/spec.ts";
import type { SandboxView } from "./lifecycle/view.ts";
import type { Log } from "./log.ts";
import type { RpcObserver } from "./telemetry/rpc_call.ts";

/** What the Sandbox API is served from. */
export interface ControllerOptions {
  /** The lifecycle that does what is asked for. */
  readonly sandboxer: Sandboxer;
  /** The Task API's socket, an absolute path: where containerd runs the containers of a sandbox. */
  readonly taskAddress: string;
  /** Gets every call. */
  readonly log: Log;
  /** Hears of every call; nobody unless given. */
  readonly observer?: RpcObserver | undefined;
}

/** The Task API's version that containerd is told; with a lower one it would run a shim binary. */
const TASK_API_VERSION = 3;

/**
 * The implementation of the Controller service for `Server.addService`.
 *
 * @param options See {@link ControllerOptions}.
 * @param calls Where open calls are kept.
 */
export function controllerImplementation(
  options: ControllerOptions,
  calls: OpenCalls,
): UntypedServiceImplementation {
  return unaryImplementation(Controller, new ControllerHandlers(options), {
    calls,
    log: options.log,
    observer: options.observer,
    describe: (request) => "sandboxId" in request ? { sandbox: request.sandboxId } : {},
  });
}

/** One method for each call of the service; what is thrown becomes the call's status. */
class ControllerHandlers implements UnaryHandlers<typeof Controller> {
  readonly #sandboxer: Sandboxer;
  readonly #taskAddress: string;

  constructor({ sandboxer, taskAddress }: ControllerOptions) {
    this.#sandboxer = sandboxer;
    this.#taskAddress = taskAddress;
  }

  /** Where containerd calls the tasks of a sandbox. */
  #endpoint({ taskSocket = this.#taskAddress }: SandboxView) {
    // containerd cuts this at the "+"; with gRPC in place of ttrpc it fails to dial (2.0 to 2.4).
    return { address: `ttrpc+unix://${taskSocket}`, version: TASK_API_VERSION };
  }

  async create(request: ControllerCreateRequest, call: Call) {
    const spec = sandboxSpec(request, call.namespace);
    await this.#sandboxer.createSandbox(spec);
    await this.#keep(spec.id, "create", call);
    return { sandboxId: spec.id };
  }

  async start({ sandboxId }: ControllerStartRequest, call: Call) {
    this.#find(sandboxId, call);
    const view = await this.#sandboxer.startSandbox(sandboxId, call.signal);
    await this.#keep(sandboxId, "start", call);
    const createdAt = timestampFromMs(view.createdAt);
    return { sandboxId, pid: view.pid, createdAt, labels: {}, ...this.#endpoint(view) };
  }

  // deno-lint-ignore require-await -- what goes wrong is to reject, not to throw
  async platform({ sandboxId }: ControllerPlatformRequest, call: Call) {
    this.#find(sandboxId, call);
    return { platform: { os: "linux", architecture: architecture() } };
  }

  async stop({ sandboxId, timeoutSecs }: ControllerStopRequest, call: Call) {
    this.#find(sandboxId, call);
    await this.#sandboxer.stopSandbox(sandboxId, timeoutSecs * 1000);
    return {};
  }

  async wait({ sandboxId }: ControllerWaitRequest, call: Call) {
    this.#find(sandboxId, call);
    const exit = await this.#sandboxer.waitSandbox(sandboxId, call.signal);
    return { exitStatus: exit.status, exitedAt: timestampFromMs(exit.at) };
  }

  // deno-lint-ignore require-await -- as above
  async status({ sandboxId, verbose }: ControllerStatusRequest, call: Call) {
    const view = this.#find(sandboxId, call);
    return {
      sandboxId,
      pid: view.pid,
      state: view.state === "ready" ? "SANDBOX_READY" : "SANDBOX_NOTREADY",
      createdAt: timestampFromMs(view.createdAt),
      ...(view.exit !== undefined && { exitedAt: timestampFromMs(view.exit.at) }),
      ...(verbose && { info: { info: statusInfo(view, this.#sandboxer.driver.kind) } }),
      ...this.#endpoint(view),
    };
  }

  async shutdown({ sandboxId }: ControllerShutdownRequest, call: Call) {
    this.#find(sandboxId, call);
    await this.#sandboxer.deleteSandbox(sandboxId);
    return {};
  }

  async metrics({ sandboxId }: ControllerMetricsRequest, call: Call) {
    this.#find(sandboxId, call);
    const stats = await this.#sandboxer.sandboxStats(sandboxId);
    const timestamp = timestampFromMs(stats.at);
    return { metrics: { timestamp, id: sandboxId, data: cgroupMetrics(stats) } };
  }

  async update(request: ControllerUpdateRequest, call: Call) {
    this.#find(request.sandboxId, call);
    const resources = newResources(request);
    if (resources !== undefined) {
      await this.#sandboxer.updateSandbox(request.sandboxId, resources);
    }
    return {};
  }

  /** The sandbox, if the caller may see it. */
  #find(id: string, { namespace }: Call): SandboxView {
    const view = this.#sandboxer.sandbox(id);
    if (view.spec.namespace === namespace) return view;
    throw new SandboxError("NotFound", `sandbox "${id}" not found`);
  }

  /** Undoes what the caller will never hear of: it sends no clean-up after a call it gave up. */
  async #keep(id: string, action: string, { signal }: Call): Promise<void> {
    if (!signal.aborted) return;
    await this.#sandboxer.deleteSandbox(id);
    throw abortError(signal, `cannot ${action} sandbox "${id}"`);
  }
}

/** The host's architecture by its OCI name. */
function architecture(): string {
  return { x86_64: "amd64", aarch64: "arm64" }[Deno.build.arch];
}

/**
 * Facts for `crictl inspectp`. From 2.3 on containerd reads this JSON into its own SandboxInfo
 * (internal/cri/server/podsandbox/types), so its field names must keep its types; ours have a name
 * of their own.
 */
function statusInfo(view: SandboxView, kind: string): string {
  const { spec, state, pid, exit, containerIds } = view;
  return JSON.stringify({
    pid,
    processStatus: state === "ready" ? "running" : state,
    runtimeType: `quasaur.${kind}`,
    quasaur: {
      kind,
      state,
      name: spec.name,
      network: spec.network,
      cgroupParent: spec.cgroupParent,
      limits: spec.resources,
      containers: containerIds,
      ...(exit !== undefined && { exit }),
    },
  });
}

/** The extension in which containerd 2.3 and later send new limits of a pod. */
const UPDATED_RESOURCES = "updated-resources";

/**
 * The new limits in an Update request, or undefined where it changes nothing that a sandbox has.
 *
 * @throws SandboxError `Unimplemented` for fields that cannot be changed in a running sandbox.
 */
function newResources(request: ControllerUpdateRequest): ResourceSpec | undefined {
  const fixed = request.fields.find((field) => field.split(".")[0] !== "extensions");
  if (fixed !== undefined) {
    throw new SandboxError(
      "Unimplemented",
      `cannot update "${fixed}" of sandbox "${request.sandboxId}": only "extensions" can change`,
    );
  }
  const extension = request.sandbox?.extensions[UPDATED_RESOURCES];
  return extension === undefined ? undefined : updatedResources(extension.value);
}
