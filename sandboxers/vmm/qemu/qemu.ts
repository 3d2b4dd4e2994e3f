/**
 * QEMU as a hypervisor: boots machines, clones saved ones, and takes over those that an earlier
 * process started. A machine that could not be started leaves nothing behind.
 *
 * @module
 */

import type { Launcher } from "../../host/launcher.ts";
import { abortError, SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";
import { type Log, noLog } from "../../log.ts";
import type {
  CloneOptions,
  Hypervisor,
  Machine,
  MachinePlace,
  MachineSpec,
  SavedMachine,
} from "../hypervisor.ts";
import { BootFiles, startError } from "./checks.ts";
import {
  type GuestMemory,
  MACHINE_FILES,
  type MachineStart,
  qemuArguments,
  slotNames,
} from "./command_line.ts";
import { QemuMachine, removeMachineFiles } from "./machine.ts";
import { copySparsely } from "./memory_copy.ts";
import { identityOf, logTail, removeFile } from "./own_files.ts";
import { QmpClient } from "./qmp.ts";
import type { QmpEvent } from "./qmp_events.ts";
import { type MachineRecord, type MemoryFile, readRecord, writeRecord } from "./record.ts";
import { findSaved, readManifest, savedFile, type SavedManifest } from "./saved.ts";
import { confinedVmms, type VmmLauncher, type VmmProcess } from "./vmm_launcher.ts";
import { missingProgram, qemuVersion } from "./version.ts";

/** Who takes note of machines, so that those of a process that was killed can be found. */
export interface MachineNotes {
  /** Takes note of one. Where that fails it is not started. */
  add(place: MachinePlace, machine: Pick<Machine, "record">): Promise<void>;
  /** Forgets one. Does nothing where there is no note, and never throws. */
  remove(place: MachinePlace): Promise<void>;
}

/** Options of {@link Qemu}. */
export interface QemuOptions {
  /** QEMU itself, an absolute path such as `/usr/bin/qemu-system-x86_64`. */
  readonly program: string;
  /** Starts and ends it. */
  readonly launcher: Launcher | VmmLauncher;
  /** Connects to a machine's control socket by its path. */
  readonly connect: (path: string) => Promise<Deno.UnixConn>;
  /** A directory of this process's own, for what QEMU says of itself. */
  readonly directory: string;
  /** Measures the host's time stamp counter in kHz; asked only for `microvm` without KVM. */
  readonly tscKhz: () => Promise<number>;
  /** Takes note of every machine, from when its process is there until that has ended. */
  readonly notes?: MachineNotes;
  /** Where notes go. Default: nowhere. */
  readonly log?: Log;
  /** How long QEMU may take until it answers, in milliseconds. Default 20 s. */
  readonly startTimeoutMs?: number;
  /** How long the answer to a command may take, in milliseconds. Default 10 s. */
  readonly commandTimeoutMs?: number;
}

/** How long reading a whole memory may take, in milliseconds: as long as writing it may. */
const WHOLE_LOAD_MS = 120_000;
/** How often a new VMM is looked at, in milliseconds. */
const LOOK_MS = 2;
/** How long an adopted VMM may take to greet, in milliseconds: another may still be connected. */
const ADOPT_MS = 20_000;

/** How long a machine that was left behind may take to end, in milliseconds. */
const STRAY_MS = 5_000;

/** How long a QEMU that went wrong may take to end by itself, in milliseconds: it says why then. */
const EARLY_END_MS = 300;
/** Most events that are kept until somebody hears them. */
const EARLY_EVENTS_MAX = 100;

/** What a start needs beside a place. */
interface Beginning {
  readonly spec: MachineSpec;
  readonly place: MachinePlace;
  readonly start: MachineStart;
  readonly memory: GuestMemory;
  readonly balloon: boolean;
  readonly signal: AbortSignal;
}

/** QEMU. */
export class Qemu implements Hypervisor {
  readonly name = "qemu";
  readonly #options: QemuOptions;
  readonly #vmms: VmmLauncher;
  readonly #log: Log;
  readonly #bootFiles = new BootFiles();
  #version: Promise<string> | undefined;

  /**
   * Starts nothing yet.
   *
   * @param options Which QEMU, and what it needs of the host.
   */
  constructor(options: QemuOptions) {
    const { launcher } = options;
    this.#options = options;
    this.#vmms = "firstTapFd" in launcher ? launcher : confinedVmms(launcher);
    this.#log = options.log ?? noLog;
  }

  /** See {@link Hypervisor.version}. */
  async version(): Promise<string> {
    const { program, directory } = this.#options;
    this.#version ??= qemuVersion(this.#vmms, program, directory);
    try {
      return await this.#version;
    } catch (thrown) {
      // It may be installed by the next time.
      this.#version = undefined;
      throw thrown;
    }
  }

  /** See {@link Hypervisor.boot}. */
  async boot(spec: MachineSpec, place: MachinePlace, signal: AbortSignal): Promise<QemuMachine> {
    const action = `cannot boot machine "${place.id}"`;
    throwIfAborted(signal, action);
    await this.#bootFiles.check(action, spec);
    const needsClock = spec.accelerator === "tcg" && spec.machine === "microvm";
    const tscKhz = needsClock ? await this.#options.tscKhz() : 0;
    return await this.#attempt(action, place, signal, async () => {
      const memory = await this.#freshMemory(spec, place);
      const start: MachineStart = { kind: "boot", tscKhz };
      // Memory in a file is that of a template: its clones are private.
      const balloon = memory.kind === "anonymous" || spec.sharedTree;
      return await this.#begin(action, { spec, place, memory, balloon, start, signal });
    });
  }

  /** See {@link Hypervisor.clone}. */
  async clone(
    saved: SavedMachine,
    place: MachinePlace,
    options: CloneOptions,
    signal: AbortSignal,
  ): Promise<QemuMachine> {
    const action = `cannot clone machine "${place.id}"`;
    throwIfAborted(signal, action);
    const manifest = await readManifest(saved, await this.version());
    return await this.#attempt(action, place, signal, async () => {
      const memory = await this.#clonedMemory(saved, manifest, place, options, signal);
      // Images are put into their slots before the guest can miss them.
      const hold = options.paused || manifest.slots.length > 0;
      const { spec } = saved;
      const start: MachineStart = {
        kind: "load",
        state: savedFile(saved.directory, "state"),
        whole: manifest.whole,
        paused: hold,
        plugged: manifest.plugged.map((disk) => ({
          ...disk,
          path: options.images?.get(disk.serial) ?? disk.path,
        })),
      };
      const { balloon } = manifest;
      const machine = await this.#begin(action, { spec, place, memory, balloon, start, signal });
      try {
        const status = await this.#loaded(machine, manifest.whole, signal);
        for (const { slot, path } of manifest.slots) {
          const image = options.images?.get(slotNames(slot).name) ?? path;
          await machine.disks.restore(slot, image);
        }
        if (!options.paused && (hold || status !== "running")) await machine.resume(signal);
        return machine;
      } catch (thrown) {
        const end = await machine.endOf(signal.aborted ? 0 : EARLY_END_MS);
        await machine.stop();
        if (signal.aborted) throw abortError(signal, action);
        throw startError(action, thrown, end, await this.#said(place));
      }
    });
  }

  /** See {@link Hypervisor.saved}. */
  async saved(directory: string): Promise<SavedMachine> {
    return await findSaved(directory, await this.version());
  }

  /** See {@link Hypervisor.adopt}. */
  async adopt(record: Json): Promise<QemuMachine | undefined> {
    const known = readRecord(record);
    const process = await this.#vmms.find(known.process);
    if (process === undefined) {
      await removeMachineFiles(known);
      return undefined;
    }
    const events = new EventRelay();
    try {
      const path = `${known.place.directory}/${MACHINE_FILES.qmp}`;
      const qmp = await this.#control(path, events, AbortSignal.timeout(ADOPT_MS));
      const machine = this.#machine(known, process, qmp, events, []);
      await machine.disks.discover();
      await machine.look();
      return machine;
    } catch (thrown) {
      this.#log.warn("cannot adopt a machine: it is ended", {
        machine: known.place.id,
        error: thrown,
      });
      await process.kill();
      await removeMachineFiles(known);
      return undefined;
    }
  }

  /**
   * Ends a machine that an earlier process had started, and was killed before it could take note of.
   * One that has no control socket yet does not get one, and ends by itself, once its directory is
   * gone.
   *
   * @param directory The machine's directory.
   */
  async endStray(directory: string): Promise<void> {
    const path = `${directory}/${MACHINE_FILES.qmp}`;
    if (!await isThere(path)) return;
    try {
      const qmp = await this.#control(path, new EventRelay(), AbortSignal.timeout(STRAY_MS));
      await qmp.execute("quit", {}, { timeoutMs: STRAY_MS }).catch(() => undefined);
      await qmp.closed;
      this.#log.info("ended a machine that was left behind", { directory });
    } catch (error) {
      if (isTooEarly(error)) return;
      this.#log.warn("cannot end a machine that was left behind", { directory, error });
    }
  }

  /** Runs an effect that starts a machine; on failure nothing is left in its directory. */
  async #attempt<T>(
    action: string,
    place: MachinePlace,
    signal: AbortSignal,
    effect: () => Promise<T>,
  ): Promise<T> {
    const files = [
      `${place.directory}/${MACHINE_FILES.agent}`,
      `${place.directory}/${MACHINE_FILES.qmp}`,
      memoryPath(place),
    ];
    // What an earlier machine left here would be taken for this one's.
    for (const file of files) await removeFile(file);
    try {
      return await effect();
    } catch (thrown) {
      for (const file of files) await removeFile(file).catch(() => undefined);
      if (signal.aborted) throw abortError(signal, action);
      throw SandboxError.from(thrown, action);
    }
  }

  /** A file for the memory of a machine that boots, where it wants one. */
  async #freshMemory(spec: MachineSpec, place: MachinePlace): Promise<GuestMemory> {
    const { memoryFile, user } = place;
    if (memoryFile === undefined) return { kind: "anonymous" };
    using file = await Deno.open(memoryFile, { write: true, createNew: true, mode: 0o600 });
    await file.truncate(spec.memoryBytes);
    if (user !== undefined) await Deno.chown(memoryFile, user.uid, user.gid);
    return { kind: "file", path: memoryFile };
  }

  async #clonedMemory(
    saved: SavedMachine,
    manifest: SavedManifest,
    place: MachinePlace,
    options: CloneOptions,
    signal: AbortSignal,
  ): Promise<GuestMemory> {
    if (manifest.whole) return { kind: "anonymous" };
    const path = savedFile(saved.directory, "memory");
    if (options.memory === "private") return { kind: "private", path };
    const copy = memoryPath(place);
    using file = await Deno.open(path);
    await copySparsely(file, copy, 0o600, signal);
    if (place.user !== undefined) await Deno.chown(copy, place.user.uid, place.user.gid);
    return { kind: "file", path: copy };
  }

  /** Starts QEMU and waits until it answers. */
  async #begin(action: string, beginning: Beginning): Promise<QemuMachine> {
    const { spec, place, start, memory, balloon, signal } = beginning;
    const { firstTapFd } = this.#vmms;
    const args = qemuArguments({ spec, place, start, memory, balloon, firstTapFd });
    const log = `${place.directory}/${MACHINE_FILES.log}`;
    await removeFile(log);
    const taps = spec.network === "tap" ? spec.interfaces : 0;
    const { program } = this.#options;
    this.#log.debug("start QEMU", { machine: place.id, program, args });
    const process = await this.#vmms.start({
      program,
      args,
      place,
      log,
      network: spec.network === "user" ? "host" : { taps },
      kvm: spec.accelerator === "kvm",
    }, signal).catch((thrown) => {
      throw missingProgram(action, program, thrown);
    });
    const events = new EventRelay();
    const file = memory.kind === "file" ? await memoryFile(memory.path) : undefined;
    const known = { process: process.identity, spec, place, memory: file, balloon };
    const { notes } = this.#options;
    try {
      await notes?.add(place, { record: writeRecord(known) });
      const path = `${place.directory}/${MACHINE_FILES.qmp}`;
      const qmp = await this.#firstControl(path, process, events, signal);
      const plugged = start.kind === "load" ? start.plugged : [];
      return this.#machine(known, process, qmp, events, plugged);
    } catch (thrown) {
      const end = await process.waitForEnd(signal.aborted ? 0 : EARLY_END_MS);
      await process.kill();
      await notes?.remove(place);
      if (signal.aborted) throw abortError(signal, action);
      throw startError(action, thrown, end, await this.#said(place));
    }
  }

  #machine(
    known: MachineRecord,
    process: VmmProcess,
    qmp: QmpClient,
    events: EventRelay,
    plugged: ConstructorParameters<typeof QemuMachine>[0]["plugged"],
  ): QemuMachine {
    const log = this.#log.child({ machine: known.place.id });
    const version = () => this.version();
    const machine = new QemuMachine({ known, version, process, qmp, plugged, log });
    events.to((event) => machine.handle(event));
    void machine.exited.then(() => this.#options.notes?.remove(known.place));
    return machine;
  }

  /** Connects to a QEMU that has just been started: its socket comes when it is ready. */
  async #firstControl(
    path: string,
    process: VmmProcess,
    events: EventRelay,
    signal: AbortSignal,
  ): Promise<QmpClient> {
    const timeoutMs = this.#options.startTimeoutMs ?? 20_000;
    const ended = new AbortController();
    const done = new AbortController();
    const late = AbortSignal.any([signal, ended.signal, AbortSignal.timeout(timeoutMs)]);
    const watching = process.waitForEnd(timeoutMs, done.signal).then((end) => {
      if (end !== undefined) ended.abort(new SandboxError("FailedPrecondition", end));
    });
    try {
      for (;;) {
        if (late.aborted) throw abortError(late, "it did not answer");
        if (await isThere(path)) {
          const qmp = await this.#control(path, events, late).catch((thrown) => {
            if (!isTooEarly(thrown)) throw thrown;
          });
          if (qmp !== undefined) return qmp;
        }
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
    } finally {
      done.abort();
      await watching;
    }
  }

  async #control(path: string, events: EventRelay, signal: AbortSignal): Promise<QmpClient> {
    const connection = await this.#options.connect(path);
    const { commandTimeoutMs } = this.#options;
    return await QmpClient.open(connection, {
      onEvent: (event) => events.take(event),
      ...(commandTimeoutMs === undefined ? {} : { timeoutMs: commandTimeoutMs }),
    }, signal);
  }

  /** Waits until a clone has its state. */
  async #loaded(machine: QemuMachine, whole: boolean, signal: AbortSignal): Promise<string> {
    const timeoutMs = whole ? WHOLE_LOAD_MS : this.#options.startTimeoutMs ?? 20_000;
    for (const end = Date.now() + timeoutMs;;) {
      throwIfAborted(signal, "cannot load it");
      const status = await machine.look();
      if (status !== "inmigrate" && status !== "prelaunch") return status;
      if (Date.now() > end) {
        throw new SandboxError("DeadlineExceeded", `it was not loaded within ${timeoutMs} ms`);
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  #said(place: MachinePlace): Promise<string> {
    return logTail(`${place.directory}/${MACHINE_FILES.log}`);
  }
}

/** Events that come before somebody can hear them are kept. */
class EventRelay {
  #early: QmpEvent[] = [];
  #listener: ((event: QmpEvent) => void) | undefined;

  take(event: QmpEvent): void {
    if (this.#listener !== undefined) this.#listener(event);
    else if (this.#early.length < EARLY_EVENTS_MAX) this.#early.push(event);
  }

  to(listener: (event: QmpEvent) => void): void {
    this.#listener = listener;
    for (const event of this.#early) listener(event);
    this.#early = [];
  }
}

/** Where the copy of a saved machine's memory goes. */
function memoryPath(place: MachinePlace): string {
  return place.memoryFile ?? `${place.directory}/${MACHINE_FILES.memory}`;
}

async function memoryFile(path: string): Promise<MemoryFile> {
  return { path, ...identityOf(await Deno.lstat(path)) };
}

async function isThere(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch {
    return false;
  }
}

/** Whether a socket is there, but nobody listens yet. */
function isTooEarly(thrown: unknown): boolean {
  if (thrown instanceof Deno.errors.ConnectionRefused) return true;
  if (thrown instanceof Deno.errors.NotFound) return true;
  return thrown instanceof SandboxError && /nobody listens|No such file/.test(thrown.message);
}
