/**
 * What the guest has of each volume, on disk: so that the next sandboxer process sends it only what
 * has changed since.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Tree, TreeNode } from "./tree_scan.ts";

/** The notes of a pod's volumes. */
export class VolumeStates {
  /**
   * Reads nothing yet.
   *
   * @param directory Where they are; it is made when it is needed.
   */
  constructor(readonly directory: string) {}

  /** What the guest has of a volume; nothing where nothing is noted. */
  async read(name: string): Promise<Tree> {
    try {
      const entries: [string, TreeNode][] = JSON.parse(await Deno.readTextFile(this.#path(name)));
      return new Map(entries);
    } catch (error) {
      // Half a note is as good as none: then all is sent again.
      if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return new Map();
      throw SandboxError.from(error, `cannot read what is known of volume "${name}"`);
    }
  }

  /** Takes note. */
  async write(name: string, tree: Tree): Promise<void> {
    const path = this.#path(name);
    try {
      await Deno.mkdir(this.directory, { recursive: true, mode: 0o700 });
      await Deno.writeTextFile(`${path}.new`, JSON.stringify([...tree]), { mode: 0o600 });
      await Deno.rename(`${path}.new`, path);
    } catch (error) {
      throw SandboxError.from(error, `cannot take note of what the guest has in "${path}"`);
    }
  }

  /** Forgets a volume. */
  async remove(name: string): Promise<void> {
    await remove(this.#path(name));
  }

  /** Forgets all of them. */
  async clear(): Promise<void> {
    await remove(this.directory);
  }

  #path(name: string): string {
    return `${this.directory}/${name}.json`;
  }
}

async function remove(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
