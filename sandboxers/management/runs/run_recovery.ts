/**
 * What an earlier process left of sandboxes that were made without containerd. What the lifecycle
 * knows is gone on with; one that was only half made, and directories of what is gone, are removed.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Sandboxer } from "../../lifecycle/sandboxer.ts";
import type { ContainerSpec } from "../../lifecycle/spec.ts";
import type { SandboxView } from "../../lifecycle/view.ts";
import type { Log } from "../../log.ts";
import { removeTree } from "../../removal.ts";
import { isManaged } from "../ports.ts";
import { isOwnExec, startsOnAttach } from "./marks.ts";
import { namesIn, type RunPlaces } from "./places.ts";

/** How long what a client has put into the staging directory may wait, in milliseconds. */
const STAGED_MS = 24 * 3600 * 1000;
const SIGKILL = 9;

/** What {@link recoverRuns} works with. */
export interface RecoveryPorts {
  /** What the lifecycle has recovered. */
  readonly sandboxer: Sandboxer;
  /** Where things lie. */
  readonly places: RunPlaces;
  /** Where notes go. */
  readonly log: Log;
  /** Goes on with a sandbox. */
  readonly adopt: (sandboxId: string, containers: readonly ContainerSpec[]) => void;
  /** Removes what lies around of a sandbox that is gone. */
  readonly clean: (sandboxId: string) => Promise<void>;
}

/**
 * See the module.
 *
 * @throws {SandboxError} Where the state directory cannot be read.
 */
export async function recoverRuns(ports: RecoveryPorts): Promise<void> {
  const { sandboxer, places } = ports;
  await endExecs(ports);
  for (const view of sandboxer.sandboxes().filter(({ spec }) => isManaged(spec))) {
    const { id } = view.spec;
    const containers = view.containerIds.map((each) => sandboxer.container(each).spec);
    ports.adopt(id, containers);
    if (isHalfMade(sandboxer, view)) {
      await quietly(ports, `remove sandbox "${id}"`, () => sandboxer.deleteSandbox(id));
    }
  }
  const known = new Set(sandboxer.sandboxes().map(({ spec }) => spec.id));
  const names = [...await namesIn(places.runs), ...await namesIn(places.io)];
  for (const name of new Set(names.filter((each) => !known.has(each)))) {
    await quietly(ports, `clean up after sandbox "${name}"`, () => ports.clean(name));
  }
  await removeStaged(ports);
}

/** Nobody was told of it, and nobody will come for it. */
function isHalfMade(sandboxer: Sandboxer, { spec, state, containerIds }: SandboxView): boolean {
  if (state === "created" || containerIds.length === 0) return true;
  return !startsOnAttach(spec) &&
    containerIds.some((id) => sandboxer.process(id, "").state === "created");
}

/** Processes whose client was connected to the process before this one have nobody any more. */
async function endExecs(ports: RecoveryPorts): Promise<void> {
  const { sandboxer, places } = ports;
  for (const view of sandboxer.sandboxes()) {
    for (const containerId of view.containerIds) {
      const { execIds } = sandboxer.container(containerId);
      for (const execId of execIds.filter(isOwnExec)) {
        await quietly(ports, `end process "${execId}"`, async () => {
          if (sandboxer.process(containerId, execId).state !== "stopped") {
            await sandboxer.killProcess(containerId, execId, SIGKILL);
            await sandboxer.waitProcess(containerId, execId, AbortSignal.timeout(5_000));
          }
          await sandboxer.deleteProcess(containerId, execId);
        });
      }
      const directory = places.fifos(view.spec.id, containerId);
      for (const name of (await namesIn(directory)).filter(isOwnExec)) {
        await quietly(ports, `remove "${name}"`, () => removeTree(`${directory}/${name}`));
      }
    }
  }
}

/** Clients that were killed before they asked for a run. */
async function removeStaged(ports: RecoveryPorts): Promise<void> {
  const { places: { staging } } = ports;
  for (const name of await namesIn(staging)) {
    const path = `${staging}/${name}`;
    await quietly(ports, `remove "${path}"`, async () => {
      const { mtime, birthtime } = await Deno.lstat(path);
      const at = birthtime ?? mtime;
      if (at !== null && Date.now() - at.getTime() > STAGED_MS) await removeTree(path);
    });
  }
}

async function quietly(
  { log }: Pick<RecoveryPorts, "log">,
  action: string,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (thrown) {
    const error = SandboxError.from(thrown);
    if (error.code !== "NotFound") log.warn(`cannot ${action}`, { error });
  }
}
