/**
 * Places for snapshots that are used at once and then removed: of sandboxes that are forked.
 *
 * @module
 */

import { removeTree } from "../removal.ts";

/** A place for a snapshot. Disposing of it removes what is there. */
export interface TemporarySnapshot extends AsyncDisposable {
  /** Where nothing is yet. */
  readonly directory: string;
}

/**
 * Makes one.
 *
 * @param directory A directory of this program, which sandboxes can pass through.
 */
export async function temporarySnapshot(directory: string): Promise<TemporarySnapshot> {
  const parent = `${directory}/forks`;
  await Deno.mkdir(parent, { recursive: true, mode: 0o711 });
  const made = `${parent}/${crypto.randomUUID().slice(0, 13)}`;
  return { directory: made, [Symbol.asyncDispose]: () => removeTree(made) };
}
