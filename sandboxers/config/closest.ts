/**
 * "Did you mean": the name that is nearest to a misspelt one.
 *
 * @module
 */

/** Longest name that is compared, in characters. */
const NAME_LENGTH_MAX = 200;

/**
 * The nearest of the known names; undefined where none is near enough to be meant.
 *
 * @param name What was written; paths have dots.
 * @param known What could have been meant.
 */
export function closest(name: string, known: readonly string[]): string | undefined {
  if (name.length > NAME_LENGTH_MAX) return undefined;
  const wanted = name.toLowerCase();
  let best: { readonly name: string; readonly distance: number } | undefined;
  for (const candidate of known) {
    const distance = Math.min(
      editDistance(wanted, candidate),
      // The right name in the wrong section.
      lastPart(wanted) === lastPart(candidate) ? 1 : Infinity,
    );
    if (distance < (best?.distance ?? Infinity)) best = { name: candidate, distance };
  }
  const near = Math.max(1, Math.floor(lastPart(wanted).length / 3));
  return best !== undefined && best.distance <= near ? best.name : undefined;
}

function lastPart(path: string): string {
  return path.slice(path.lastIndexOf(".") + 1);
}

/** How many letters have to be put in, taken out or changed. */
function editDistance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...a].entries()) {
    const row = [i + 1];
    for (const [j, other] of [...b].entries()) {
      row.push(
        Math.min(
          (row[j] ?? 0) + 1,
          (above[j + 1] ?? 0) + 1,
          (above[j] ?? 0) + (letter === other ? 0 : 1),
        ),
      );
    }
    above = row;
  }
  return above[b.length] ?? 0;
}
