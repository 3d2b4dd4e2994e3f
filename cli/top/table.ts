/**
 * Tables whose columns fit the screen: one column takes what the others leave, and those that matter
 * least are left out where the screen is narrow.
 *
 * @module
 */

import { left, type Line, right, type Segment, segment, type Style } from "./line.ts";

/** A column. */
export interface Column<Row> {
  /** What stands above it. */
  readonly title: string;
  /** How many cells it takes; 0 for all that others leave. */
  readonly width: number;
  /** Whether its text stands at the right. */
  readonly atRight?: boolean;
  /** Only on screens at least this many cells wide. */
  readonly fromWidth?: number;
  /** What stands in it. */
  readonly cell: (row: Row) => string;
  /** How that looks. */
  readonly style?: (row: Row) => Style;
}

/** A table on a screen of some width. */
export class Table<Row> {
  readonly #columns: readonly Column<Row>[];
  readonly #rest: number;

  /**
   * Lays it out.
   *
   * @param columns Its columns, from the left.
   * @param width How wide it is, in cells.
   */
  constructor(columns: readonly Column<Row>[], width: number) {
    this.#columns = columns.filter(({ fromWidth = 0 }) => width >= fromWidth);
    const taken = this.#columns.reduce((sum, column) => sum + column.width + 1, -1);
    this.#rest = Math.max(4, width - taken);
  }

  /** The line above it. */
  head(): Line {
    return this.#line(({ title }) => title, () => ({ bold: true }));
  }

  /** The line of a row. */
  row(row: Row): Line {
    return this.#line(({ cell }) => cell(row), ({ style }) => style?.(row) ?? {});
  }

  #line(text: (column: Column<Row>) => string, style: (column: Column<Row>) => Style): Segment[] {
    return this.#columns.flatMap((column, index) => {
      const width = column.width === 0 ? this.#rest : column.width;
      const fitted = (column.atRight ? right : left)(text(column), width);
      return [...(index === 0 ? [] : [segment(" ")]), segment(fitted, style(column))];
    });
  }
}
