/**
 * Makes the immutable views of `view.ts` from the lifecycle's cells.
 *
 * @module
 */

import type { Container } from "./container.ts";
import type { Located } from "./core.ts";
import type { Process } from "./process.ts";
import type { Sandbox } from "./sandbox.ts";
import type { ContainerView, ProcessView, SandboxView } from "./view.ts";

/** A sandbox as it is now. */
export function viewSandbox(sandbox: Sandbox): SandboxView {
  const { state, spec, createdAt } = sandbox;
  const handle = "handle" in state ? state.handle : undefined;
  return {
    spec,
    state: state.kind,
    createdAt,
    pid: handle?.pid ?? 0,
    ...(handle?.taskSocket === undefined ? {} : { taskSocket: handle.taskSocket }),
    ...("exit" in state ? { exit: state.exit } : {}),
    containerIds: [...sandbox.containers.keys()],
  };
}

/** A container as it is now. */
export function viewContainer({ sandbox, container }: Located): ContainerView {
  return {
    spec: container.spec,
    namespace: sandbox.spec.namespace,
    state: container.state.kind,
    resources: container.resources,
    execIds: [...container.execs.keys()],
  };
}

/** A process as it is now; one of a frozen container is paused. */
export function viewProcess(container: Container, process: Process): ProcessView {
  const { state } = process;
  const running = container.state.kind === "paused" ? "paused" : "running";
  return {
    containerId: container.spec.id,
    execId: process.execId,
    state: state.kind === "exited" ? "stopped" : state.kind === "running" ? running : "created",
    pid: state.kind === "created" ? 0 : state.pid,
    args: (process.exec ?? container.spec).process.args,
    stdio: process.stdio,
    ...(state.kind === "exited" ? { exit: state.exit } : {}),
  };
}
