/**
 * From a checked request to what is made of it: a sandbox with one container, and its root file system
 * as mounts, which the lifecycle makes and takes away again whatever happens to this process.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { RootfsMount, SandboxSpec } from "../../lifecycle/spec.ts";
import { MANAGED_NAMESPACE } from "../ports.ts";
import type { RunAbilities } from "./abilities.ts";
import { IMAGE_ANNOTATION } from "./marks.ts";
import { makeDirectory, type RunPlaces } from "./places.ts";
import type { RunOrder } from "./run_registry.ts";
import type { RootfsPlan, RunPlan } from "./run_request.ts";
import { takeStaged } from "./staged.ts";

/** The mode of `/` where that of the template is not known. */
const ROOT_MODE = 0o755;

/** Who something is made as. */
export interface RunIdentity {
  /** The sandbox's id. */
  readonly sandboxId: string;
  /** The container's id. */
  readonly containerId: string;
  /** The sandbox's name. */
  readonly name: string;
}

/**
 * What is made of a request.
 *
 * @param plan The request.
 * @param identity Who it is made as.
 * @param places Where things lie.
 * @param abilities What the kind gives.
 */
export function orderOf(
  plan: RunPlan,
  { sandboxId, containerId, name }: RunIdentity,
  places: RunPlaces,
  abilities: RunAbilities,
): Omit<RunOrder, "signal"> {
  const { stdin, terminal, terminalSize, image } = plan;
  return {
    spec: {
      ...sandboxBase(sandboxId, name, abilities),
      ...(plan.runtime === undefined ? {} : { runtime: plan.runtime }),
      hostname: plan.hostname,
      network: plan.network,
      dns: plan.dns,
      resources: plan.resources,
      labels: plan.labels,
      annotations: plan.annotations,
    },
    containers: [{
      spec: {
        id: containerId,
        sandboxId,
        bundle: "",
        rootfs: {
          kind: "mounts",
          target: places.rootfs(sandboxId),
          mounts: [rootfsMount(plan.rootfs, places.run(sandboxId))],
        },
        readonlyRootfs: plan.readonlyRootfs,
        process: plan.process,
        mounts: plan.mounts,
        resources: plan.resources,
        annotations: image === "" ? {} : { [IMAGE_ANNOTATION]: image },
      },
      streams: { stdin, terminal, terminalSize },
    }],
    prepare: (directory) => prepare(plan.rootfs, places, sandboxId, directory),
    start: !plan.startOnAttach,
  };
}

/** What all sandboxes that are made without containerd have in common. */
export function sandboxBase(
  id: string,
  name: string,
  { cgroups }: RunAbilities,
): Pick<SandboxSpec, "id" | "namespace" | "name" | "cgroupParent"> {
  return {
    id,
    namespace: MANAGED_NAMESPACE,
    name,
    cgroupParent: cgroups?.parentOf(id) ?? "",
  };
}

function rootfsMount({ kind, path }: RootfsPlan, directory: string): RootfsMount {
  switch (kind) {
    case "directory":
      return { type: "bind", source: path, options: ["rbind", "rw"] };
    case "staged":
      return { type: "bind", source: `${directory}/staged`, options: ["rbind", "rw"] };
    case "template": {
      const options = [
        `lowerdir=${path}`,
        `upperdir=${directory}/upper`,
        `workdir=${directory}/work`,
      ];
      return { type: "overlay", source: "overlay", options };
    }
  }
}

async function prepare(
  { kind, path }: RootfsPlan,
  places: RunPlaces,
  sandboxId: string,
  directory: string,
): Promise<void> {
  await makeDirectory(places.rootfs(sandboxId));
  if (kind === "staged") await takeStaged(places, path, `${directory}/staged`);
  if (kind !== "template") return;
  await makeDirectory(`${directory}/upper`);
  await makeDirectory(`${directory}/work`);
  await dressLike(path, `${directory}/upper`);
}

/** What is on top gives `/` its mode and its owner. */
async function dressLike(template: string, upper: string): Promise<void> {
  let mode: number | null = null;
  let owner: readonly [number | null, number | null] = [null, null];
  try {
    const status = await Deno.stat(template);
    mode = status.mode;
    owner = [status.uid, status.gid];
  } catch (error) {
    // Templates may lie where this process may not look: the usual will do then.
    if (!(error instanceof Deno.errors.NotCapable)) {
      throw SandboxError.from(error, `cannot use the root file system "${template}"`);
    }
  }
  await Deno.chmod(upper, (mode ?? ROOT_MODE) & 0o7777);
  await Deno.chown(upper, ...owner);
}
