/**
 * Saves a machine with its memory. Memory in a file stays out of QEMU's stream (`x-ignore-shared`):
 * the file itself is kept, and clones map it. Memory of any other kind goes into the stream, each
 * page at its own place (`mapped-ram`), and each clone reads all of it.
 *
 * QEMU stops the guest by itself at the end of a save and remembers that it ran, so a clone runs as
 * soon as it is loaded. It must not be stopped before.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Disks } from "./disks.ts";
import { hasGrown } from "./growth.ts";
import { machineLayout } from "./layout.ts";
import { copySparsely } from "./memory_copy.ts";
import { openOwnFile, removeFile } from "./own_files.ts";
import type { QmpClient } from "./qmp.ts";
import type { MachineRecord, MemoryFile } from "./record.ts";
import { SAVED_FILES, savedFile, writeManifest } from "./saved.ts";

/** What {@link saveMachine} needs. */
export interface SaveInput {
  /** What is known of the machine. */
  readonly known: MachineRecord;
  /** QEMU's version. */
  readonly version: string;
  /** Its control connection. */
  readonly qmp: QmpClient;
  /** Its disks. */
  readonly disks: Disks;
  /** Where it goes: a directory that the VMM's user can enter. */
  readonly directory: string;
  /** Ends the machine, where it is not to go on; its memory's file stays. */
  readonly end: (() => Promise<void>) | undefined;
}

/** How long a save may take, in milliseconds. */
const SAVE_MS = 120_000;
/** How often QEMU is asked how far it is, in milliseconds. */
const LOOK_MS = 3;
/** How long the guest may stand still at the end: so long that one pass over its memory is enough. */
const DOWNTIME_MS = 60_000;
/** Bytes per second that a save may write: QEMU's own bound is for networks. */
const BYTES_PER_SECOND_MAX = 2 ** 40;

/**
 * Saves a machine, which stands still afterwards. On failure nothing is left in the directory.
 *
 * @throws {SandboxError} `FailedPrecondition` where it has what cannot be saved.
 */
export async function saveMachine(input: SaveInput): Promise<void> {
  const { known, directory, disks } = input;
  try {
    await checkSavable(input);
    await writeState(input);
    const manifest = {
      version: input.version,
      layout: machineLayout(),
      spec: known.spec,
      whole: known.memory === undefined,
      balloon: known.balloon,
      slots: disks.inserted,
      plugged: disks.plugged.map(({ port, path, serial }) => ({ port, path, serial })),
    };
    // What still runs could write to files that are the saved machine's by then.
    await input.end?.();
    if (known.memory !== undefined) await keepMemory(input, known.memory);
    await own(savedFile(directory, "state"), known);
    await writeManifest(directory, manifest);
  } catch (thrown) {
    for (const name of Object.values(SAVED_FILES)) {
      const path = `${directory}/${name}`;
      // The file that the machine still runs on stays.
      if (path !== known.memory?.path) await removeFile(path).catch(() => undefined);
    }
    const error = SandboxError.from(thrown);
    const action = `cannot save machine "${known.place.id}" to "${directory}"`;
    throw new SandboxError(error.code, `${action}: ${error.message}`, { cause: error });
  }
}

async function checkSavable({ known, disks, qmp, directory, end }: SaveInput): Promise<void> {
  if (end === undefined && known.memory?.path === savedFile(directory, "memory")) {
    throw new SandboxError(
      "FailedPrecondition",
      "its own memory lives there: save it somewhere else, or end it with the save",
    );
  }
  const writable = disks.plugged.find(({ readonly }) => !readonly);
  if (writable !== undefined) {
    throw new SandboxError(
      "FailedPrecondition",
      `disk "${writable.serial}" is writable, and its clones would write to the same one: detach it`,
    );
  }
  if (await hasGrown(qmp, known.spec)) {
    throw new SandboxError("FailedPrecondition", "memory was plugged into it");
  }
}

async function writeState({ known, qmp, directory }: SaveInput): Promise<void> {
  const state = savedFile(directory, "state");
  const whole = known.memory === undefined;
  await removeFile(state);
  // Made by us and given to the VMM, which may not make files there.
  (await Deno.open(state, { write: true, createNew: true, mode: 0o600 })).close();
  const { user } = known.place;
  if (user !== undefined) await Deno.chown(state, user.uid, user.gid);
  await qmp.execute("migrate-set-capabilities", {
    capabilities: [
      { capability: "x-ignore-shared", state: !whole },
      { capability: "mapped-ram", state: whole },
    ],
  });
  await qmp.execute("migrate-set-parameters", {
    "max-bandwidth": BYTES_PER_SECOND_MAX,
    "downtime-limit": DOWNTIME_MS,
  });
  await qmp.execute("migrate", { uri: `file:${state}` });
  const end = Date.now() + SAVE_MS;
  for (;;) {
    const { status, error } = await qmp.execute("query-migrate", {});
    if (status === "completed") return;
    if (status === "failed" || status === "cancelled") {
      const code = /No space left|Disk quota/i.test(error) ? "ResourceExhausted" : "Internal";
      throw new SandboxError(code, `QEMU says: ${error === "" ? status : error}`);
    }
    if (Date.now() > end) {
      await qmp.execute("migrate_cancel", {}).catch(() => undefined);
      throw new SandboxError("DeadlineExceeded", `it took longer than ${SAVE_MS} ms`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** Keeps the memory of a machine that stands still or has ended. */
async function keepMemory(input: SaveInput, memory: MemoryFile): Promise<void> {
  const { known, directory, end } = input;
  const kept = savedFile(directory, "memory");
  using file = await openOwnFile(memory.path, memory);
  if (end === undefined || !await moved(memory.path, kept)) {
    await copySparsely(file, kept, 0o600);
    if (end !== undefined) await removeFile(memory.path);
  }
  await own(kept, known);
}

/** Moves a file. @returns False where that is on another file system. */
async function moved(from: string, to: string): Promise<boolean> {
  if (from === to) return true;
  try {
    await Deno.rename(from, to);
    return true;
  } catch {
    return false;
  }
}

/** Takes a file from the VMM: from now on its group can read it and nobody can write to it. */
async function own(path: string, { place }: MachineRecord): Promise<void> {
  if (place.user !== undefined) await Deno.chown(path, 0, place.user.gid);
  await Deno.chmod(path, 0o440);
}
