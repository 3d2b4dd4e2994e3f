/**
 * Tables for people: one line for each row, columns as wide as their widest cell, two spaces between
 * them.
 *
 * @module
 */

import { type Colour, type Colours, NO_COLOURS } from "./colours.ts";
import { printable } from "./printable.ts";

/** A column. */
export interface Column<T> {
  /** Its title, in capitals. */
  readonly title: string;
  /** Whether its cells stand at its right end, as numbers do. */
  readonly right?: boolean;
  /** The cell of a row; what a terminal could take for a command is shown, not obeyed. */
  text(row: T): string;
  /** The colour of that cell. */
  colour?(row: T): Colour | undefined;
}

/** What stands between two columns. */
const GAP = "  ";

/**
 * Writes a table.
 *
 * @param rows The rows, in order.
 * @param columns The columns, in order.
 * @param colours What colours are made of.
 * @returns Lines, each with its end; the titles come first, also where there is no row.
 */
export function table<T>(
  rows: readonly T[],
  columns: readonly Column<T>[],
  colours: Colours = NO_COLOURS,
): string {
  const cells = rows.map((row) => columns.map((column) => printable(column.text(row))));
  const widths = columns.map(({ title }, at) =>
    Math.max(title.length, ...cells.map((line) => widthOf(line[at] ?? "")))
  );
  const pad = (text: string, at: number): string => {
    const space = " ".repeat(Math.max(0, (widths[at] ?? 0) - widthOf(text)));
    if (columns[at]?.right === true) return space + text;
    // The last column ends where its text does.
    return at === columns.length - 1 ? text : text + space;
  };
  const title = columns.map((column, at) => pad(column.title, at)).join(GAP).trimEnd();
  const lines = rows.map((row, index) =>
    columns.map((column, at) => {
      const padded = pad(cells[index]?.[at] ?? "", at);
      const colour = column.colour?.(row);
      return colour === undefined ? padded : colours.paint(colour, padded);
    }).join(GAP).trimEnd()
  );
  return [colours.paint("bold", title), ...lines].map((line) => `${line}\n`).join("");
}

/** How many columns of a terminal a text takes: one for each character, which is true of most. */
function widthOf(text: string): number {
  return [...text].length;
}
