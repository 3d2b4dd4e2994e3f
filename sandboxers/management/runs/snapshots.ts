/**
 * Snapshots of sandboxes with their memory, and sandboxes that are made of them: by kinds that can.
 *
 * @module
 */

import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  RestoreRequest,
  RestoreResponseSchema,
  SnapshotRequest,
} from "../../../proto/gen/quasaur/management/v1/management_pb.ts";
import type { ServiceCall } from "../../../proto/grpc_service.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { checkId } from "../../lifecycle/ids.ts";
import type { DnsSpec, SandboxSpec } from "../../lifecycle/spec.ts";
import { removeTree } from "../../removal.ts";
import { lookUp } from "../target_views.ts";
import type { ManagementPorts } from "../ports.ts";
import type { SavedSandbox, SnapshotAbilities } from "./abilities.ts";
import { newRunId, OWN_ANNOTATIONS } from "./marks.ts";
import { checkPairs, checkPath } from "./request_checks.ts";
import { sandboxBase } from "./run_orders.ts";
import type { ContainerOrder, RunRegistry } from "./run_registry.ts";

const NO_DNS: DnsSpec = { servers: [], searches: [], options: [] };

/**
 * Saves a running sandbox.
 *
 * @throws {SandboxError} `Unimplemented` where the kind cannot; `PermissionDenied` for a place that
 *   this process may not write to; what stands against it.
 */
export async function snapshot(
  ports: ManagementPorts,
  { target, directory }: SnapshotRequest,
  { signal }: ServiceCall,
): Promise<Record<never, never>> {
  const abilities = snapshotsOf(ports, "take a snapshot");
  checkPath("directory", directory);
  const { sandbox: { id } } = lookUp(ports.sandboxer, target);
  mustBePermitted("write", directory, abilities);
  await makeParent(directory, abilities);
  await abilities.take({ sandboxId: id, directory, signal });
  ports.log.info("snapshot taken for a caller", { sandbox: id, directory });
  return {};
}

/**
 * Makes a sandbox of a snapshot, or of one that is taken for it.
 *
 * @throws {SandboxError} As {@link snapshot}; `AlreadyExists` for a name that is taken.
 */
export async function restore(
  ports: ManagementPorts,
  registry: RunRegistry,
  { source, name, labels }: RestoreRequest,
  { signal }: ServiceCall,
): Promise<MessageInitShape<typeof RestoreResponseSchema>> {
  const abilities = snapshotsOf(ports, "make a sandbox of a snapshot");
  if (name !== "") checkId("name", name);
  checkPairs("labels", labels);
  using taken = registry.takeName(name);
  await using undo = new AsyncDisposableStack();
  let directory: string;
  if (source.case === "directory") {
    directory = checkPath("directory", source.value);
    mustBePermitted("read", directory, abilities);
  } else if (source.case === "target") {
    const { sandbox: { id } } = lookUp(ports.sandboxer, source.value);
    directory = `${abilities.directory}/fork-${newRunId()}`;
    await makeParent(directory, abilities);
    undo.defer(() => removeTree(directory));
    await abilities.take({ sandboxId: id, directory, signal });
  } else {
    throw new SandboxError(
      "InvalidArgument",
      "cannot make a sandbox: no source is given: expected directory or target",
    );
  }
  const saved = await abilities.read(directory);
  const sandboxId = newRunId();
  const order = restoreOrder(registry, saved, { sandboxId, name: taken.name, labels });
  saved.startAs(order.spec, order.ids);
  await registry.make({ ...order, start: true, signal });
  ports.log.info("sandbox made of a snapshot for a caller", { sandbox: sandboxId });
  return { sandboxId, name: taken.name, containerIds: [...order.ids.values()] };
}

/** What is made of a snapshot. */
function restoreOrder(
  registry: RunRegistry,
  { spec: saved, containers }: SavedSandbox,
  { sandboxId, name, labels }: {
    readonly sandboxId: string;
    readonly name: string;
    readonly labels: Readonly<Record<string, string>>;
  },
) {
  const { abilities } = registry;
  const ids = new Map(containers.map(({ id }) => [id, newRunId()]));
  const spec: SandboxSpec = {
    ...sandboxBase(sandboxId, name, abilities),
    ...saved,
    dns: saved.network.kind === "user" ? abilities.userDns ?? NO_DNS : NO_DNS,
    labels,
    annotations: OWN_ANNOTATIONS,
  };
  const orders = containers.map(({ id, args, streams, ...rest }): ContainerOrder => ({
    streams,
    // All else of it is in the memory of the sandbox.
    spec: {
      id: ids.get(id) ?? "",
      sandboxId,
      bundle: "",
      rootfs: rest.rootfs ?? { kind: "directory", path: "" },
      readonlyRootfs: rest.readonlyRootfs ?? false,
      process: { args, env: [], cwd: "/", user: { uid: 0, gid: 0, additionalGids: [] } },
      mounts: [],
      resources: rest.resources ?? {},
      annotations: {},
    },
  }));
  return { spec, ids, containers: orders };
}

function snapshotsOf(
  { abilities, sandboxer }: ManagementPorts,
  action: string,
): SnapshotAbilities {
  if (abilities.snapshots !== undefined) return abilities.snapshots;
  throw new SandboxError(
    "Unimplemented",
    `cannot ${action}: ${sandboxer.driver.kind} sandboxes have no snapshots: those of vmm ` +
      "and of gVisor do",
  );
}

/** This process may touch few places, and the error that it would get says little. */
function mustBePermitted(
  name: "read" | "write",
  path: string,
  { directory }: SnapshotAbilities,
): void {
  if (Deno.permissions.querySync({ name, path }).state === "granted") return;
  throw new SandboxError(
    "PermissionDenied",
    `cannot use "${path}" for a snapshot: the permissions of this sandboxer end before it: choose a ` +
      `path such as "${directory}/NAME"`,
  );
}

/** The directory for snapshots is made with the first one; others are their owner's business. */
async function makeParent(directory: string, abilities: SnapshotAbilities): Promise<void> {
  if (!directory.startsWith(`${abilities.directory}/`)) return;
  await Deno.mkdir(abilities.directory, { recursive: true, mode: 0o711 });
}
