/**
 * Compiled modules by the content they were made of: guests of the same image share one. Modules
 * that nobody uses are kept for the next guest, up to a bound; the ones used longest ago go first.
 *
 * @module
 */

/** How much is kept that nobody uses. */
export interface ModuleCacheLimits {
  /** Most unused modules. */
  readonly idleMax: number;
  /** Most bytes of files that unused modules were made of. */
  readonly idleBytesMax: number;
}

/** A reference to a module. Disposing of it, once or more often, gives the one reference up. */
export interface ModuleReference<M> extends Disposable {
  /** The module; valid while the reference is held. */
  readonly module: M;
}

interface Entry<M> {
  readonly loading: Promise<M>;
  readonly bytes: number;
  references: number;
  /** Set once it is loaded. */
  module?: M;
}

/** Shares modules among guests. */
export class ModuleCache<M extends Disposable> {
  readonly #limits: ModuleCacheLimits;
  /** In the order of last use: a Map keeps the order of insertion. */
  readonly #entries = new Map<string, Entry<M>>();
  #closed = false;
  #hits = 0;
  #misses = 0;

  /**
   * Makes an empty cache.
   *
   * @param limits How much is kept that nobody uses.
   */
  constructor(limits: ModuleCacheLimits) {
    this.#limits = limits;
  }

  /** How many modules are in memory or being loaded. */
  get size(): number {
    return this.#entries.size;
  }

  /** Size of the files they were made of, in bytes. */
  get bytes(): number {
    let sum = 0;
    for (const entry of this.#entries.values()) sum += entry.bytes;
    return sum;
  }

  /** How often a module was asked for that was there or being loaded. */
  get hits(): number {
    return this.#hits;
  }

  /** How often a module was asked for that had to be loaded. */
  get misses(): number {
    return this.#misses;
  }

  /**
   * Finds a module, or loads it. Callers that ask for the same one at the same time share one load.
   *
   * @param digest What identifies the content.
   * @param bytes Size of the content.
   * @param load Makes the module; its failure is every waiting caller's, and is not kept.
   */
  async acquire(
    digest: string,
    bytes: number,
    load: () => Promise<M>,
  ): Promise<ModuleReference<M>> {
    const known = this.#entries.get(digest);
    const entry = known ?? { loading: load(), bytes, references: 0 };
    this.#touch(digest, entry);
    entry.references++;
    try {
      const module = await entry.loading;
      entry.module = module;
      if (known === undefined) this.#misses++;
      else this.#hits++;
      return this.#reference(entry, module);
    } catch (error) {
      entry.references--;
      if (this.#entries.get(digest) === entry) this.#entries.delete(digest);
      throw error;
    }
  }

  /**
   * Whether a module is in memory or being loaded.
   *
   * @param digest What identifies the content.
   */
  has(digest: string): boolean {
    return this.#entries.has(digest);
  }

  /**
   * A module that is in memory, for a look at it.
   *
   * @param digest What identifies the content.
   * @returns Undefined when it is not, or not yet.
   */
  peek(digest: string): M | undefined {
    return this.#entries.get(digest)?.module;
  }

  /** The modules that are in memory. */
  *modules(): Iterable<M> {
    for (const { module } of this.#entries.values()) if (module !== undefined) yield module;
  }

  /**
   * Frees a module that nobody uses; one that is in use stays.
   *
   * @param digest What identifies the content.
   */
  drop(digest: string): void {
    const entry = this.#entries.get(digest);
    if (entry?.module === undefined || entry.references > 0) return;
    this.#entries.delete(digest);
    entry.module[Symbol.dispose]();
  }

  /** Drops unused modules, now and from here on. */
  close(): void {
    this.#closed = true;
    this.#evict();
  }

  #touch(digest: string, entry: Entry<M>): void {
    this.#entries.delete(digest);
    this.#entries.set(digest, entry);
  }

  #reference(entry: Entry<M>, module: M): ModuleReference<M> {
    let held = true;
    return {
      module,
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        entry.references--;
        this.#evict();
      },
    };
  }

  #evict(): void {
    const idle = [...this.#entries].filter(([, entry]) =>
      entry.references === 0 && entry.module !== undefined
    );
    const limits = this.#closed ? { idleMax: 0, idleBytesMax: 0 } : this.#limits;
    let count = idle.length;
    let bytes = idle.reduce((sum, [, entry]) => sum + entry.bytes, 0);
    for (const [digest, entry] of idle) {
      if (count <= limits.idleMax && bytes <= limits.idleBytesMax) return;
      this.#entries.delete(digest);
      entry.module?.[Symbol.dispose]();
      count--;
      bytes -= entry.bytes;
    }
  }
}
