/**
 * Jobs that wait for their turn: one at a time, each key once, and no more of them than are allowed
 * to wait. Jobs that compile are never urgent, so each waits a moment before it begins.
 *
 * @module
 */

/** Options of {@link JobQueue}. */
export interface JobQueueOptions {
  /** Jobs that run at the same time. */
  readonly runningMax: number;
  /** Most jobs that wait. */
  readonly waitingMax: number;
  /** Most weight of the jobs that wait, such as the bytes that they hold. */
  readonly waitingWeightMax: number;
  /** How long a job waits at least, in milliseconds. */
  readonly delayMs: number;
}

/** A job. */
export interface Job {
  /** Names it: a second one of the same key is not taken. */
  readonly key: string;
  /** What it weighs while it waits. */
  readonly weight: number;
  /** Does it; must end soon after the signal is aborted, and not reject. */
  run(signal: AbortSignal): Promise<void>;
}

/** Whether a job was taken. */
export type Taken = "taken" | "known" | "full" | "closed";

/** A bounded queue. */
export class JobQueue {
  readonly #options: JobQueueOptions;
  readonly #waiting = new Map<string, Job>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  readonly #abort = new AbortController();
  #ready = 0;
  #weight = 0;

  /** Empty. */
  constructor(options: JobQueueOptions) {
    this.#options = options;
  }

  /** Whether a job of this key waits or runs. */
  has(key: string): boolean {
    return this.#waiting.has(key) || this.#running.has(key);
  }

  /** How many jobs wait or run. */
  get size(): number {
    return this.#waiting.size + this.#running.size;
  }

  /** Adds a job. */
  add(job: Job): Taken {
    const { waitingMax, waitingWeightMax, delayMs } = this.#options;
    if (this.#abort.signal.aborted) return "closed";
    if (this.has(job.key)) return "known";
    if (this.#waiting.size >= waitingMax || this.#weight + job.weight > waitingWeightMax) {
      return "full";
    }
    this.#waiting.set(job.key, job);
    this.#weight += job.weight;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#ready++;
      this.#next();
    }, delayMs);
    this.#timers.add(timer);
    return "taken";
  }

  /**
   * Drops what waits, ends what runs, and waits for it.
   *
   * @param graceMs How long to wait at most, in milliseconds.
   * @returns Whether all of it has ended.
   */
  async close(graceMs: number): Promise<boolean> {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#waiting.clear();
    this.#weight = 0;
    this.#abort.abort();
    const { promise: late, resolve } = Promise.withResolvers<false>();
    const timer = setTimeout(() => resolve(false), graceMs);
    const ended = Promise.all(this.#running.values()).then(() => true as const);
    try {
      return await Promise.race([ended, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Starts what may run. Timers fire in the order in which jobs came. */
  #next(): void {
    while (this.#ready > 0 && this.#running.size < this.#options.runningMax) {
      const [job] = this.#waiting.values();
      if (job === undefined) return;
      this.#ready--;
      this.#waiting.delete(job.key);
      this.#weight -= job.weight;
      const run = job.run(this.#abort.signal).finally(() => {
        this.#running.delete(job.key);
        this.#next();
      });
      this.#running.set(job.key, run);
    }
  }
}
