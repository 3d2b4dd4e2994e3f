/**
 * Brings what memory says of a sandbox to the store. Writes of one sandbox never overlap, those that
 * wait are one, and one that failed is repeated as soon as the store works again, so that the store
 * ends up equal to memory.
 *
 * @module
 */

import { attempt } from "./errors.ts";
import type { SandboxRecord } from "./record.ts";
import type { Store } from "./store.ts";

/** The write that is under way for one sandbox, and the one after it. */
interface Writing {
  readonly running: Promise<void>;
  next: Promise<void> | undefined;
}

/** What is to be written of a sandbox. */
export interface Snapshot {
  /** Its record; undefined when the stored one is to be removed. */
  readonly record: SandboxRecord | undefined;
  /** Called when this is in the store. */
  stored(): void;
}

/** Writes records, by sandbox id. */
export class Writer {
  readonly #store: Store;
  readonly #current: (id: string) => Snapshot;
  readonly #warn: (id: string, error: unknown) => void;
  readonly #writing = new Map<string, Writing>();
  /** Sandboxes whose last write failed: the store is behind. */
  readonly #stale = new Set<string>();

  /**
   * A writer with nothing to write.
   *
   * @param store Where to.
   * @param current A sandbox as it is now.
   * @param warn Hears of writes that failed and that nobody waited for.
   */
  constructor(
    store: Store,
    current: (id: string) => Snapshot,
    warn: (id: string, error: unknown) => void,
  ) {
    this.#store = store;
    this.#current = current;
    this.#warn = warn;
  }

  /** How many sandboxes are being written or wait for the store to work again. */
  get pending(): number {
    return this.#writing.size + this.#stale.size;
  }

  /**
   * Writes a sandbox as it will be when the write begins.
   *
   * @throws SandboxError what the store throws, `ResourceExhausted` on a full disk.
   */
  save(id: string): Promise<void> {
    const writing = this.#writing.get(id);
    if (writing === undefined) return this.#begin(id);
    writing.next ??= writing.running.catch(() => undefined).then(() => this.#begin(id));
    return writing.next;
  }

  /** Writes a sandbox without anybody waiting for it. */
  saveLater(id: string): void {
    this.save(id).catch((error: unknown) => this.#warn(id, error));
  }

  /** Repeats what failed, once, and resolves when no write is under way. */
  async flush(): Promise<void> {
    await this.#idle();
    for (const id of [...this.#stale]) this.saveLater(id);
    await this.#idle();
  }

  async #idle(): Promise<void> {
    while (this.#writing.size > 0) {
      await Promise.allSettled([...this.#writing.values()].map((it) => it.next ?? it.running));
    }
  }

  #begin(id: string): Promise<void> {
    const writing: Writing = { running: this.#write(id), next: undefined };
    this.#writing.set(id, writing);
    const end = (): void => {
      // A write that waits takes the place over when it begins.
      if (writing.next === undefined) this.#writing.delete(id);
    };
    writing.running.then(end, end);
    return writing.running;
  }

  async #write(id: string): Promise<void> {
    this.#stale.delete(id);
    const { record, stored } = this.#current(id);
    try {
      await attempt(
        `cannot store the state of sandbox "${id}"`,
        () => record === undefined ? this.#store.delete(id) : this.#store.put(record),
      );
    } catch (error) {
      this.#stale.add(id);
      throw error;
    }
    stored();
    // The store works: bring one that is behind up to date, which brings the next one.
    const [behind] = this.#stale;
    if (behind !== undefined) this.saveLater(behind);
  }
}
