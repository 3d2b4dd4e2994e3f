/**
 * The Task API, version 3, on top of the lifecycle: what containerd calls to create, start, watch
 * and kill containers and execs. Every call is for a container of the caller's own namespace.
 *
 * Source: containerd api/runtime/task/v3/shim.proto; core/runtime/v2/shim.go for what containerd
 * makes of the answers.
 *
 * @module
 */

import type { Any } from "@bufbuild/protobuf/wkt";
import type { CreateTaskRequest, Task } from "../proto/gen/containerd/task/v3/shim_pb.ts";
import { cgroupMetrics } from "../sandboxers/cgroup_metrics.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { checkId } from "../sandboxers/lifecycle/ids.ts";
import type { Sandboxer } from "../sandboxers/lifecycle/sandboxer.ts";
import type { ContainerView } from "../sandboxers/lifecycle/view.ts";
import { readContainerSpec } from "./bundle.ts";
import { JsonField } from "./json_field.ts";
import { decodeExecProcess, decodeResources } from "./oci.ts";
import { decodeStdio } from "./stdio.ts";
import { exitMessage, stateMessage } from "./task_messages.ts";
import type { Call } from "./ttrpc/call.ts";
import type { ServiceHandlers } from "./ttrpc/services.ts";

/** Metadata key of the caller's namespace (containerd pkg/namespaces/ttrpc.go). */
export const NAMESPACE_KEY = "containerd-namespace-ttrpc";

/** What the Task API needs of the lifecycle. */
export type TaskSandboxer = Pick<
  Sandboxer,
  | "closeStdin"
  | "container"
  | "containerStats"
  | "createContainer"
  | "deleteProcess"
  | "exec"
  | "killProcess"
  | "pauseContainer"
  | "pids"
  | "process"
  | "resizeTerminal"
  | "resumeContainer"
  | "sandbox"
  | "startProcess"
  | "updateContainer"
  | "waitProcess"
>;

/**
 * Makes the handlers of the Task service.
 *
 * @param sandboxer The lifecycle.
 * @param shimPid What Connect calls the shim's process id: that of this process.
 */
export function taskService(
  sandboxer: TaskSandboxer,
  shimPid: number = Deno.pid,
): ServiceHandlers<typeof Task> {
  return {
    ...lifeHandlers(sandboxer),
    ...processHandlers(sandboxer),
    ...containerHandlers(sandboxer),
    connect: ({ id }, call) => {
      owned(sandboxer, id, call);
      return { shimPid, taskPid: sandboxer.process(id, "").pid, version: "v3" };
    },
    // The server belongs to all containers of all sandboxes; containerd sends this after each Delete.
    shutdown: () => ({}),
  };
}

type Handlers<K extends keyof ServiceHandlers<typeof Task>> = Pick<
  ServiceHandlers<typeof Task>,
  K
>;

/** From Create to Delete. */
function lifeHandlers(
  sandboxer: TaskSandboxer,
): Handlers<"create" | "start" | "state" | "wait" | "kill" | "delete"> {
  return {
    create: (request, call) => createTask(sandboxer, request, call),
    start: async ({ id, execId }, call) => {
      owned(sandboxer, id, call);
      return { pid: await sandboxer.startProcess(id, execId, call.signal) };
    },
    state: ({ id, execId }, call) =>
      stateMessage(owned(sandboxer, id, call), sandboxer.process(id, execId)),
    wait: async ({ id, execId }, call) => {
      owned(sandboxer, id, call);
      return exitMessage(await sandboxer.waitProcess(id, execId, call.signal));
    },
    kill: async ({ id, execId, signal, all }, call) => {
      owned(sandboxer, id, call);
      await sandboxer.killProcess(id, execId, signal, all);
      return {};
    },
    delete: async ({ id, execId }, call) => {
      owned(sandboxer, id, call);
      const { pid, exit } = await sandboxer.deleteProcess(id, execId);
      return { pid, ...exitMessage(exit) };
    },
  };
}

/** Execs and the streams of processes. */
function processHandlers(sandboxer: TaskSandboxer): Handlers<"exec" | "resizePty" | "closeIO"> {
  return {
    exec: async (request, call) => {
      owned(sandboxer, request.id, call);
      checkId("exec id", request.execId);
      const process = decodeExecProcess(anyJson("exec spec", "Process", request.spec));
      await sandboxer.exec(request.id, {
        id: request.execId,
        process,
        stdio: decodeStdio(request),
      });
      return {};
    },
    resizePty: async ({ id, execId, width, height }, call) => {
      owned(sandboxer, id, call);
      await sandboxer.resizeTerminal(id, execId, width, height);
      return {};
    },
    closeIO: async ({ id, execId, stdin }, call) => {
      owned(sandboxer, id, call);
      if (stdin) await sandboxer.closeStdin(id, execId);
      return {};
    },
  };
}

/** A container as a whole. */
function containerHandlers(
  sandboxer: TaskSandboxer,
): Handlers<"pids" | "pause" | "resume" | "checkpoint" | "update" | "stats"> {
  return {
    pids: async ({ id }, call) => {
      owned(sandboxer, id, call);
      const pids = await sandboxer.pids(id);
      return { processes: pids.map((pid) => ({ pid })) };
    },
    pause: async ({ id }, call) => {
      owned(sandboxer, id, call);
      await sandboxer.pauseContainer(id);
      return {};
    },
    resume: async ({ id }, call) => {
      owned(sandboxer, id, call);
      await sandboxer.resumeContainer(id);
      return {};
    },
    checkpoint: ({ id }, call) => {
      owned(sandboxer, id, call);
      throw new SandboxError(
        "Unimplemented",
        `cannot checkpoint container "${id}": checkpoints are not supported`,
      );
    },
    update: async ({ id, resources }, call) => {
      owned(sandboxer, id, call);
      const limits = decodeResources(anyJson("resources", "LinuxResources", resources));
      await sandboxer.updateContainer(id, limits);
      return {};
    },
    stats: async ({ id }, call) => {
      owned(sandboxer, id, call);
      return { stats: cgroupMetrics(await sandboxer.containerStats(id)) };
    },
  };
}

async function createTask(
  sandboxer: TaskSandboxer,
  request: CreateTaskRequest,
  call: Call,
): Promise<{ pid: number }> {
  const namespace = namespaceOf(call);
  const spec = await readContainerSpec(request);
  if (sandboxer.sandbox(spec.sandboxId).spec.namespace !== namespace) {
    throw new SandboxError("NotFound", `sandbox "${spec.sandboxId}" not found`);
  }
  try {
    await sandboxer.createContainer(spec, call.signal);
  } catch (error) {
    throw withoutUnimplemented(error);
  }
  return { pid: sandboxer.process(spec.id, "").pid };
}

/**
 * containerd answers `Unimplemented` from Create by trying the call again with version 2 of the
 * API, and then shows the error of that; the reason would be lost.
 */
function withoutUnimplemented(error: unknown): unknown {
  if (!(error instanceof SandboxError) || error.code !== "Unimplemented") return error;
  return new SandboxError("FailedPrecondition", error.message, { cause: error });
}

/** The container a call is about; another namespace's does not exist for the caller. */
function owned(sandboxer: TaskSandboxer, id: string, call: Call): ContainerView {
  const namespace = namespaceOf(call);
  const container = sandboxer.container(id);
  if (container.namespace === namespace) return container;
  throw new SandboxError("NotFound", `container "${id}" not found`);
}

function namespaceOf(call: Call): string {
  const namespace = call.metadata(NAMESPACE_KEY);
  if (namespace !== undefined && namespace !== "") return namespace;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot call ${call.method} without a namespace: expected metadata "${NAMESPACE_KEY}"`,
  );
}

/**
 * The JSON inside an Any, as containerd packs OCI types (containerd/typeurl).
 *
 * @param what What it is, for messages.
 * @param type Last part of the type URL that is expected.
 */
function anyJson(what: string, type: string, any: Any | undefined): JsonField {
  const found = any === undefined || any.typeUrl === "" ? "nothing" : JSON.stringify(any.typeUrl);
  if (any === undefined || any.typeUrl.split("/").at(-1) !== type) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot read ${what}: found ${found}, expected type ` +
        `"types.containerd.io/opencontainers/runtime-spec/1/${type}"`,
    );
  }
  return JsonField.parse(what, any.value);
}
