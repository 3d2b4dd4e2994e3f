/**
 * A Task API that does nothing, for servers that need only some of its methods.
 *
 * @module
 */

import type { Task } from "../../proto/gen/containerd/task/v3/shim_pb.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import type { ServiceHandlers } from "../ttrpc/services.ts";

/**
 * The handler of a method that nobody should call.
 *
 * @throws {SandboxError} `Unimplemented`, always.
 */
export function refuse(): never {
  throw new SandboxError("Unimplemented", "this server has no such method");
}

/** All methods of the Task API; each refuses. */
export const REFUSED_CALLS: ServiceHandlers<typeof Task> = {
  state: refuse,
  create: refuse,
  start: refuse,
  delete: refuse,
  pids: refuse,
  pause: refuse,
  resume: refuse,
  checkpoint: refuse,
  kill: refuse,
  exec: refuse,
  resizePty: refuse,
  closeIO: refuse,
  update: refuse,
  wait: refuse,
  stats: refuse,
  connect: refuse,
  shutdown: refuse,
};
