/**
 * Where things of sandboxes lie that were made without containerd, all below the state directory:
 *
 * - `runs/SANDBOX/`: `rootfs`, where its root file system is mounted; `upper` and `work` of an overlay
 *   whose writes are bounded by nothing else; `staged`, a root file system that was taken over; `log/CONTAINER/`, what its containers have written
 * - `io/SANDBOX/CONTAINER/` and `io/SANDBOX/CONTAINER/EXEC/`: the FIFOs of processes
 * - `staging/`: where clients put what is to be taken over
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { removeTree } from "../../removal.ts";

/** Directories that are passed through by sandboxes that run as users of their own. */
const PASS_MODE = 0o711;

/** The name of the directory that a root file system is mounted at. */
const ROOTFS = "rootfs";

/** The places of one sandboxer. */
export class RunPlaces {
  readonly #dir: string;

  /**
   * Makes nothing yet.
   *
   * @param dir The state directory, an absolute path.
   */
  constructor(dir: string) {
    this.#dir = dir;
  }

  /** The directory of the directories of sandboxes. */
  get runs(): string {
    return `${this.#dir}/runs`;
  }

  /** The directory of FIFOs. */
  get io(): string {
    return `${this.#dir}/io`;
  }

  /** The directory of what is to be taken over. */
  get staging(): string {
    return `${this.#dir}/staging`;
  }

  /** The directory of a sandbox. */
  run(sandboxId: string): string {
    return `${this.runs}/${sandboxId}`;
  }

  /** The directory of a container's log. */
  log(sandboxId: string, containerId: string): string {
    return `${this.run(sandboxId)}/log/${containerId}`;
  }

  /**
   * The directory of the FIFOs of a process.
   *
   * @param execId Missing for the first process.
   */
  fifos(sandboxId: string, containerId: string, execId?: string): string {
    const container = `${this.io}/${sandboxId}/${containerId}`;
    return execId === undefined ? container : `${container}/${execId}`;
  }

  /** Where the root file system of a container is mounted. */
  rootfs(sandboxId: string): string {
    return `${this.run(sandboxId)}/${ROOTFS}`;
  }

  /**
   * Removes all of a sandbox.
   *
   * @throws {SandboxError} `FailedPrecondition` where its root file system is still mounted: what is
   *   in that is somebody's else.
   */
  async remove(sandboxId: string): Promise<void> {
    await removeTree(`${this.io}/${sandboxId}`);
    await removeMountPoint(this.rootfs(sandboxId));
    await removeTree(this.run(sandboxId));
  }
}

/** Makes a directory that others may pass through, with those above it. */
export async function makeDirectory(path: string): Promise<void> {
  const make = () => Deno.mkdir(path, { recursive: true, mode: PASS_MODE });
  try {
    // Somebody else may be done with the one above at the same time, and remove it.
    await make().catch(make);
  } catch (error) {
    throw SandboxError.from(error, `cannot make "${path}"`);
  }
}

/** Removes an empty directory; one that is not empty is where something is mounted. */
async function removeMountPoint(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    const reason = error instanceof Error ? error.message : String(error);
    throw new SandboxError(
      "FailedPrecondition",
      `cannot clean up: something is still mounted at "${path}": ${reason}`,
      { cause: error },
    );
  }
}

/** The names in a directory; none where it is not there. */
export async function namesIn(path: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(path))).map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw SandboxError.from(error, `cannot read "${path}"`);
  }
}

/** Removes a directory where it is empty. */
export async function removeEmpty(path: string): Promise<void> {
  await Deno.remove(path).catch(() => undefined);
}
