/**
 * Finds out when a container has written its first byte, whatever kind of sandbox it is in and whoever
 * moves its bytes: a write to a FIFO or a file sets the time of its last change. So nobody is between
 * a guest and its output, and a look costs one system call.
 *
 * @module
 */

import type { Sandboxer } from "../lifecycle/sandboxer.ts";

/** When a container's first byte was in its output. */
export interface FirstOutput {
  /** The sandbox. */
  readonly sandboxId: string;
  /** The container. */
  readonly containerId: string;
  /** When its start was called, in milliseconds since the epoch. */
  readonly startedAtMs: number;
  /** When the byte was there, in milliseconds since the epoch. */
  readonly at: number;
}

/** When a file was changed last, in milliseconds since the epoch; undefined where nobody can tell. */
export type ModifiedAt = (path: string) => number | undefined;

/** Where the output of a container goes; undefined where that is nothing to look at. */
export type FindOutput = (
  containerId: string,
) => { readonly sandboxId: string; readonly path: string } | undefined;

/** Most containers that are looked at, at a time; others are left out. */
const WATCHED_MAX = 64;

/** How long a container is looked at, in milliseconds. */
const WATCH_MS = 5_000;

/** Pause between two looks, in milliseconds; doubled each time up to the second number. */
const PAUSE_MS = 1;
const PAUSE_MS_MAX = 64;

/** A container that is looked at. */
interface Watched {
  readonly sandboxId: string;
  readonly containerId: string;
  /** By `performance.now()`. */
  readonly since: number;
  readonly path: string;
  /** When its output was changed last before the start. */
  readonly before: number;
}

/** Looks at outputs. */
export class FirstOutputs implements Disposable {
  readonly #find: FindOutput;
  readonly #heard: (output: FirstOutput) => void;
  readonly #modifiedAt: ModifiedAt;
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();

  /**
   * Looks at nothing yet.
   *
   * @param find Says where an output goes.
   * @param heard Called with each first output.
   * @param modifiedAt Looks at one output.
   */
  constructor(
    find: FindOutput,
    heard: (output: FirstOutput) => void,
    modifiedAt: ModifiedAt = modifiedByStat,
  ) {
    this.#find = find;
    this.#heard = heard;
    this.#modifiedAt = modifiedAt;
  }

  /**
   * Has a look at a container's output before it is started.
   *
   * @param containerId The container.
   * @returns Goes on looking once it was started; undefined where there is nothing to look at.
   */
  begin(containerId: string): (() => void) | undefined {
    if (this.#timers.size >= WATCHED_MAX) return undefined;
    const since = performance.now();
    const found = this.#find(containerId);
    const before = found && this.#modifiedAt(found.path);
    if (found === undefined || before === undefined) return undefined;
    const watched = { ...found, containerId, since, before };
    return () => this.#look(watched, PAUSE_MS);
  }

  #look(watched: Watched, pauseMs: number): void {
    const at = this.#modifiedAt(watched.path);
    if (at === undefined) return;
    if (at > watched.before) {
      const { sandboxId, containerId, since } = watched;
      const startedAtMs = performance.timeOrigin + since;
      // The clock of files ticks every few milliseconds: it may be behind that of the start.
      this.#heard({ sandboxId, containerId, startedAtMs, at: Math.max(at, startedAtMs) });
      return;
    }
    if (performance.now() - watched.since > WATCH_MS) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#look(watched, Math.min(pauseMs * 2, PAUSE_MS_MAX));
    }, pauseMs);
    Deno.unrefTimer(Number(timer));
    this.#timers.add(timer);
  }

  /** Looks no more. */
  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }
}

/**
 * Finds outputs that are FIFOs or files.
 *
 * @param sandboxer Knows where outputs go.
 */
export function outputsOf(sandboxer: Pick<Sandboxer, "container" | "process">): FindOutput {
  return (containerId) => {
    try {
      const { stdout } = sandboxer.process(containerId, "").stdio;
      const { sandboxId } = sandboxer.container(containerId).spec;
      return stdout.kind === "path" ? { sandboxId, path: stdout.path } : undefined;
    } catch {
      // There is no such container: whoever starts it is told so.
      return undefined;
    }
  };
}

/** For kinds that may read what containerd has made. */
function modifiedByStat(path: string): number | undefined {
  try {
    return Deno.statSync(path).mtime?.getTime();
  } catch {
    return undefined;
  }
}
