/**
 * Program files that were read before. The next container of an image does not read and hash its
 * module again, where it is certain that this is the same file with the same content.
 *
 * Which file it is: its number in an overlay of the same layers; a layer's directory is never used
 * for another content. Which content it has: size, modification time and change time; the last is
 * the kernel's to set. A container may write to a file of its own copy of the root file system, which
 * keeps its number then. So only a file counts that was last changed before the container was
 * there: nothing in the container can have written to that.
 *
 * @module
 */

import type { ContainerSpec } from "../lifecycle/spec.ts";
import type { Engine, EngineModule } from "./engine.ts";
import type { FileIdentity, System } from "./native/system.ts";

/** Files that are remembered; the ones used longest ago go first. */
const FILES_MAX = 1_024;
/** The kernel's time of a change may be behind the clock by a tick or two. */
const CLOCK_MARGIN_MS = 1_000;

/** Finds a program without reading it. */
export interface ProgramShortcut<T> {
  /**
   * What the content of a file was made into before.
   *
   * @param fd The file. It is looked at here, before it is read.
   * @returns Undefined when it has to be read.
   */
  find(fd: number): Promise<T | undefined>;
  /**
   * Remembers what the content of a file was made into.
   *
   * @param fd The file, after it was read.
   */
  keep(fd: number, loaded: T): void;
}

/** Remembers the digests of program files. One for an engine. */
export class KnownPrograms {
  readonly #engine: Engine;
  readonly #system: System;
  readonly #now: () => number;
  /** Digests by layers and {@link FileIdentity.key}, in the order of last use. */
  readonly #digests = new Map<string, string>();
  /** When each container was first seen, in milliseconds since 1970. */
  readonly #since = new WeakMap<object, number>();

  /**
   * Knows nothing yet.
   *
   * @param engine Keeps the modules.
   * @param system Looks at files.
   * @param now The time in milliseconds since 1970.
   */
  constructor(engine: Engine, system: System, now: () => number = Date.now) {
    this.#engine = engine;
    this.#system = system;
    this.#now = now;
  }

  /** How many files are remembered. */
  get size(): number {
    return this.#digests.size;
  }

  /**
   * The way to load one program of a container.
   *
   * @param container The same object for all programs of a container, first given here before
   *   anything in the container has run.
   * @param rootfs Descriptor of its root file system's directory.
   * @returns Undefined where every file has to be read.
   */
  of(container: ContainerSpec, rootfs: number): ProgramShortcut<EngineModule> | undefined {
    const layers = layersOf(container);
    if (layers === undefined || this.#engine.loadKnown === undefined) return undefined;
    const since = this.#since.get(container) ?? this.#now();
    this.#since.set(container, since);
    const trusted = (fd: number) => this.#trusted(fd, rootfs, since);
    let before: FileIdentity | undefined;
    return {
      find: async (fd) => {
        before = trusted(fd);
        const digest = before && this.#digests.get(keyOf(layers, before));
        if (digest === undefined) return undefined;
        return await this.#engine.loadKnown?.(digest);
      },
      keep: (fd, { digest }) => {
        const after = before && trusted(fd);
        if (after === undefined || after.key !== before?.key) return;
        this.#remember(keyOf(layers, after), digest);
      },
    };
  }

  #trusted(fd: number, rootfs: number, sinceMs: number): FileIdentity | undefined {
    const identity = this.#system.identity(fd);
    if (identity === undefined) return undefined;
    // What is mounted over a file of the image is none of its layers.
    if (identity.mountId !== this.#system.identity(rootfs)?.mountId) return undefined;
    return identity.changedAtMs < sinceMs - CLOCK_MARGIN_MS ? identity : undefined;
  }

  #remember(key: string, digest: string): void {
    this.#digests.delete(key);
    this.#digests.set(key, digest);
    if (this.#digests.size <= FILES_MAX) return;
    const [oldest] = this.#digests.keys();
    if (oldest !== undefined) this.#digests.delete(oldest);
  }
}

const known = new WeakMap<Engine, KnownPrograms>();

/**
 * What is known of an engine's programs.
 *
 * @param engine Keeps the modules.
 * @param system Looks at files.
 */
export function knownPrograms(engine: Engine, system: System): KnownPrograms {
  const programs = known.get(engine) ?? new KnownPrograms(engine, system);
  known.set(engine, programs);
  return programs;
}

function keyOf(layers: string, identity: FileIdentity): string {
  return `${layers} ${identity.key}`;
}

/** The layers below a root file system that is an overlay; undefined for any other. */
function layersOf({ rootfs }: ContainerSpec): string | undefined {
  if (rootfs.kind !== "mounts") return undefined;
  const mount = rootfs.mounts.at(-1);
  // What is below the overlay may only be where its upper directory lies.
  const isOne = rootfs.mounts.slice(0, -1).every(({ type }) => type === "tmpfs");
  if (mount?.type !== "overlay" || !isOne) return undefined;
  return mount.options.find((option) => option.startsWith("lowerdir="));
}
