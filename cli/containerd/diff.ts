/**
 * Shows how one text became another, line by line, as `diff -u` does.
 *
 * @module
 */

/** A line of a comparison: in both texts, only in the old one, or only in the new one. */
type Line = readonly [sign: " " | "-" | "+", text: string];

/** How many lines around a change are shown. */
const CONTEXT = 3;

/** Most comparisons of lines that are made; beyond it all that lies between is shown as changed. */
const COMPARISONS_MAX = 4_000_000;

/**
 * Compares two texts.
 *
 * @param before The old text.
 * @param after The new text.
 * @param name What the file is called.
 * @returns Empty where they are the same.
 */
export function unifiedDiff(before: string, after: string, name: string): string {
  if (before === after) return "";
  const lines = compareLines(linesOf(before), linesOf(after));
  return `--- ${name}\n+++ ${name}\n${hunks(lines)}`;
}

/** The lines of a text, each with its end. */
function linesOf(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

function compareLines(old: readonly string[], now: readonly string[]): Line[] {
  let start = 0;
  while (start < old.length && old[start] === now[start]) start++;
  let end = 0;
  const rest = Math.min(old.length, now.length) - start;
  while (end < rest && old[old.length - 1 - end] === now[now.length - 1 - end]) end++;
  const same = (lines: readonly string[]) => lines.map((line): Line => [" ", line]);
  return [
    ...same(old.slice(0, start)),
    ...compareMiddle(old.slice(start, old.length - end), now.slice(start, now.length - end)),
    ...same(old.slice(old.length - end)),
  ];
}

/** By the longest common subsequence. */
function compareMiddle(old: readonly string[], now: readonly string[]): Line[] {
  const width = now.length + 1;
  const all = (sign: "-" | "+", lines: readonly string[]) =>
    lines.map((line): Line => [sign, line]);
  if (old.length * now.length > COMPARISONS_MAX) return [...all("-", old), ...all("+", now)];
  // The length of the longest one of what follows, for each pair of positions.
  const lengths = new Uint32Array((old.length + 1) * width);
  const length = (i: number, j: number) => lengths[i * width + j] ?? 0;
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = now.length - 1; j >= 0; j--) {
      lengths[i * width + j] = old[i] === now[j]
        ? length(i + 1, j + 1) + 1
        : Math.max(length(i + 1, j), length(i, j + 1));
    }
  }
  const lines: Line[] = [];
  let i = 0;
  let j = 0;
  while (i < old.length || j < now.length) {
    const before = old[i];
    const after = now[j];
    if (before !== undefined && before === after) {
      lines.push([" ", before]);
      i++;
      j++;
    } else if (
      before !== undefined && (after === undefined || length(i + 1, j) >= length(i, j + 1))
    ) {
      lines.push(["-", before]);
      i++;
    } else if (after !== undefined) {
      lines.push(["+", after]);
      j++;
    }
  }
  return lines;
}

/** The changes with the lines around them. */
function hunks(lines: readonly Line[]): string {
  const shown = lines.map((_, i) =>
    lines.slice(Math.max(0, i - CONTEXT), i + CONTEXT + 1).some(([sign]) => sign !== " ")
  );
  let text = "";
  let oldLine = 1;
  let newLine = 1;
  for (let i = 0; i < lines.length; i++) {
    if (shown[i] && !shown[i - 1]) {
      const end = shown.indexOf(false, i);
      const hunk = lines.slice(i, end < 0 ? undefined : end);
      const count = (sign: "-" | "+") => hunk.filter(([it]) => it === " " || it === sign).length;
      // A side without lines names the line before it, as diff does.
      const start = (line: number, many: number) => many === 0 ? line - 1 : line;
      const old = `${start(oldLine, count("-"))},${count("-")}`;
      text += `@@ -${old} +${start(newLine, count("+"))},${count("+")} @@\n`;
    }
    const [sign, line] = lines[i] ?? [" ", ""];
    if (shown[i]) {
      text += sign + (line.endsWith("\n") ? line : `${line}\n\\ No newline at end of file\n`);
    }
    if (sign !== "+") oldLine++;
    if (sign !== "-") newLine++;
  }
  return text;
}
