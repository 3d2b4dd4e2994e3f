/**
 * Keeps clones of templates ready: loaded and paused, so that a pod gets one by letting it run. They
 * are made in the background, one at a time and not while pods are starting. Each has its place and
 * its user from the start; its network, its identity and its cgroup it gets from the pod.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Log } from "../../log.ts";
import type { Hypervisor, Machine, MachineSpec, SavedMachine } from "../hypervisor.ts";
import type { ReadyMachine, ReadyMachines, SavedMachines } from "../machines.ts";
import type { MachinePlaces } from "../places.ts";
import { specText } from "./key.ts";
import type { MachineLedger } from "./ledger.ts";

/** Options of {@link Pool}. */
export interface PoolOptions {
  /** Clones. */
  readonly hypervisor: Hypervisor;
  /** Where templates come from. */
  readonly saved: SavedMachines;
  /** Gives places to machines. */
  readonly places: Pick<MachinePlaces, "make" | "free">;
  /** Takes note of machines. */
  readonly ledger: MachineLedger;
  /** How many are kept of each kind. */
  readonly size: number;
  /** Has a machine walk through a start before it stands still; missing for not. */
  readonly rehearse?: (machine: Machine, signal: AbortSignal) => Promise<void>;
  /** Where notes go. */
  readonly log: Log;
  /** How old a machine may get here, in milliseconds. Default one hour. */
  readonly ageMaxMs?: number;
  /** How long no pod must have been starting before one is made, in milliseconds. Default 200. */
  readonly quietMs?: number;
  /** How often to look what is too old, in milliseconds. Default 30 s. */
  readonly lookMs?: number;
  /** The time in milliseconds since the epoch. Default: the clock of this machine. */
  readonly now?: () => number;
}

/** A machine that is ready. */
interface Ready extends ReadyMachine {
  readonly madeAt: number;
}

/** A kind of machine. */
interface Kind {
  readonly spec: MachineSpec;
  readonly ready: Ready[];
  /** Whether it is kept though nobody takes any. */
  readonly isPinned: boolean;
  wantedAt: number;
  failures: number;
  retryAt: number;
}

const AGE_MS_MAX = 60 * 60_000;
const QUIET_MS = 200;
const LOOK_MS = 30_000;

/** Most kinds at a time, beside those that are pinned. */
const KINDS_MAX = 3;

/** How long a kind is kept that nobody takes a machine of, in milliseconds. */
const KIND_IDLE_MS = 15 * 60_000;

/** How long a clone may take until it is loaded, in milliseconds. */
const CLONE_MS = 60_000;

/** How long to wait after a failure, and at most, in milliseconds; it doubles each time. */
const PAUSE_MS = 1000;
const PAUSE_MS_MAX = 5 * 60_000;

/** Machines that are kept ready. */
export class Pool implements ReadyMachines {
  readonly #options: PoolOptions;
  readonly #kinds = new Map<string, Kind>();
  readonly #endings = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  readonly #now: () => number;
  #starting = 0;
  #quietSince = 0;
  #work: Promise<void> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Makes nothing until {@link Pool.want} or {@link Pool.take} say of which kind. */
  constructor(options: PoolOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /**
   * Keeps machines of a kind from now on, also while nobody takes any.
   *
   * @param spec The machine.
   */
  want(spec: MachineSpec): void {
    this.#kind(spec, true);
    this.#wake();
  }

  /**
   * Takes one that is ready; it is the caller's then. Another one is made later, also where there was
   * none: what was asked for once is asked for again.
   *
   * @param spec The machine.
   * @returns A paused machine and its place; undefined where none is ready.
   */
  take(spec: MachineSpec): ReadyMachine | undefined {
    if (this.#closing.signal.aborted || this.#options.size === 0 || spec.sharedTree) {
      return undefined;
    }
    const kind = this.#kind(spec, false);
    const ready = kind.ready.shift();
    this.#wake();
    if (ready === undefined) return undefined;
    return { machine: ready.machine, place: ready.place, saved: ready.saved };
  }

  /**
   * Says that a pod is starting; until that is over no machine is made.
   *
   * @returns To be disposed of when the start is over.
   */
  hold(): Disposable {
    this.#starting++;
    let isOver = false;
    return {
      [Symbol.dispose]: () => {
        if (isOver) return;
        isOver = true;
        this.#starting--;
        this.#quietSince = this.#now();
        this.#wake();
      },
    };
  }

  /** How many machines are ready. */
  get count(): number {
    return [...this.#kinds.values()].reduce((sum, { ready }) => sum + ready.length, 0);
  }

  /** Ends all that are ready, and makes no more. */
  async close(): Promise<void> {
    this.#closing.abort(new SandboxError("Cancelled", "the sandboxer ends"));
    clearTimeout(this.#timer);
    await this.#work;
    for (const kind of this.#kinds.values()) this.#dropAll(kind);
    this.#kinds.clear();
    await Promise.allSettled(this.#endings);
  }

  /** Finds or adds a kind, and notes that it is wanted. */
  #kind(spec: MachineSpec, isPinned: boolean): Kind {
    const text = specText(spec);
    const known = this.#kinds.get(text);
    const wantedAt = this.#now();
    if (known !== undefined && (known.isPinned || !isPinned)) {
      known.wantedAt = wantedAt;
      return known;
    }
    const kind: Kind = {
      ...{ spec, isPinned, wantedAt, ready: known?.ready ?? [] },
      ...{ failures: known?.failures ?? 0, retryAt: known?.retryAt ?? 0 },
    };
    this.#kinds.set(text, kind);
    this.#dropSurplusKinds();
    return kind;
  }

  /** Drops those that were not asked for longest. */
  #dropSurplusKinds(): void {
    const loose = [...this.#kinds].filter(([, { isPinned }]) => !isPinned)
      .sort(([, a], [, b]) => b.wantedAt - a.wantedAt);
    for (const [text, kind] of loose.slice(KINDS_MAX)) {
      this.#kinds.delete(text);
      this.#dropAll(kind);
    }
  }

  /** Does what there is to do, unless that is going on. */
  #wake(): void {
    if (this.#closing.signal.aborted || this.#work !== undefined) return;
    clearTimeout(this.#timer);
    this.#work = this.#doWork().finally(() => {
      this.#work = undefined;
      if (!this.#closing.signal.aborted) this.#sleep();
    });
  }

  /** Looks again when there may be something to do. */
  #sleep(): void {
    const now = this.#now();
    const { size, lookMs = LOOK_MS, quietMs = QUIET_MS } = this.#options;
    const times = [...this.#kinds.values()].filter(({ ready }) => ready.length < size)
      .map(({ retryAt }) => Math.max(retryAt, this.#quietSince + quietMs) - now);
    // While pods are starting the end of the last start wakes this up.
    const next = this.#starting > 0 ? lookMs : Math.min(lookMs, ...times);
    this.#timer = setTimeout(() => this.#wake(), Math.max(1, next));
    Deno.unrefTimer(this.#timer);
  }

  /** Drops what is too old or replaced, and makes what is missing. Never throws. */
  async #doWork(): Promise<void> {
    this.#dropOld();
    await this.#dropReplaced();
    for (;;) {
      const kind = this.#lacking();
      if (kind === undefined) return;
      await this.#add(kind);
    }
  }

  /** A kind of which one is to be made now. */
  #lacking(): Kind | undefined {
    const { size, quietMs = QUIET_MS } = this.#options;
    const now = this.#now();
    if (this.#closing.signal.aborted || this.#starting > 0) return undefined;
    if (now - this.#quietSince < quietMs) return undefined;
    return [...this.#kinds.values()]
      .filter(({ ready, retryAt }) => ready.length < size && retryAt <= now)
      .sort((a, b) => a.ready.length - b.ready.length)[0];
  }

  /** Makes one. Never throws. */
  async #add(kind: Kind): Promise<void> {
    const { saved: templates, log } = this.#options;
    let saved: SavedMachine | undefined;
    try {
      saved = await templates.get(kind.spec, this.#closing.signal);
      if (saved === undefined) {
        throw new SandboxError("Unavailable", "there is no template now");
      }
      this.#dropOthersThan(kind, saved);
      const ready = await this.#clone(saved);
      kind.failures = 0;
      if (this.#isKept(kind)) this.#watch(kind, ready);
      else this.#end(ready);
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      kind.failures++;
      const pauseMs = Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** (kind.failures - 1));
      kind.retryAt = this.#now() + pauseMs;
      log.warn("cannot keep a machine ready", {
        error: SandboxError.from(error),
        nextTryMs: pauseMs,
      });
      if (saved !== undefined) templates.reject(saved);
    }
  }

  /** Clones a template; on failure nothing is left. */
  async #clone(saved: SavedMachine): Promise<Ready> {
    const { hypervisor, places, ledger, rehearse } = this.#options;
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(CLONE_MS)]);
    const place = await places.make("");
    try {
      const options = { paused: rehearse === undefined, memory: "private" } as const;
      const machine = await hypervisor.clone?.(saved, place, options, signal);
      if (machine === undefined) {
        throw new SandboxError("Unimplemented", `cannot clone machines of ${hypervisor.name}`);
      }
      const ready = { machine, place, saved, madeAt: this.#now() };
      try {
        await ledger.add(place, machine);
        if (rehearse !== undefined) {
          await rehearse(machine, signal);
          await machine.pause();
        }
        return ready;
      } catch (error) {
        await machine.stop();
        await ledger.remove(place);
        throw error;
      }
    } catch (error) {
      await places.free(place);
      throw error;
    }
  }

  /** Keeps one, until it is taken or ends by itself. */
  #watch(kind: Kind, ready: Ready): void {
    kind.ready.push(ready);
    ready.machine.exited.then(({ reason, message }) => {
      // What a pod has taken is the pod's: only the note of it is left.
      const isOurs = kind.ready.includes(ready);
      if (!isOurs) {
        this.#track(this.#options.ledger.remove(ready.place));
        return;
      }
      kind.ready.splice(kind.ready.indexOf(ready), 1);
      this.#options.log.warn("a machine that was kept ready has ended", { reason, message });
      this.#end(ready);
      this.#wake();
    });
  }

  /** Whether a kind is still among those that are kept. */
  #isKept(kind: Kind): boolean {
    return !this.#closing.signal.aborted && [...this.#kinds.values()].includes(kind);
  }

  /** Drops machines that are too old, and kinds that nobody asks for any more. */
  #dropOld(): void {
    const { ageMaxMs = AGE_MS_MAX } = this.#options;
    const now = this.#now();
    for (const [text, kind] of this.#kinds) {
      if (!kind.isPinned && now - kind.wantedAt > KIND_IDLE_MS) {
        this.#kinds.delete(text);
        this.#dropAll(kind);
      }
      const old = kind.ready.filter(({ madeAt }) => now - madeAt > ageMaxMs);
      for (const ready of old) this.#drop(kind, ready);
    }
  }

  /** Looks whether templates were replaced of which there are enough clones. Never throws. */
  async #dropReplaced(): Promise<void> {
    const { saved: templates, size } = this.#options;
    const full = [...this.#kinds.values()].filter(({ ready }) => ready.length >= size);
    for (const kind of full) {
      if (size === 0 || this.#starting > 0 || this.#closing.signal.aborted) return;
      const saved = await templates.get(kind.spec, this.#closing.signal).catch(() => undefined);
      if (saved !== undefined) this.#dropOthersThan(kind, saved);
    }
  }

  /** Drops clones of other templates than the present one. */
  #dropOthersThan(kind: Kind, { directory }: SavedMachine): void {
    const others = kind.ready.filter(({ saved }) => saved.directory !== directory);
    for (const ready of others) this.#drop(kind, ready);
  }

  #dropAll(kind: Kind): void {
    for (const ready of [...kind.ready]) this.#drop(kind, ready);
  }

  #drop(kind: Kind, ready: Ready): void {
    kind.ready.splice(kind.ready.indexOf(ready), 1);
    this.#end(ready);
  }

  /** Ends a machine and gives its place back. Never throws. */
  #end({ machine, place }: Ready): void {
    const { places, ledger, log } = this.#options;
    const end = async () => {
      await machine.stop();
      await places.free(place);
      await ledger.remove(place);
    };
    this.#track(
      end().catch((error: unknown) => {
        log.warn("cannot end a machine that was kept ready", { error: SandboxError.from(error) });
      }),
    );
  }

  #track(effect: Promise<void>): void {
    const tracked = effect.finally(() => this.#endings.delete(tracked));
    this.#endings.add(tracked);
  }
}
