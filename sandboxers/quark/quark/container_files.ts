/**
 * What a container has of the host, bound below the bundle of its pod where Quark looks for it: the
 * root file system at `<name>/rootfs`, its volumes inside of that, and its configuration.
 *
 * Source: kuasar-io/kuasar quark/src/sandbox.rs (append_container).
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { type BindMountSpec, type ContainerSpec, rootfsPath } from "../../lifecycle/spec.ts";
import type { JsonObject } from "../../oci/json.ts";
import { removeTree } from "../../removal.ts";
import type { PodFile } from "../pod_files.ts";
import { ensureDirectory, findMountTarget, makeTarget } from "./mount_targets.ts";
import type { QuarkOptions } from "./options.ts";

/** The files of containers. */
export interface ContainerDirectory {
  /** The container's bundle on the host. */
  readonly path: string;
  /** The container's bundle as Quark sees it. */
  readonly inside: string;
}

/** What is put into a container's directory. */
export interface ContainerContents {
  /** The config.json. */
  readonly config: JsonObject;
  /** Directories that have to be there in its root file system. */
  readonly mountPoints: readonly string[];
  /** Files of the pod that it sees unless it brings its own. */
  readonly podFiles: readonly PodFile[];
}

/**
 * Makes the directory of a container, with all that Quark needs to create it but its streams.
 *
 * @param mounter Makes the mounts.
 * @param directory Where; nothing is there yet.
 * @param spec The container; its root file system is in place.
 * @param contents See {@link ContainerContents}.
 * @throws {SandboxError} `AlreadyExists` where there is such a container; `NotFound` for a volume that
 *   is not there; as {@link findMountTarget}. Then nothing is left.
 */
export async function makeContainerDirectory(
  mounter: QuarkOptions["mounter"],
  directory: ContainerDirectory,
  spec: ContainerSpec,
  contents: ContainerContents,
): Promise<void> {
  const action = `cannot create container "${spec.id}"`;
  try {
    await Deno.mkdir(directory.path, { mode: 0o711 });
  } catch (error) {
    throw SandboxError.from(error, action);
  }
  await using undo = new AsyncDisposableStack();
  undo.defer(() => removeContainerDirectory(mounter, directory));
  const rootfs = `${directory.path}/rootfs`;
  await Deno.mkdir(rootfs);
  const source = rootfsPath(spec.rootfs);
  await mounter.bind([{ source, target: rootfs, readonly: false, recursive: true }]);
  for (const point of contents.mountPoints) await ensureDirectory(rootfs, point);
  const volumes = await volumesOf(mounter, rootfs, spec, contents);
  if (spec.readonlyRootfs) {
    // Only now, as places for mounts may have had to be made in it.
    await mounter.unmountAll([rootfs]);
    await mounter.bind([{ source, target: rootfs, readonly: true, recursive: true }]);
  }
  await mounter.bind(volumes);
  await Deno.writeTextFile(`${directory.path}/config.json`, JSON.stringify(contents.config));
  undo.move();
}

/**
 * Takes a container's directory away, with all mounts in it. May be called more than once.
 *
 * @throws {SandboxError} Where something cannot be unmounted; then nothing is removed.
 */
export async function removeContainerDirectory(
  mounter: QuarkOptions["mounter"],
  { path }: ContainerDirectory,
): Promise<void> {
  const entries: string[] = [];
  try {
    for await (const { name, isSymlink } of Deno.readDir(path)) {
      if (!isSymlink) entries.push(`${path}/${name}`);
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw SandboxError.from(error, `cannot remove "${path}"`);
  }
  // What is mounted below the root file system goes with it.
  await mounter.unmountAll(entries);
  await removeTree(path);
}

interface Volume {
  readonly source: string;
  readonly target: string;
  readonly readonly: boolean;
  readonly recursive: boolean;
}

/** The container's volumes, with places for them; those of one place above another come first. */
async function volumesOf(
  mounter: QuarkOptions["mounter"],
  rootfs: string,
  spec: ContainerSpec,
  { podFiles }: ContainerContents,
): Promise<Volume[]> {
  const own = new Set(spec.mounts.map(({ destination }) => clean(destination)));
  const readonly = spec.readonlyRootfs;
  const wanted: BindMountSpec[] = [
    ...podFiles.filter(({ destination }) => !own.has(destination))
      .map((file) => ({ ...file, readonly })),
    ...spec.mounts,
  ];
  const volumes: Volume[] = [];
  for (const { source, destination, readonly } of wanted) {
    const target = await placeFor(mounter, rootfs, source, destination);
    volumes.push({ source, target, readonly, recursive: true });
  }
  return volumes;
}

/**
 * A place for a volume. Whether that is a file or a directory is not for this process to see: it is
 * tried, as the sandboxer's permissions do not reach to volumes.
 */
async function placeFor(
  mounter: QuarkOptions["mounter"],
  rootfs: string,
  source: string,
  destination: string,
): Promise<string> {
  const { path, kind } = await findMountTarget(rootfs, destination);
  if (kind !== undefined) return path;
  await makeTarget(path, "directory");
  if (await fits(mounter, source, path)) return path;
  await Deno.remove(path);
  await makeTarget(path, "file");
  return path;
}

async function fits(
  mounter: QuarkOptions["mounter"],
  source: string,
  target: string,
): Promise<boolean> {
  try {
    await mounter.bind([{ source, target, readonly: true, recursive: false }]);
  } catch (error) {
    if (error instanceof SandboxError && error.code === "InvalidArgument") return false;
    throw error;
  }
  await mounter.unmountAll([target]);
  return true;
}

function clean(path: string): string {
  return path.replace(/(?<=.)\/+$/, "");
}
