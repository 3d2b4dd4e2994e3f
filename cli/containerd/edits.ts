/**
 * Changes to a text that can be taken back: each says where, what was there and what is there now.
 *
 * @module
 */

import { findPlaces, leafAt } from "./places.ts";

/** One change. */
export interface Edit {
  /** The keys of the section or value that it is about. */
  readonly path: readonly string[];
  /** Where it begins, in UTF-16 units: the same before and after it. */
  readonly offset: number;
  /** What was there. */
  readonly removed: string;
  /** What is there now. */
  readonly inserted: string;
}

/** A text after edits were taken back. */
export interface Reverted {
  /** The text. */
  readonly text: string;
  /** Edits that were not taken back, because what they wrote is not there any more as it was. */
  readonly kept: readonly Edit[];
}

/**
 * Makes a change.
 *
 * @param text The text.
 * @param edit The change.
 */
export function applyEdit(text: string, { offset, removed, inserted }: Edit): string {
  return text.slice(0, offset) + inserted + text.slice(offset + removed.length);
}

/**
 * Takes changes back, the last one first, from exactly the text that they led to.
 *
 * @param text That text.
 * @param edits The changes in the order in which they were made.
 */
export function revertExactly(text: string, edits: readonly Edit[]): string {
  return edits.toReversed().reduce(
    (now, { offset, removed, inserted }) =>
      applyEdit(now, { path: [], offset, removed: inserted, inserted: removed }),
    text,
  );
}

/**
 * Takes changes back from a text that others have changed since: only those whose text is there as
 * it was written.
 *
 * @param text The text as it is now.
 * @param edits The changes in the order in which they were made.
 */
export function revertWhereFound(text: string, edits: readonly Edit[]): Reverted {
  const kept: Edit[] = [];
  let now = text;
  for (const edit of edits.toReversed()) {
    const reverted = edit.removed === "" ? takeOut(now, edit) : putBack(now, edit);
    if (reverted === undefined) kept.unshift(edit);
    else now = reverted;
  }
  return { text: now, kept };
}

/** Takes out a text that is where its keys are, or is there once. */
function takeOut(text: string, { path, inserted }: Edit): string | undefined {
  const leaf = leafAt(findPlaces(text, "the file"), path);
  const lead = /^[\s,]*/.exec(inserted)?.[0].length ?? 0;
  const at = leaf === undefined ? text.indexOf(inserted) : leaf.keyRange[0] - lead;
  if (at < 0 || text.slice(at, at + inserted.length) !== inserted) return undefined;
  if (leaf === undefined && text.indexOf(inserted, at + 1) >= 0) return undefined;
  return text.slice(0, at) + text.slice(at + inserted.length);
}

/** Gives a key its old value again, where it has the one that it was given. */
function putBack(text: string, { path, removed, inserted }: Edit): string | undefined {
  const range = leafAt(findPlaces(text, "the file"), path)?.range;
  if (range === undefined || text.slice(...range) !== inserted) return undefined;
  return text.slice(0, range[0]) + removed + text.slice(range[1]);
}
