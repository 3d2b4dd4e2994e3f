/**
 * What a sandboxer process answers at its sockets: the Task API, the Sandbox API with the management
 * API beside it, and metrics.
 *
 * @module
 */

import config from "../deno.json" with { type: "json" };
import { Task } from "../proto/gen/containerd/task/v3/shim_pb.ts";
import { taskCalls } from "../task/observed_calls.ts";
import { taskService } from "../task/service.ts";
import { TtrpcServer } from "../task/ttrpc/server.ts";
import { ControllerServer } from "./controller/server.ts";
import type { Composed } from "./management/ports.ts";
import { runHandlers } from "./management/runs/handlers.ts";
import { ManagementService } from "./management/service.ts";
import type { ServeOptions } from "./serve_options.ts";
import type { ServePlaces } from "./serve_places.ts";
import { metricsAddressText } from "./telemetry/address.ts";
import { watchLifecycle } from "./telemetry/open.ts";
import { noTelemetry } from "./telemetry/telemetry.ts";

/** The servers that calls come to. */
export interface Servers {
  /** The Sandbox API and the management API. */
  readonly controller: ControllerServer;
  /** The Task API. */
  readonly tasks: TtrpcServer;
}

/**
 * Listens at all sockets.
 *
 * @param options What the process is made of.
 * @param composed The lifecycle, which is recovered.
 * @param places The sockets.
 * @param resources Gets what ends with the process.
 * @throws {SandboxError} `AlreadyExists` when somebody else listens at one.
 */
export async function listenAtAll(
  options: ServeOptions,
  { sandboxer, abilities }: Composed,
  places: ServePlaces,
  resources: AsyncDisposableStack,
): Promise<Servers> {
  const { listen, taskListen, dir, log, telemetry = noTelemetry } = options;
  const { metrics, metricsPodsMax: podsMax = 0 } = options;
  const management = resources.use(
    new ManagementService({
      sandboxer,
      abilities,
      dir,
      log,
      version: config.version,
      startedAt: Date.now(),
      telemetry,
      ...(metrics === undefined ? {} : { metricsAddress: metricsAddressText(metrics) }),
    }, { runs: runHandlers }),
  );
  await management.recover();
  const tasks = resources.use(new TtrpcServer({ log }));
  tasks.add(Task, taskService(sandboxer), taskCalls({ observer: telemetry, sandboxer, log }));
  await tasks.listen(taskListen);
  await places.makeRoom();
  const controller = resources.use(
    await ControllerServer.listen({
      sandboxer,
      path: listen,
      taskAddress: taskListen,
      log,
      observer: telemetry,
      services: [management],
    }),
  );
  resources.use(await watchLifecycle({ telemetry, sandboxer, metrics, podsMax, log }));
  return { controller, tasks };
}
