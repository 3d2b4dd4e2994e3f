/**
 * The files of a container of a pod on the host: its bundle, and what its processes have. They lie in a directory of its own in the pod's.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { BoundSources, type SourceMounter } from "../../host/bound_sources.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { type JsonObject, objectsOf, stringOf, stringsOf } from "../../oci/json.ts";
import { removeTree } from "../../removal.ts";

/** Where the volumes of a container are that it may only read, in its directory. */
const READONLY = "readonly";
/** The note that a container is paused, in its directory. */
const PAUSED = "paused";
/** Destinations of volumes that are files. */
const FILES = /^\/etc\/(hosts|hostname|resolv\.conf)$|^\/dev\/termination-log$|\.[a-z]{2,5}$/;

/** The directory of containers, in a pod's. */
const CONTAINERS = "containers";

/** The files of one container. */
export class ContainerFiles {
  /** Its directory, an absolute path: the bundle. */
  readonly directory: string;
  readonly #id: string;
  readonly #readonly: BoundSources;

  /**
   * Names the files; makes none.
   *
   * @param podDirectory The pod's directory.
   * @param id The container's id.
   * @param mounter Mounts and unmounts.
   */
  constructor(podDirectory: string, id: string, mounter: SourceMounter) {
    this.#id = id;
    this.directory = `${podDirectory}/${CONTAINERS}/${digest(id)}`;
    this.#readonly = new BoundSources(mounter, `${this.directory}/${READONLY}`);
  }

  /**
   * The directory of one of its processes.
   *
   * @param exec The exec's id; empty for the init process.
   */
  processDirectory(exec: string): string {
    return `${this.directory}/${exec === "" ? "init" : digest(exec)}`;
  }

  /**
   * Writes the bundle.
   *
   * @param config The config.json.
   * @throws {SandboxError} `ResourceExhausted` where the disk is full.
   */
  async write(config: JsonObject): Promise<void> {
    try {
      await Deno.mkdir(this.directory, { recursive: true, mode: 0o711 });
      await Deno.writeTextFile(`${this.directory}/config.json`, JSON.stringify(config), {
        mode: 0o600,
      });
    } catch (error) {
      throw SandboxError.from(error, `cannot write the bundle of container "${this.#id}"`);
    }
  }

  /**
   * Has the host's kernel, too, refuse writes to what a container may only read: the sentry alone
   * does not, as it opens a file for writing, and empties it where that is asked for, before it looks
   * at the mount.
   *
   * @param config The config.json.
   * @returns The same with other sources of such mounts.
   * @throws {SandboxError} `InvalidArgument` where a source is not there.
   */
  async protect(config: JsonObject): Promise<JsonObject> {
    const mounts = objectsOf(config, "mounts");
    const readonly = mounts.filter((mount) =>
      stringOf(mount, "type") === "bind" && stringsOf(mount, "options").includes("ro")
    );
    if (readonly.length === 0) return config;
    await makeDirectory(this.directory);
    const bound = await this.#readonly.add(readonly.map((mount) => ({
      source: stringOf(mount, "source"),
      readonly: true,
      isFile: FILES.test(stringOf(mount, "destination")),
    })));
    const sources = new Map(
      readonly.map((mount, at) => [mount, this.#readonly.pathOf(bound[at]?.name ?? "")]),
    );
    return {
      ...config,
      mounts: mounts.map((mount) => {
        const source = sources.get(mount);
        return source === undefined ? mount : { ...mount, source };
      }),
    };
  }

  /** The container has what it needs of the host in a mount namespace of its own. */
  async letGo(): Promise<void> {
    await this.#readonly.clear();
  }

  /** Notes that the container is paused, for the next sandboxer. */
  async notePaused(): Promise<void> {
    const path = `${this.directory}/${PAUSED}`;
    try {
      await Deno.writeTextFile(path, "", { mode: 0o600 });
    } catch (error) {
      throw SandboxError.from(error, `cannot write "${path}"`);
    }
  }

  /** Notes that it is not any more. */
  async noteResumed(): Promise<void> {
    const path = `${this.directory}/${PAUSED}`;
    await Deno.remove(path).catch((error: unknown) => {
      if (!(error instanceof Deno.errors.NotFound)) {
        throw SandboxError.from(error, `cannot remove "${path}"`);
      }
    });
  }

  /** Whether an earlier sandboxer had paused it. */
  async isPaused(): Promise<boolean> {
    return await Deno.stat(`${this.directory}/${PAUSED}`).then(() => true, () => false);
  }

  /** Removes them all; nothing that is mounted there. */
  async remove(): Promise<void> {
    await this.#readonly.clear();
    await removeTree(this.directory);
  }
}

/**
 * Unmounts what containers of a pod have below its directory.
 *
 * @param podDirectory The pod's directory.
 * @param mounter Mounts and unmounts.
 */
export async function unmountContainers(
  podDirectory: string,
  mounter: SourceMounter,
): Promise<void> {
  const directory = `${podDirectory}/${CONTAINERS}`;
  const entries = await Array.fromAsync(Deno.readDir(directory)).catch((error: unknown) => {
    if (error instanceof Deno.errors.NotFound) return [];
    throw SandboxError.from(error, `cannot read "${directory}"`);
  });
  for (const { name } of entries) {
    await new BoundSources(mounter, `${directory}/${name}/${READONLY}`).clear();
  }
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { recursive: true, mode: 0o711 });
  } catch (error) {
    throw SandboxError.from(error, `cannot make "${path}"`);
  }
}

/** Ids of containers have up to 64 characters, too long for the path of a socket. */
export function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}
