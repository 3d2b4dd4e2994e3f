/**
 * One machine under QEMU: runs, stands still, gets disks, grows, is saved and ends.
 *
 * @module
 */

import type { Log } from "../../log.ts";
import type { SandboxError } from "../../lifecycle/errors.ts";
import type { Json, PublishedPort } from "../../lifecycle/spec.ts";
import type { DiskSpec, Machine, MachineExit } from "../hypervisor.ts";
import { canGrow, MACHINE_FILES, type PluggedDisk } from "./command_line.ts";
import { Disks } from "./disks.ts";
import { growMachine, type MachineSize } from "./growth.ts";
import { logTail, removeFile } from "./own_files.ts";
import type { QmpClient } from "./qmp.ts";
import type { QmpEvent, ShutdownReason } from "./qmp_events.ts";
import { publishPorts } from "./ports.ts";
import { type MachineRecord, type MemoryFile, writeRecord } from "./record.ts";
import { saveMachine } from "./save.ts";
import { Turns } from "./turns.ts";
import type { VmmProcess } from "./vmm_launcher.ts";

/** How long QEMU may take to end when it is told to, in milliseconds; then it is killed. */
const QUIT_MS = 1_000;
/** How long its process may take after its control connection has ended, in milliseconds. */
const END_MS = 2_000;
/** How long the answer to a question about its state may take, in milliseconds. */
const STATUS_MS = 2_000;

/** What a {@link QemuMachine} is made of. */
export interface MachineParts {
  /** What is known of it. */
  readonly known: MachineRecord;
  /** QEMU's version. */
  readonly version: () => Promise<string>;
  /** Its process. */
  readonly process: VmmProcess;
  /** Its control connection. */
  readonly qmp: QmpClient;
  /** What was plugged in when it began. */
  readonly plugged: readonly PluggedDisk[];
  /** Where notes go. */
  readonly log: Log;
}

/** What QEMU has said about how it ends. */
interface Clues {
  shutdown?: ShutdownReason;
  panicked?: true;
  /** Why we ended it, where it was not for {@link QemuMachine.stop}. */
  failure?: string;
  stopped?: true;
}

/** A machine under QEMU. */
export class QemuMachine implements Machine {
  readonly pid: number;
  readonly record: Json;
  readonly agentSocket: string;
  readonly taps: readonly string[];
  readonly exited: Promise<MachineExit>;
  /** See {@link Machine.grow}. */
  readonly grow?: (size: MachineSize) => Promise<void>;
  /** Its disks. */
  readonly disks: Disks;
  readonly #parts: MachineParts;
  readonly #exit = Promise.withResolvers<MachineExit>();
  readonly #turns = new Turns();
  readonly #clues: Clues = {};
  /** The file with its memory, as long as it is the machine's. */
  #memory: MemoryFile | undefined;
  #released = false;
  #stopping: Promise<void> | undefined;
  /** Whether it stands still because we told it to. */
  #pausing = false;

  /**
   * Takes hold of a machine that runs.
   *
   * @param parts What it is made of; all of it is the machine's from here on.
   */
  constructor(parts: MachineParts) {
    const { known, process, qmp } = parts;
    const { place, spec } = known;
    this.#parts = parts;
    this.#memory = known.memory;
    this.pid = process.identity.pid;
    this.record = writeRecord(known);
    this.agentSocket = `${place.directory}/${MACHINE_FILES.agent}`;
    const count = spec.network === "tap" ? spec.interfaces : 0;
    this.taps = Array.from({ length: count }, (_, index) => `tap${index}`);
    this.exited = this.#exit.promise;
    this.disks = new Disks(qmp, place.id, spec.diskSlots, parts.plugged);
    if (canGrow(spec)) {
      this.grow = (size) => this.#turns.take(() => growMachine(qmp, spec, size));
    }
    qmp.closed.then((failure) => this.#onEnd(failure));
  }

  /** Hears what QEMU says unasked. */
  handle(event: QmpEvent): void {
    this.#parts.log.debug("QEMU event", { ...event });
    this.disks.handle(event);
    if (event.kind === "SHUTDOWN") this.#clues.shutdown ??= event.reason;
    else if (event.kind === "GUEST_PANICKED") this.#clues.panicked = true;
    else if (event.kind === "STOP" && !this.#pausing) void this.#look();
  }

  /** See {@link Machine.resume}. */
  resume(signal?: AbortSignal): Promise<void> {
    return this.#turns.take(async () => {
      await this.#parts.qmp.execute("cont", {}, { signal });
      this.#pausing = false;
    });
  }

  /** See {@link Machine.pause}. */
  pause(): Promise<void> {
    return this.#turns.take(async () => {
      this.#pausing = true;
      await this.#parts.qmp.execute("stop", {});
    });
  }

  /** See {@link Machine.attachDisk}. */
  attachDisk(disk: DiskSpec, signal: AbortSignal): Promise<{ readonly serial: string }> {
    return this.disks.attach(disk, signal);
  }

  /** See {@link Machine.detachDisk}. */
  detachDisk(serial: string): Promise<void> {
    return this.disks.detach(serial);
  }

  /** See {@link Machine.publish}. */
  publish(ports: readonly PublishedPort[], signal: AbortSignal): Promise<void> {
    return this.#turns.take(() => publishPorts(this.#parts.qmp, ports, signal));
  }

  /** See {@link Machine.save}. */
  save(directory: string, options: { readonly resume: boolean }): Promise<void> {
    return this.#turns.take(async () => {
      const { known, qmp } = this.#parts;
      const stoodStill = this.#pausing;
      this.#pausing = true;
      const end = options.resume ? undefined : () => this.#end();
      try {
        const version = await this.#parts.version();
        await saveMachine({ known, version, qmp, disks: this.disks, directory, end });
        if (!options.resume) this.#memory = undefined;
      } finally {
        if (this.#clues.stopped === true) await this.stop();
        else if (!stoodStill) {
          await qmp.execute("cont", {});
          this.#pausing = false;
        }
      }
    });
  }

  /** See {@link Machine.stop}. */
  stop(): Promise<void> {
    return this.#stopping ??= this.#stop().catch((error: unknown) => {
      // The next call tries again.
      this.#stopping = undefined;
      throw error;
    });
  }

  /** See {@link Machine.release}. */
  release(): void {
    this.#released = true;
    this.#parts.qmp.close();
  }

  /**
   * Looks whether it runs, and ends it where it never will again.
   *
   * @returns Its state by QEMU's name.
   */
  async look(): Promise<string> {
    const { status } = await this.#parts.qmp.execute("query-status", {}, { timeoutMs: STATUS_MS });
    // `paused` is our own doing, or an earlier process's.
    if (status === "paused" || status === "postmigrate") this.#pausing = true;
    else if (status === "guest-panicked") this.#clues.panicked = true;
    else if (status === "internal-error" || status === "io-error") {
      await this.#giveUp(FAILED_STATES[status]);
    }
    return status;
  }

  /** Waits until its process has ended. @returns How; undefined where it still runs. */
  endOf(timeoutMs: number): Promise<string | undefined> {
    return this.#parts.process.waitForEnd(timeoutMs);
  }

  async #look(): Promise<void> {
    await this.look().catch((thrown) => {
      this.#parts.log.debug("cannot ask QEMU for its state", { error: thrown });
    });
  }

  async #giveUp(failure: string): Promise<void> {
    if (this.#clues.stopped !== true) this.#clues.failure ??= failure;
    await this.#parts.process.kill();
  }

  async #stop(): Promise<void> {
    if (this.#released) return;
    await this.#end();
    await removeMachineFiles({ place: this.#parts.known.place, memory: this.#memory });
  }

  async #end(): Promise<void> {
    this.#clues.stopped ??= true;
    const { qmp, process } = this.#parts;
    // It closes its connections in order; what it does not do in time is not waited for.
    await qmp.execute("quit", {}, { timeoutMs: QUIT_MS }).catch(() => undefined);
    if (await process.waitForEnd(QUIT_MS) === undefined) await process.kill();
    qmp.close();
    await this.exited;
  }

  /** Its control connection has ended: so has QEMU, or it is of no use any more. */
  async #onEnd(failure: SandboxError | undefined): Promise<void> {
    if (this.#released) return;
    const { process, known, log } = this.#parts;
    let end = await process.waitForEnd(END_MS).catch(() => undefined);
    if (end === undefined) {
      this.#clues.failure ??= failure?.message ?? "its control connection was closed";
      await process.kill().catch((error) => log.error("cannot kill QEMU", { error }));
      end = "it was killed";
    }
    const tail = await logTail(`${known.place.directory}/${MACHINE_FILES.log}`);
    const exit = judge(this.#clues, end, tail);
    log.debug("QEMU has ended", { ...exit });
    this.#exit.resolve(exit);
  }
}

/** Removes what a machine leaves in its directory, but not its logs. */
export async function removeMachineFiles(
  { place, memory }: Pick<MachineRecord, "place" | "memory">,
): Promise<void> {
  const files = [MACHINE_FILES.agent, MACHINE_FILES.qmp].map((name) =>
    `${place.directory}/${name}`
  );
  if (memory !== undefined) files.push(memory.path);
  for (const file of files) await removeFile(file);
}

const FAILED_STATES = {
  "internal-error": "its accelerator failed: QEMU cannot go on with the guest",
  "io-error": "a disk of it failed on the host",
} as const;

/** Why it ended, by what QEMU said before. */
function judge(clues: Clues, end: string, tail: string): MachineExit {
  const at = Date.now();
  const said = tail === "" ? "" : `; QEMU said: ${tail}`;
  if (clues.stopped === true) return { reason: "stopped", at, message: end };
  if (clues.failure !== undefined) {
    return { reason: "crash", at, message: `${clues.failure}; ${end}${said}` };
  }
  if (clues.panicked === true || clues.shutdown === "guest-panic") {
    return { reason: "panic", at, message: `the guest's kernel panicked${said}` };
  }
  switch (clues.shutdown) {
    case "guest-shutdown":
      return { reason: "powerOff", at, message: "the guest switched itself off" };
    // Its kernel is told to restart after a panic, and nothing else in it does so.
    case "guest-reset":
      return { reason: "panic", at, message: `the guest restarted, as after a panic${said}` };
    case "host-qmp-quit":
      return { reason: "stopped", at, message: end };
    case "host-signal":
      return { reason: "crash", at, message: `somebody ended QEMU by a signal; ${end}${said}` };
    default:
      return { reason: "crash", at, message: `QEMU died: ${end}${said}` };
  }
}
