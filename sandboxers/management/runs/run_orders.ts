/**
 * From a checked request to what is made of it: a sandbox with one container, and its root file system
 * as mounts, which the lifecycle makes and takes away again whatever happens to this process.
 *
 * @module
 */

import type { RootfsMount, SandboxSpec } from "../../lifecycle/spec.ts";
import { dressLike, memoryLayer } from "../../memory_layer.ts";
import { MANAGED_NAMESPACE } from "../ports.ts";
import type { RunAbilities } from "./abilities.ts";
import { IMAGE_ANNOTATION } from "./marks.ts";
import { makeDirectory, type RunPlaces } from "./places.ts";
import type { RunOrder } from "./run_registry.ts";
import type { RootfsPlan, RunPlan } from "./run_request.ts";
import { takeStaged } from "./staged.ts";

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
          mounts: rootfsMounts(plan.rootfs, places, sandboxId, abilities),
        },
        readonlyRootfs: plan.readonlyRootfs,
        process: plan.process,
        mounts: plan.mounts,
        resources: plan.resources,
        annotations: image === "" ? {} : { [IMAGE_ANNOTATION]: image },
      },
      streams: { stdin, terminal, terminalSize },
    }],
    prepare: (directory) => prepare(plan.rootfs, { places, sandboxId, abilities, directory }),
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

function rootfsMounts(
  { kind, path }: RootfsPlan,
  places: RunPlaces,
  sandboxId: string,
  { layerBytesMax }: RunAbilities,
): RootfsMount[] {
  const directory = places.run(sandboxId);
  switch (kind) {
    case "directory":
      return [{ type: "bind", source: path, options: ["rbind", "rw"] }];
    case "staged":
      return [{ type: "bind", source: `${directory}/staged`, options: ["rbind", "rw"] }];
    case "template": {
      if (layerBytesMax !== undefined) {
        return memoryLayer(path, places.rootfs(sandboxId), layerBytesMax);
      }
      const options = [
        `lowerdir=${path}`,
        `upperdir=${directory}/upper`,
        `workdir=${directory}/work`,
      ];
      return [{ type: "overlay", source: "overlay", options }];
    }
  }
}

async function prepare(
  { kind, path }: RootfsPlan,
  { places, sandboxId, abilities, directory }: {
    readonly places: RunPlaces;
    readonly sandboxId: string;
    readonly abilities: RunAbilities;
    readonly directory: string;
  },
): Promise<void> {
  await makeDirectory(places.rootfs(sandboxId));
  if (kind === "staged") await takeStaged(places, path, `${directory}/staged`);
  if (kind !== "template" || abilities.layerBytesMax !== undefined) return;
  await makeDirectory(`${directory}/upper`);
  await makeDirectory(`${directory}/work`);
  await dressLike(path, `${directory}/upper`);
}
