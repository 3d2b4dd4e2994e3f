/**
 * What a terminal shows, as tmux tells it: lines of text with control sequences for colours, taken
 * apart into pieces of one style each.
 *
 * @module
 */

/** How a piece of text looks. Colours are CSS colours; undefined is the terminal's own. */
export interface TextStyle {
  /** The colour of the text. */
  readonly colour: string | undefined;
  /** The colour behind it. */
  readonly background: string | undefined;
  /** Whether it is bold. */
  readonly bold: boolean;
  /** Whether it is faint. */
  readonly dim: boolean;
  /** Whether both colours change places. */
  readonly inverse: boolean;
}

/** A piece of text in one style. */
export interface StyledPiece {
  /** The text. */
  readonly text: string;
  /** Its first cell, from 0. */
  readonly column: number;
  /** How it looks. */
  readonly style: TextStyle;
}

const PLAIN: TextStyle = {
  colour: undefined,
  background: undefined,
  bold: false,
  dim: false,
  inverse: false,
};

/** The first sixteen colours; readable on a dark background. */
const PALETTE = [
  ...["#45475a", "#f38ba8", "#a6e3a1", "#f9e2af", "#89b4fa", "#f5c2e7", "#94e2d5", "#bac2de"],
  ...["#585b70", "#f38ba8", "#a6e3a1", "#f9e2af", "#89b4fa", "#f5c2e7", "#94e2d5", "#ffffff"],
];

// deno-lint-ignore no-control-regex -- these are what is looked for
const SEQUENCE = /\x1b\[([\d;]*)m/g;

/**
 * Takes a screen apart.
 *
 * @param screen Lines with sequences for colours and no others.
 * @returns The pieces of each line. A style goes on in the next line, as in a terminal.
 */
export function styledLines(screen: string): StyledPiece[][] {
  let style = PLAIN;
  return screen.split("\n").map((line) => {
    const pieces: StyledPiece[] = [];
    let at = 0;
    let column = 0;
    const add = (text: string): void => {
      if (text === "") return;
      pieces.push({ text, column, style });
      column += [...text].length;
    };
    for (const match of line.matchAll(SEQUENCE)) {
      add(line.slice(at, match.index));
      style = changed(style, (match[1] ?? "").split(";").map(Number));
      at = match.index + match[0].length;
    }
    add(line.slice(at));
    return pieces;
  });
}

/** The style after a sequence with these numbers. Source: ECMA-48, SGR; 38 and 48 as in xterm. */
function changed(before: TextStyle, numbers: readonly number[]): TextStyle {
  let style = before;
  for (let at = 0; at < numbers.length; at++) {
    const number = numbers[at] ?? 0;
    if (number === 38 || number === 48) {
      const colour = indexed(numbers[at + 2] ?? 0);
      style = { ...style, [number === 38 ? "colour" : "background"]: colour };
      at += 2;
    } else style = { ...style, ...change(number) };
  }
  return style;
}

/** What one number changes. */
function change(number: number): Partial<TextStyle> {
  if (number === 0) return PLAIN;
  if (number === 1) return { bold: true };
  if (number === 2) return { dim: true };
  if (number === 7) return { inverse: true };
  if (number === 22) return { bold: false, dim: false };
  if (number === 27) return { inverse: false };
  if (number === 39) return { colour: undefined };
  if (number === 49) return { background: undefined };
  const [tens, ones] = [Math.floor(number / 10), number % 10];
  if (tens === 3 || tens === 9) return { colour: indexed(ones + (tens === 9 ? 8 : 0)) };
  if (tens === 4 || tens === 10) return { background: indexed(ones + (tens === 10 ? 8 : 0)) };
  return {};
}

/** One of the 256 colours of xterm. */
function indexed(index: number): string {
  const named = PALETTE[index];
  if (named !== undefined) return named;
  if (index >= 232) return rgb(...[0, 0, 0].map(() => 8 + 10 * (index - 232)));
  const cube = index - 16;
  const level = (step: number): number => step === 0 ? 0 : 55 + 40 * step;
  return rgb(level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6));
}

function rgb(...levels: readonly number[]): string {
  return `#${levels.map((level) => level.toString(16).padStart(2, "0")).join("")}`;
}
