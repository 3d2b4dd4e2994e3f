/**
 * The calls of the management API that make sandboxes without containerd, and those that need what was
 * kept when one was made: its streams and its log.
 *
 * @module
 */

import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import type {
  AttachRequest,
  LogsRequest,
  RunRequest,
} from "../../../proto/gen/quasaur/management/v1/management_pb.ts";
import type { ServiceCall } from "../../../proto/grpc_service.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { ManagementPorts, Runs } from "../ports.ts";
import { attachSession } from "./attach_session.ts";
import { execSession } from "./exec_session.ts";
import { readLog } from "./log_reading.ts";
import { newRunId } from "./marks.ts";
import { makeDirectory } from "./places.ts";
import { orderOf } from "./run_orders.ts";
import { RunRegistry } from "./run_registry.ts";
import { planRun } from "./run_request.ts";
import { findContainer, managedOnly } from "./run_targets.ts";
import type { Answer } from "./session.ts";
import { restore, snapshot } from "./snapshots.ts";

/**
 * Sandboxes that are made through the management API.
 *
 * @param ports What they are made with.
 */
export function runHandlers(ports: ManagementPorts): Runs {
  const registry = new RunRegistry(ports);
  return {
    handlers: {
      run: (request, call) => run(ports, registry, request, call),
      attach: (requests, call) => attach(ports, registry, requests, call),
      logs: (request, call) => logs(ports, registry, request, call),
      snapshot: (request, call) => snapshot(ports, request, call),
      restore: (request, call) => restore(ports, registry, request, call),
    },
    recover: async () => {
      if (ports.abilities.runs === undefined) return;
      await registry.recover();
      // Clients put what they want to have taken over there.
      await makeDirectory(registry.places.staging);
    },
    forget: (sandboxId) => registry.forget(sandboxId),
    detail: (sandboxId) => registry.detail(sandboxId),
    [Symbol.asyncDispose]: () => Promise.resolve(registry[Symbol.dispose]()),
  };
}

async function run(
  { log }: ManagementPorts,
  registry: RunRegistry,
  request: RunRequest,
  { signal }: ServiceCall,
) {
  const { abilities, places } = registry;
  const plan = planRun(request, abilities);
  using taken = registry.takeName(plan.name);
  const { name } = taken;
  const identity = { sandboxId: newRunId(), containerId: newRunId(), name };
  await registry.make({ ...orderOf(plan, identity, places, abilities), signal });
  log.info("sandbox made for a caller", { sandbox: identity.sandboxId, name });
  return identity;
}

async function* attach(
  ports: ManagementPorts,
  registry: RunRegistry,
  requests: AsyncIterable<AttachRequest>,
  { signal }: ServiceCall,
): AsyncGenerator<Answer> {
  const iterator = requests[Symbol.asyncIterator]();
  const first = await iterator.next();
  const message: AttachRequest["message"] = first.done === true
    ? { case: undefined }
    : first.value.message;
  switch (message.case) {
    case "attach":
      return yield* attachSession(ports, registry, message.value, iterator, signal);
    case "exec":
      return yield* execSession(ports, registry, message.value, iterator, signal);
  }
  throw new SandboxError(
    "InvalidArgument",
    `cannot attach: the first message is ${message.case ?? "missing"}: expected attach or exec`,
  );
}

async function* logs(
  { sandboxer }: ManagementPorts,
  registry: RunRegistry,
  { target, follow, since, tail }: LogsRequest,
  { signal }: ServiceCall,
) {
  const found = findContainer(sandboxer, target, "cannot show the log of");
  const action = `cannot show the log of container "${found.containerId}"`;
  const container = managedOnly(registry, found, action, "logs").container(found.containerId);
  const choice = {
    follow,
    ...(since === undefined ? {} : { sinceMs: timestampMs(since) }),
    ...(tail === 0 ? {} : { tail }),
  };
  for await (const { time, stream, content, partial } of readLog(container.log, choice, signal)) {
    yield { at: timestampFromMs(Date.parse(time)), stream, content, partial };
  }
}
