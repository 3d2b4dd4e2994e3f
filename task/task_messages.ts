/**
 * What the lifecycle shows, as messages of the Task API.
 *
 * @module
 */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { StateResponseSchema } from "../proto/gen/containerd/task/v3/shim_pb.ts";
import { Status } from "../proto/gen/containerd/v1/types/task_pb.ts";
import type { Exit } from "../sandboxers/lifecycle/spec.ts";
import type { ContainerView, ProcessView } from "../sandboxers/lifecycle/view.ts";
import { streamPath } from "./stdio.ts";

const STATUS: Readonly<Record<ProcessView["state"], Status>> = {
  created: Status.CREATED,
  running: Status.RUNNING,
  paused: Status.PAUSED,
  stopped: Status.STOPPED,
};

/** A process as State answers it. */
export function stateMessage(
  container: ContainerView,
  process: ProcessView,
): MessageInitShape<typeof StateResponseSchema> {
  const { execId, stdio, exit } = process;
  return {
    id: execId === "" ? container.spec.id : execId,
    execId,
    bundle: container.spec.bundle,
    pid: process.pid,
    status: STATUS[process.state],
    stdin: streamPath(stdio.stdin),
    stdout: streamPath(stdio.stdout),
    stderr: streamPath(stdio.stderr),
    terminal: stdio.terminal,
    ...(exit === undefined ? {} : exitMessage(exit)),
  };
}

/** An exit as Wait and Delete answer it and events carry it. */
export function exitMessage(exit: Exit): { exitStatus: number; exitedAt: Timestamp } {
  return { exitStatus: exit.status, exitedAt: timestampFromMs(exit.at) };
}
