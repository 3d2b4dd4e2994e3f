/**
 * The processes that the host knows by name: containers' first processes and those beside them.
 * How one ended is kept and told to every host that connects, until it is acknowledged.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type { AgentEvent, GuestStdio, ProcessExit, ProcessName } from "../protocol/messages.ts";
import { ESRCH, systemError } from "./errno.ts";
import { after, type Timer } from "./loop.ts";
import { type ChildExit, watchChild } from "./processes.ts";
import type { ProcessStdio } from "./stdio.ts";
import * as sys from "./sys.js";

/** Processes and exits that are kept at once. */
const PROCESSES_MAX = 4096;
/** After how long an exit that could not be told is told again, in milliseconds. */
const RETRY_MS = 1000;

/** A process that the host knows. */
export interface NamedProcess {
  /** Its name. */
  readonly name: ProcessName;
  /** Its id; of another process, perhaps, once {@link exit} is set. */
  readonly pid: number;
  /** Its standard streams. */
  readonly stdio: ProcessStdio;
  /** The streams as the host asked for them. */
  readonly streams: GuestStdio;
  /** How it ended; undefined while it runs. */
  readonly exit: ProcessExit | undefined;
}

/** A process to keep. */
export interface NewProcess extends Omit<NamedProcess, "exit"> {
  /** Whether the kernel has killed something in its container for want of memory; asked at its end. */
  readonly oom?: () => boolean;
  /** Called at its end, before the host is told. */
  readonly ended?: (exit: ProcessExit) => void;
}

interface Kept extends NewProcess {
  exit: ProcessExit | undefined;
}

function keyOf(name: ProcessName): string {
  return `${name.container}/${name.exec}`;
}

/** See the module. */
export class ProcessTable {
  readonly #processes = new Map<string, Kept>();
  /** Processes whose exit the host could not be told. */
  readonly #untold = new Set<Kept>();
  #retry: Timer | undefined;
  readonly #tell: (event: AgentEvent) => boolean;

  /**
   * Makes an empty table.
   *
   * @param tell Sends an event; false where it was not taken, then it is told again later.
   */
  constructor(tell: (event: AgentEvent) => boolean) {
    this.#tell = tell;
  }

  /**
   * Checks that a name is free and that there is room, before a process is started.
   *
   * @param name The name.
   * @throws AgentError `AlreadyExists`, `ResourceExhausted`.
   */
  reserve(name: ProcessName): void {
    if (this.#processes.has(keyOf(name))) {
      throw new AgentError("AlreadyExists", `process "${name.exec}" of "${name.container}" exists`);
    }
    if (this.#processes.size >= PROCESSES_MAX) {
      throw new AgentError(
        "ResourceExhausted",
        `cannot keep more than ${PROCESSES_MAX} processes: acknowledge their exits`,
      );
    }
  }

  /**
   * Keeps a process that was started, and waits for its end.
   *
   * @param process The process; it may have ended already, but not have been waited for.
   * @throws AgentError As {@link reserve} and `watchChild`.
   */
  add(process: NewProcess): void {
    this.reserve(process.name);
    const kept: Kept = { ...process, exit: undefined };
    watchChild(process.pid, (exit) => this.#end(kept, exit));
    this.#processes.set(keyOf(process.name), kept);
  }

  #end(kept: Kept, { status, signaled, atMs }: ChildExit): void {
    const oom = kept.oom?.() ?? false;
    const exit: ProcessExit = { ...kept.name, status, signaled, atMs, oom };
    kept.exit = exit;
    kept.stdio.processEnded();
    kept.ended?.(exit);
    if (this.#processes.get(keyOf(kept.name)) !== kept) return;
    if (!this.#tell({ kind: "exit", exit })) this.#untold.add(kept);
    this.#retryLater();
  }

  /** Too much waits for the host, or none has come yet: tries again until it was told. */
  #retryLater(): void {
    if (this.#untold.size === 0 || this.#retry !== undefined) return;
    this.#retry = after(RETRY_MS, () => {
      this.#retry = undefined;
      for (const kept of this.#untold) {
        const known = this.#processes.get(keyOf(kept.name)) === kept;
        if (known && kept.exit !== undefined && !this.#tell({ kind: "exit", exit: kept.exit })) {
          break;
        }
        this.#untold.delete(kept);
      }
      this.#retryLater();
    });
  }

  /** A process by its name. */
  find(name: ProcessName): NamedProcess | undefined {
    return this.#processes.get(keyOf(name));
  }

  /**
   * A process by its name.
   *
   * @throws AgentError `NotFound`.
   */
  get(name: ProcessName): NamedProcess {
    const process = this.find(name);
    if (process !== undefined) return process;
    throw new AgentError(
      "NotFound",
      `cannot find process "${name.exec}" of container "${name.container}"`,
    );
  }

  /** All processes, those too that have ended. */
  all(): NamedProcess[] {
    return [...this.#processes.values()];
  }

  /** All processes of a container, those too that have ended. */
  of(container: string): NamedProcess[] {
    return [...this.#processes.values()].filter((kept) => kept.name.container === container);
  }

  /**
   * Sends a signal to a process that still runs; else it does nothing.
   *
   * @throws AgentError `NotFound` for an unknown process, `InvalidArgument` for a bad signal.
   */
  signal(name: ProcessName, signal: number): void {
    const process = this.get(name);
    if (process.exit !== undefined) return;
    const answer = sys.kill(process.pid, signal);
    if (answer < 0 && answer !== -ESRCH) {
      throw systemError(`cannot send signal ${signal} to process "${name.exec}"`, answer);
    }
  }

  /** The host has taken note of an exit; does nothing for a process that runs or is unknown. */
  acknowledge(name: ProcessName): void {
    if (this.find(name)?.exit !== undefined) this.#processes.delete(keyOf(name));
  }

  /** Forgets a container's processes; their exits are not told any more. */
  forget(container: string): void {
    for (const [key, kept] of this.#processes) {
      if (kept.name.container === container) this.#processes.delete(key);
    }
  }

  /** Tells every exit again that was not acknowledged. */
  retell(): void {
    for (const kept of this.#processes.values()) {
      if (kept.exit === undefined) continue;
      if (this.#tell({ kind: "exit", exit: kept.exit })) this.#untold.delete(kept);
      else this.#untold.add(kept);
    }
    this.#retryLater();
  }
}
