/**
 * A disk in memory that behaves as badly as a real one may: an operation can fail before or after its
 * effect, a full disk leaves half a file, and when the power goes what was not synced may vanish.
 *
 * @module
 */

import type { Disk } from "../disk.ts";
import { type Gate, openGate } from "./gate.ts";
import type { Random } from "./random.ts";

/** A change of a directory's entries. */
interface Change {
  /** The directory whose entries change; a sync of it makes the change last. */
  readonly directory: string;
  readonly node: Node | undefined;
  apply(tree: Tree): void;
  synced: boolean;
}

/** What is at a path: a file's text, or null for a directory; each one that is made is another. */
export interface Node {
  /** Null for a directory. */
  readonly text: string | null;
}

/** What is where, by path. */
export type Tree = Map<string, Node>;

/** What is on the disk; it outlives sandboxer processes. */
export class DiskContents {
  /** As programs see it. */
  tree: Tree = new Map([["/", { text: null }]]);
  /** As it would be without power. */
  #durable: Tree = new Map(this.tree);
  /** Changes that are not synced. */
  #pending: Change[] = [];

  /** Files and directories, without the root. */
  get size(): number {
    return this.tree.size - 1;
  }

  /** Makes a change; it lasts when its directory is synced. */
  change(directory: string, apply: (tree: Tree) => void): void {
    this.#pending.push({ directory, node: this.tree.get(directory), apply, synced: false });
    apply(this.tree);
  }

  /** Whether a directory has changes that may not last. */
  unsynced(directory: string): boolean {
    const node = this.tree.get(directory);
    return this.#pending.some((change) => change.node === node && !change.synced);
  }

  /** Makes the changes of a directory last; when it does not last itself, as soon as it does. */
  sync(directory: string): void {
    const node = this.tree.get(directory);
    for (const change of this.#pending) change.synced ||= change.node === node;
    let moved = true;
    while (moved) {
      const before = this.#pending.length;
      this.#pending = this.#pending.filter((change) => !change.synced || !this.#commit(change));
      moved = this.#pending.length < before;
    }
  }

  /** The power goes: of what is not synced in a directory any first part may have lasted. */
  powerOff(random: Random): void {
    const lasting = new Map<Node | undefined, number>();
    for (const { node, synced } of this.#pending) {
      const more = !synced && random.chance(0.5) ? 1 : 0;
      lasting.set(node, (lasting.get(node) ?? 0) + more);
    }
    for (const change of this.#pending) {
      const left = lasting.get(change.node) ?? 0;
      if (!change.synced && left === 0) continue;
      if (!change.synced) lasting.set(change.node, left - 1);
      this.#commit(change);
    }
    this.#pending = [];
    this.tree = new Map(this.#durable);
  }

  #commit(change: Change): boolean {
    if (this.#durable.get(change.directory) !== change.node) return false;
    change.apply(this.#durable);
    return true;
  }
}

/** A disk for one life of a sandboxer. */
export class FakeDisk implements Disk {
  /** What is on it. */
  readonly contents: DiskContents;
  readonly #gate: Gate;

  /**
   * A disk over what is there already.
   *
   * @param contents What is on it.
   * @param gate Passed before each effect as `disk.write` and so on, and after it as `disk.written`:
   *   a fault there is one of an operation that was carried out all the same.
   */
  constructor(contents: DiskContents = new DiskContents(), gate: Gate = openGate) {
    this.contents = contents;
    this.#gate = gate;
  }

  /** See {@link Disk.makeDirectory}. */
  async makeDirectory(path: string): Promise<void> {
    if (this.contents.tree.has(path)) return;
    await this.#gate.pass("disk.mkdir");
    const names = path.split("/").slice(1);
    for (const end of names.keys()) {
      const directory = `/${names.slice(0, end + 1).join("/")}`;
      if (this.contents.tree.has(directory)) continue;
      const node: Node = { text: null };
      this.contents.change(parentOf(directory), (tree) => tree.set(directory, node));
      // The directories above the store are there before it starts.
      if (end < names.length - 1) this.contents.sync(parentOf(directory));
    }
  }

  /** See {@link Disk.list}. */
  async list(path: string): Promise<string[]> {
    await this.#gate.pass("disk.list");
    return this.#entries(path);
  }

  /** See {@link Disk.read}. */
  async read(path: string): Promise<string | undefined> {
    await this.#gate.pass("disk.read");
    return this.contents.tree.get(path)?.text ?? undefined;
  }

  /** See {@link Disk.writeSynced}; where it fails, half of the file is there. */
  async writeSynced(path: string, text: string): Promise<void> {
    this.#mustExist(parentOf(path));
    try {
      await this.#gate.pass("disk.write");
    } catch (fault) {
      const half: Node = { text: text.slice(0, text.length / 2) };
      this.contents.change(parentOf(path), (tree) => tree.set(path, half));
      throw fault;
    }
    const whole: Node = { text };
    this.contents.change(parentOf(path), (tree) => tree.set(path, whole));
  }

  /** See {@link Disk.rename}. */
  async rename(from: string, to: string): Promise<void> {
    await this.#gate.pass("disk.rename");
    this.#mustExist(from);
    this.contents.change(parentOf(to), (tree) => {
      for (const [path, node] of [...tree]) {
        if (path !== from && !path.startsWith(`${from}/`)) continue;
        tree.delete(path);
        tree.set(to + path.slice(from.length), node);
      }
    });
    await this.#gate.pass("disk.renamed");
  }

  /** See {@link Disk.remove}. */
  async remove(path: string): Promise<void> {
    await this.#gate.pass("disk.remove");
    if (!this.contents.tree.has(path)) return;
    this.contents.change(parentOf(path), (tree) => {
      for (const other of [...tree.keys()]) {
        if (other === path || other.startsWith(`${path}/`)) tree.delete(other);
      }
    });
    await this.#gate.pass("disk.removed");
  }

  /** See {@link Disk.sync}. */
  async sync(directory: string): Promise<void> {
    this.#mustExist(directory);
    if (!this.contents.unsynced(directory)) return;
    await this.#gate.pass("disk.sync");
    this.#mustExist(directory);
    this.contents.sync(directory);
  }

  #entries(directory: string): string[] {
    this.#mustExist(directory);
    return [...this.contents.tree.keys()]
      .filter((path) => path !== "/" && parentOf(path) === directory)
      .map((path) => path.slice(path.lastIndexOf("/") + 1));
  }

  #mustExist(path: string): void {
    if (this.contents.tree.has(path)) return;
    throw new Deno.errors.NotFound(`No such file or directory (os error 2), '${path}'`);
  }
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
