/**
 * A client that runs another process in a container, whoever made that. The process is the client's:
 * it waits while the client does not read, and ends when the client goes away.
 *
 * @module
 */

import type {
  AttachRequest,
  ExecStart,
} from "../../../proto/gen/quasaur/management/v1/management_pb.ts";
import { abortError, SandboxError } from "../../lifecycle/errors.ts";
import type { Sandboxer } from "../../lifecycle/sandboxer.ts";
import type { Exit, ProcessSpec, StdioSpec } from "../../lifecycle/spec.ts";
import { removeTree } from "../../removal.ts";
import type { ManagementPorts } from "../ports.ts";
import { newExecId } from "./marks.ts";
import { OutputChannel } from "./output_channel.ts";
import { OutputReader } from "./output_reader.ts";
import { removeEmpty } from "./places.ts";
import { ProcessInput } from "./process_input.ts";
import { mergeEnvironment, processOf, terminalSizeOf } from "./request_checks.ts";
import type { RunRegistry } from "./run_registry.ts";
import { findContainer } from "./run_targets.ts";
import { type Answer, type Connected, exitAnswer, obey, outputAnswer } from "./session.ts";

const SIGKILL = 9;
/** How long a process that was killed may take to end, in milliseconds. */
const KILLED_MS = 10_000;

/**
 * Serves such a client.
 *
 * @param ports Where the state is.
 * @param registry Where FIFOs are made.
 * @param start What it asks for.
 * @param requests What it sends afterwards.
 * @param signal Fires when it has gone.
 * @throws {SandboxError} `NotFound`, `InvalidArgument`; `Unimplemented` where there is no exec; what
 *   the driver throws.
 */
export async function* execSession(
  { sandboxer, log }: Pick<ManagementPorts, "sandboxer" | "log">,
  registry: RunRegistry,
  start: ExecStart,
  requests: AsyncIterator<AttachRequest>,
  signal: AbortSignal,
): AsyncGenerator<Answer> {
  const { sandboxId, containerId } = findContainer(sandboxer, start.target, "cannot exec in");
  const execId = newExecId();
  const process = execProcess(start, sandboxer.container(containerId).spec.process, registry);
  const terminal = start.process?.terminal === true;
  const terminalSize = terminalSizeOf("process.terminal_size", start.process?.terminalSize);
  await using undo = new AsyncDisposableStack();
  const directory = registry.places.fifos(sandboxId, containerId, execId);
  undo.defer(async () => {
    await removeTree(directory);
    // Of a container that containerd made nothing else is there.
    await removeEmpty(registry.places.fifos(sandboxId, containerId));
    await removeEmpty(`${registry.places.io}/${sandboxId}`);
  });
  const stdio = await registry.makeFifos(directory, { stdin: start.stdin, terminal, terminalSize });
  const channel = new OutputChannel();
  const readers = openReaders(stdio, `exec in container "${containerId}"`, channel);
  for (const reader of readers) undo.use(reader);
  await sandboxer.exec(containerId, { id: execId, process, stdio });
  undo.defer(async () => {
    const end = endExec(sandboxer, containerId, execId);
    await end.catch((error: unknown) =>
      log.warn("cannot end a process", { container: containerId, exec: execId, error })
    );
  });
  // From here on what it writes is thrown away: it may wait for that before it ends.
  undo.defer(() => channel.end());
  const pid = await sandboxer.startProcess(containerId, execId, signal);
  using _leaving = onAbort(signal, () => channel.fail(abortError(signal, "cannot go on")));
  const exit = finished(sandboxer, containerId, execId, readers, channel);
  exit.catch((error: unknown) => channel.fail(error));
  const input = stdio.stdin.kind === "path"
    ? undo.use(
      new ProcessInput(
        stdio.stdin.path,
        "stdin",
        () => sandboxer.closeStdin(containerId, execId),
      ),
    )
    : undefined;
  for (const reader of readers) reader.expect();
  const onSent = () => {
    for (const reader of readers) reader.expect();
  };
  const connected: Connected = { sandboxer, containerId, execId, terminal, input, onSent };
  void obey(requests, connected).then(() => input?.close(), (error) => channel.fail(error));
  yield {
    message: { case: "started", value: { sandboxId, containerId, execId, pid, terminal } },
  };
  for await (const output of channel.read()) yield outputAnswer(output);
  yield exitAnswer(await exit);
}

/** Does something when a signal fires, or at once where it has; until it is disposed of. */
function onAbort(signal: AbortSignal, work: () => void): Disposable {
  if (signal.aborted) work();
  else signal.addEventListener("abort", work, { once: true });
  return { [Symbol.dispose]: () => signal.removeEventListener("abort", work) };
}

function openReaders(stdio: StdioSpec, label: string, channel: OutputChannel): OutputReader[] {
  return (["stdout", "stderr"] as const).flatMap((name) => {
    const stream = stdio[name];
    if (stream.kind !== "path") return [];
    return [
      new OutputReader({
        path: stream.path,
        what: `${name} of ${label}`,
        keeper: undefined,
        room: () => channel.room(),
        take: (bytes) => channel.push(name, bytes),
      }),
    ];
  });
}

/** Waits for the end of a process, and until all of its output was read. */
async function finished(
  sandboxer: Sandboxer,
  containerId: string,
  execId: string,
  readers: readonly OutputReader[],
  channel: OutputChannel,
): Promise<Exit> {
  const exit = await sandboxer.waitProcess(containerId, execId);
  for (const reader of readers) reader.finish();
  await Promise.allSettled(readers.map(({ done }) => done));
  channel.end();
  return exit;
}

/** Deletes a process; one that still runs is killed first. */
async function endExec(sandboxer: Sandboxer, containerId: string, execId: string): Promise<void> {
  try {
    if (sandboxer.process(containerId, execId).state !== "stopped") {
      await sandboxer.killProcess(containerId, execId, SIGKILL);
      const late = AbortSignal.timeout(KILLED_MS);
      await sandboxer.waitProcess(containerId, execId, late);
    }
    await sandboxer.deleteProcess(containerId, execId);
  } catch (error) {
    // It ended meanwhile or is gone with its container; or this process goes, and the next one ends it.
    const { code } = SandboxError.from(error);
    if (code !== "NotFound" && code !== "Unavailable") throw error;
  }
}

/**
 * The process that the lifecycle is asked for. It can do no more than the container's first one, and
 * is limited as that is.
 */
function execProcess(
  { process, inherit, userGiven }: ExecStart,
  init: ProcessSpec,
  registry: RunRegistry,
): ProcessSpec {
  const asked = processOf(process, []);
  const defaults = registry.abilities.env;
  const terminal = process?.terminal === true && defaults.length > 0 ? ["TERM=xterm"] : [];
  const { args: _args, env, cwd, user, ...limits } = init;
  const { uid, gid, additionalGids } = asked.user;
  const isGiven = userGiven || uid !== 0 || gid !== 0 || additionalGids.length > 0;
  return {
    ...limits,
    args: asked.args,
    env: mergeEnvironment(defaults, terminal, inherit ? env : [], asked.env),
    cwd: inherit && (process?.cwd ?? "") === "" ? cwd : asked.cwd,
    user: inherit && !isGiven ? user : asked.user,
  };
}
