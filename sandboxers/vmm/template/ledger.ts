/**
 * Takes note on disk of machines that belong to no pod: those that templates are made of, and those
 * that are kept ready. A sandboxer that is killed leaves them behind; the next one ends them.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";
import type { Log } from "../../log.ts";
import type { Hypervisor, Machine, MachinePlace } from "../hypervisor.ts";

/** What a note ends with. */
const SUFFIX = ".json";

/** Notes of machines, each a file in one directory that only this process's user can write to. */
export class MachineLedger {
  readonly #directory: string;
  readonly #log: Log;

  /**
   * Reads nothing yet.
   *
   * @param directory Where notes are, an absolute path; made where it is missing.
   * @param log Where what went wrong is told.
   */
  constructor(directory: string, log: Log) {
    this.#directory = directory;
    this.#log = log;
  }

  /**
   * Takes note of a machine.
   *
   * @throws {SandboxError} `ResourceExhausted` where the disk is full.
   */
  async add(place: MachinePlace, machine: Pick<Machine, "record">): Promise<void> {
    const { id, directory, user, cgroup } = place;
    const note = { id, directory, user: user ?? null, cgroup, machine: machine.record };
    try {
      await Deno.mkdir(this.#directory, { recursive: true, mode: 0o700 });
      await Deno.writeTextFile(this.#path(id), JSON.stringify(note), { mode: 0o600 });
    } catch (error) {
      await this.remove(place);
      throw SandboxError.from(error, `cannot take note of machine "${id}"`);
    }
  }

  /** Forgets a machine. Does nothing where there is no note. */
  async remove({ id }: MachinePlace): Promise<void> {
    try {
      await Deno.remove(this.#path(id));
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
      this.#log.warn("cannot forget a machine", { machine: id, error: SandboxError.from(error) });
    }
  }

  /**
   * Ends the machines that an earlier process left behind, and forgets all of them. To be called
   * once at the start, before new machines are made.
   *
   * @param hypervisor Finds and ends them.
   * @param inUse The directories of machines that belong to pods by now: these go on.
   * @param free Takes a machine's place back.
   * @param options Whether those in use stay noted (default: they are forgotten).
   */
  async recover(
    hypervisor: Hypervisor,
    inUse: ReadonlySet<string>,
    free: (place: MachinePlace) => Promise<void>,
    { keepInUse = false }: { readonly keepInUse?: boolean } = {},
  ): Promise<void> {
    for (const { place, machine } of await this.#notes()) {
      const isInUse = inUse.has(place.directory);
      if (isInUse && keepInUse) continue;
      if (!isInUse) {
        try {
          await (await hypervisor.adopt(machine))?.stop();
          await free(place);
        } catch (error) {
          this.#log.warn("cannot end a machine that was left behind", {
            machine: place.id,
            error: SandboxError.from(error),
          });
          // The next start tries again.
          continue;
        }
      }
      await this.remove(place);
    }
  }

  /** All notes that can be read. */
  async #notes(): Promise<{ place: MachinePlace; machine: Json }[]> {
    const entries = await Array.fromAsync(Deno.readDir(this.#directory)).catch((error: unknown) => {
      if (error instanceof Deno.errors.NotFound) return [];
      throw SandboxError.from(error, `cannot read "${this.#directory}"`);
    });
    const notes = [];
    for (const { name } of entries.filter((entry) => entry.name.endsWith(SUFFIX))) {
      const path = `${this.#directory}/${name}`;
      const note = readNote(await Deno.readTextFile(path), name.slice(0, -SUFFIX.length));
      if (note !== undefined) notes.push(note);
      else {
        this.#log.warn("a note of a machine cannot be read", { path });
        await Deno.remove(path);
      }
    }
    return notes;
  }

  #path(id: string): string {
    return `${this.#directory}/${id}${SUFFIX}`;
  }
}

/** Reads a note; undefined where it is damaged: the disk was full, or the host lost power. */
function readNote(text: string, id: string): { place: MachinePlace; machine: Json } | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(value) || typeof value.directory !== "string" || !isJson(value.machine)) {
    return undefined;
  }
  const { directory, machine } = value;
  const user = isObject(value.user) ? value.user : { uid: undefined, gid: undefined };
  const { uid, gid } = user;
  return {
    place: {
      id,
      directory,
      user: typeof uid === "number" && typeof gid === "number" ? { uid, gid } : undefined,
      cgroup: typeof value.cgroup === "string" ? value.cgroup : "",
      sharedTreeSocket: undefined,
    },
    machine,
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What came out of a JSON text and is not missing is JSON. */
function isJson(value: unknown): value is Json {
  return value !== undefined;
}
