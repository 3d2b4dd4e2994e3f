/**
 * A client that is attached to the first process of a container: it gets the output as it comes, and
 * what it sends is the process's input. That it leaves is not the end of anything.
 *
 * @module
 */

import type {
  AttachRequest,
  AttachStart,
} from "../../../proto/gen/quasaur/management/v1/management_pb.ts";
import { abortError, SandboxError } from "../../lifecycle/errors.ts";
import { linkSignals } from "../../lifecycle/signals.ts";
import type { ManagementPorts } from "../ports.ts";
import { followOutput } from "./log_reading.ts";
import { startsOnAttach } from "./marks.ts";
import { findContainer, managedOnly } from "./run_targets.ts";
import type { RunRegistry } from "./run_registry.ts";
import { type Answer, type Connected, exitAnswer, obey, outputAnswer, resize } from "./session.ts";

/**
 * Serves such a client.
 *
 * @param ports Where the state is.
 * @param registry Where the streams are.
 * @param start What it asks for.
 * @param requests What it sends afterwards.
 * @param signal Fires when it has gone.
 * @throws {SandboxError} `NotFound`; `FailedPrecondition` for a container that containerd made.
 */
export async function* attachSession(
  { sandboxer }: Pick<ManagementPorts, "sandboxer">,
  registry: RunRegistry,
  start: AttachStart,
  requests: AsyncIterator<AttachRequest>,
  signal: AbortSignal,
): AsyncGenerator<Answer> {
  const action = "cannot attach to";
  const found = findContainer(sandboxer, start.target, action);
  const { sandboxId, containerId } = found;
  const run = managedOnly(registry, found, `${action} container "${containerId}"`, "attach");
  const container = run.container(containerId);
  const { log } = container;
  using reader = log.reader(start.withLogs ? log.begin : log.end, true);
  const failed = new AbortController();
  using linked = linkSignals(signal, failed.signal);
  await startIfWaiting(sandboxer, sandboxId, containerId, signal);
  const exit = sandboxer.waitProcess(containerId, "", linked.signal);
  exit.catch(() => undefined);
  const { pid, stdio: { terminal } } = sandboxer.process(containerId, "");
  const connected: Connected = {
    sandboxer,
    containerId,
    execId: "",
    terminal,
    input: start.noStdin ? undefined : container.input,
    onSent: () => container.expect(),
  };
  await resize(connected, start.terminalSize);
  void obey(requests, connected).catch((error: unknown) => failed.abort(SandboxError.from(error)));
  yield {
    message: { case: "started", value: { sandboxId, containerId, execId: "", pid, terminal } },
  };
  for await (const output of followOutput(log, reader, linked.signal)) yield outputAnswer(output);
  if (linked.signal.aborted) {
    throw abortError(linked.signal, `${action} container "${containerId}"`);
  }
  yield exitAnswer(await exit);
}

/** Starts a container that waits for its first client. One that cannot be started is removed. */
async function startIfWaiting(
  sandboxer: ManagementPorts["sandboxer"],
  sandboxId: string,
  containerId: string,
  signal: AbortSignal,
): Promise<void> {
  const isWaiting = () => sandboxer.process(containerId, "").state === "created";
  if (!startsOnAttach(sandboxer.sandbox(sandboxId).spec) || !isWaiting()) return;
  try {
    await sandboxer.startProcess(containerId, "", signal);
  } catch (error) {
    // Another client may have been quicker; one that leaves lets the next one try.
    if (signal.aborted) throw error;
    if (!sandboxer.sandboxes().some(({ spec }) => spec.id === sandboxId)) throw error;
    if (!isWaiting()) return;
    await sandboxer.deleteSandbox(sandboxId);
    throw error;
  }
}
