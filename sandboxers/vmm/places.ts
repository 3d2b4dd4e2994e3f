/**
 * Where machines live on the host: each in a directory of its own, as a user of its own. Directories
 * are named at random, short enough for the paths of unix sockets.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { MachinePlace } from "./hypervisor.ts";

/** How many users VMMs can run as at a time. */
const USERS_MAX = 60_000;

/** What {@link MachinePlaces} works with. */
export interface PlacesOptions {
  /** The directory of all places, an absolute path; made where it is missing. */
  readonly directory: string;
  /** The first user id of VMMs, and the group of all; undefined for this process's own user. */
  readonly firstUser: number | undefined;
  /** Removes a cgroup that a machine was in, where it is empty; must not throw. */
  readonly removeCgroup?: (cgroup: string) => Promise<void>;
}

/** Hands places out. */
export class MachinePlaces {
  readonly #directory: string;
  readonly #firstUser: number | undefined;
  readonly #removeCgroup: (cgroup: string) => Promise<void>;
  readonly #used = new Set<number>();
  #last = 0;

  /** Makes nothing yet. */
  constructor({ directory, firstUser, removeCgroup }: PlacesOptions) {
    this.#directory = directory;
    this.#firstUser = firstUser;
    this.#removeCgroup = removeCgroup ?? (() => Promise.resolve());
  }

  /** The group that all VMMs are in; undefined where they run as this process's own user. */
  get group(): number | undefined {
    return this.#firstUser;
  }

  /**
   * Makes a place.
   *
   * @param cgroup The cgroup to start in; empty for this process's own.
   * @param sharedTreeSocket The socket of the file server; undefined without one.
   * @returns A place whose directory is there; to be given back by {@link MachinePlaces.free}.
   * @throws {SandboxError} `ResourceExhausted` where all users are taken or the disk is full.
   */
  async make(cgroup: string, sharedTreeSocket?: string): Promise<MachinePlace> {
    const id = crypto.randomUUID().replaceAll("-", "").slice(0, 12);
    const directory = `${this.#directory}/${id}`;
    const user = this.#takeUser();
    try {
      await Deno.mkdir(this.#directory, { recursive: true, mode: 0o711 });
      await Deno.mkdir(directory, { mode: 0o700 });
      if (user !== undefined) await Deno.chown(directory, user.uid, user.gid);
    } catch (error) {
      if (user !== undefined) this.#used.delete(user.uid);
      throw SandboxError.from(error, `cannot make "${directory}" for a machine`);
    }
    return { id, directory, user, cgroup, sharedTreeSocket };
  }

  /** Takes note of a place that an earlier process made. */
  keep(place: MachinePlace): void {
    if (place.user !== undefined) this.#used.add(place.user.uid);
  }

  /** Takes a place back, once its machine has ended. May be called more than once. */
  async free(place: MachinePlace): Promise<void> {
    if (place.cgroup !== "") await this.#removeCgroup(place.cgroup);
    await remove(place.directory);
    if (place.user !== undefined) this.#used.delete(place.user.uid);
  }

  /**
   * Removes directories that no machine lives in any more.
   *
   * @param inUse The directories of those that do.
   * @param end Ends what may run in a directory although nobody has taken note of it.
   */
  async sweep(
    inUse: ReadonlySet<string>,
    end: (directory: string) => Promise<void> = () => Promise.resolve(),
  ): Promise<void> {
    const entries = await Array.fromAsync(Deno.readDir(this.#directory)).catch((error: unknown) => {
      if (error instanceof Deno.errors.NotFound) return [];
      throw SandboxError.from(error, `cannot read "${this.#directory}"`);
    });
    for (const { name } of entries) {
      const directory = `${this.#directory}/${name}`;
      if (inUse.has(directory)) continue;
      await end(directory);
      await remove(directory);
    }
  }

  #takeUser(): MachinePlace["user"] {
    const first = this.#firstUser;
    if (first === undefined) return undefined;
    for (let tried = 0; tried < USERS_MAX; tried++) {
      // Not the one that was given back last: something of its may be just ending.
      this.#last = this.#last % USERS_MAX + 1;
      const uid = first + this.#last;
      if (this.#used.has(uid)) continue;
      this.#used.add(uid);
      return { uid, gid: first };
    }
    throw new SandboxError(
      "ResourceExhausted",
      `cannot start a machine: all ${USERS_MAX} users from ${first} on are taken`,
    );
  }
}

async function remove(directory: string): Promise<void> {
  try {
    await Deno.remove(directory, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
