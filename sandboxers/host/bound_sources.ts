/**
 * The host's files and directories that a pod's containers see, each bind-mounted below one directory
 * of the pod: there the sandboxer may read it, and there the file server of a shared tree finds it.
 * Nothing below that directory is ever removed but empty places: what is mounted is the host's.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { BindMount } from "./mounter.ts";

/** Mounts and unmounts; the host's mounter. */
export interface SourceMounter {
  /** See {@link BindMount}. */
  bind(mounts: readonly BindMount[]): Promise<void>;
  /** Unmounts everything at some places; succeeds where nothing is. */
  unmountAll(targets: readonly string[]): Promise<void>;
}

/** Places are found by their names: numbers, counted up. */
const NAME = /^[0-9]{1,9}$/;

/** A source that is mounted. */
export interface BoundSource {
  /** Its name below the pod's directory: the path that the guest finds it by. */
  readonly name: string;
  /** What is mounted. */
  readonly source: string;
  /** Whether it can only be read there. */
  readonly readonly: boolean;
}

/** A source to mount. */
export interface WantedSource {
  /** What is mounted. */
  readonly source: string;
  /** Whether it can only be read there. */
  readonly readonly: boolean;
  /** Whether it looks like a file rather than a directory; either will do. */
  readonly isFile: boolean;
}

interface NamedSource extends WantedSource {
  readonly name: string;
}

/** The mounts of a pod. */
export class BoundSources {
  readonly #mounter: SourceMounter;
  #next = 0;

  /**
   * Mounts nothing yet.
   *
   * @param mounter Mounts.
   * @param directory Where; it is made when it is needed.
   */
  constructor(mounter: SourceMounter, readonly directory: string) {
    this.#mounter = mounter;
  }

  /**
   * Mounts sources.
   *
   * @param wanted What; all at once where they are what they look like, as each call takes a process.
   * @returns The mounts, in the same order.
   * @throws {SandboxError} `InvalidArgument` where there is no such source. None is mounted then.
   */
  async add(wanted: readonly WantedSource[]): Promise<readonly BoundSource[]> {
    if (wanted.length === 0) return [];
    await this.prepare();
    const sources = wanted.map((source) => ({ ...source, name: `${this.#next++}` }));
    if (sources.length > 1 && await this.#tryAll(sources)) return sources.map(boundSource);
    const added: BoundSource[] = [];
    try {
      for (const source of sources) {
        await this.#addOne(source);
        added.push(boundSource(source));
      }
      return added;
    } catch (error) {
      await this.remove(added.map(({ name }) => name).reverse());
      throw error;
    }
  }

  /** Makes the directory, for a file server that begins before there is anything to see. */
  async prepare(): Promise<void> {
    try {
      await Deno.mkdir(this.directory, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw SandboxError.from(error, `cannot make "${this.directory}"`);
    }
  }

  /** Where a source is. */
  pathOf(name: string): string {
    return `${this.directory}/${name}`;
  }

  /** Takes note of what an earlier process has mounted. */
  keep({ name }: BoundSource): void {
    if (!NAME.test(name)) {
      throw new SandboxError("DataLoss", `cannot take over the volume "${name}": no such name`);
    }
    this.#next = Math.max(this.#next, Number(name) + 1);
  }

  /**
   * Unmounts sources. What a guest still has open stays there for it, out of sight.
   *
   * @throws {SandboxError} Where one cannot be unmounted; it is still there then.
   */
  async remove(names: readonly string[]): Promise<void> {
    if (names.length === 0) return;
    const targets = names.map((name) => this.pathOf(name));
    await this.#mounter.unmountAll(targets);
    for (const target of targets) await removePlace(target);
  }

  /**
   * Unmounts what an earlier process has left, except for some.
   *
   * @param kept Names that stay.
   */
  async sweep(kept: ReadonlySet<string>): Promise<void> {
    const names = (await this.#names()).filter((name) => !kept.has(name));
    // The last one first, as a later one may be mounted from an earlier one.
    await this.remove(names.sort((a, b) => Number(b) - Number(a)));
  }

  /** Unmounts everything and removes the directory. May be called more than once. */
  async clear(): Promise<void> {
    await this.sweep(new Set());
    try {
      await Deno.remove(this.directory);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
      throw SandboxError.from(error, `cannot remove "${this.directory}"`);
    }
  }

  async #names(): Promise<readonly string[]> {
    try {
      const entries = await Array.fromAsync(Deno.readDir(this.directory));
      const names = entries.map(({ name }) => name).filter((name) => NAME.test(name));
      this.#next = Math.max(this.#next, ...names.map((name) => Number(name) + 1));
      return names;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw SandboxError.from(error, `cannot read "${this.directory}"`);
    }
  }

  /** @returns False where one is not what it looks like, or not there: which one is not known. */
  async #tryAll(sources: readonly NamedSource[]): Promise<boolean> {
    try {
      for (const source of sources) await this.#makePlace(source.name, source.isFile);
      await this.#mounter.bind(sources.map((source) => this.#mountOf(source)));
      return true;
    } catch (error) {
      for (const { name } of sources) await removePlace(this.pathOf(name)).catch(() => {});
      const failure = SandboxError.from(error, "cannot mount volumes");
      if (failure.code === "InvalidArgument" || failure.code === "NotFound") return false;
      throw failure;
    }
  }

  /** Which of both it is, is the launcher's to see: this process may not look. */
  async #addOne(source: NamedSource): Promise<void> {
    if (await this.#tryOne(source, true)) return;
    await this.#tryOne({ ...source, isFile: !source.isFile }, false);
  }

  /** @returns False where it is not what it looks like and `canDiffer` is set. */
  async #tryOne(source: NamedSource, canDiffer: boolean): Promise<boolean> {
    try {
      await this.#makePlace(source.name, source.isFile);
      await this.#mounter.bind([this.#mountOf(source)]);
      return true;
    } catch (error) {
      await removePlace(this.pathOf(source.name)).catch(() => {});
      const action = `cannot mount "${source.source}"`;
      const failure = SandboxError.from(error, action);
      if (canDiffer && failure.code === "InvalidArgument") return false;
      if (failure.code !== "NotFound") throw failure;
      throw new SandboxError("InvalidArgument", `${action}: there is no such file or directory`, {
        cause: error,
      });
    }
  }

  async #makePlace(name: string, isFile: boolean): Promise<void> {
    const path = this.pathOf(name);
    if (!isFile) return await Deno.mkdir(path, { mode: 0o700 });
    (await Deno.open(path, { write: true, createNew: true, mode: 0o600 })).close();
  }

  #mountOf({ name, source, readonly }: NamedSource): BindMount {
    return { source, target: this.pathOf(name), readonly, recursive: true };
  }
}

function boundSource({ name, source, readonly }: NamedSource): BoundSource {
  return { name, source, readonly };
}

/** Removes an empty place. One that something is mounted at, or in, stays. */
async function removePlace(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw SandboxError.from(error, `cannot remove the place of a mount "${path}"`);
  }
}
