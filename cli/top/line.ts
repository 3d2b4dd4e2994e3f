/**
 * Lines of the screen as data: pieces of text with a style each, cut to so many cells. What comes
 * from pods passes through {@link clean} here, so that no name, argument or log line can write
 * control sequences to the terminal.
 *
 * @module
 */

/** The colours in use: those that every terminal has. */
export type Colour = "red" | "green" | "yellow" | "blue" | "magenta" | "cyan";

/** How a piece of text looks. */
export interface Style {
  /** The colour of the text; the terminal's own where missing. */
  readonly colour?: Colour;
  /** Whether it is bold. */
  readonly bold?: boolean;
  /** Whether it is faint. */
  readonly dim?: boolean;
  /** Whether text and background change places. */
  readonly inverse?: boolean;
}

/** A piece of text. */
export interface Segment {
  /** The text, without control characters. */
  readonly text: string;
  /** How it looks. */
  readonly style: Style;
}

/** One line of the screen. */
export type Line = readonly Segment[];

/** A whole screen, from the top. */
export type Frame = readonly Line[];

// deno-lint-ignore no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu;

/** Characters that are two cells wide; the scripts and symbols that matter. */
const WIDE =
  /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\u3000-\u303f\uff01-\uff60]/u;

/** Characters that stand on the one before. */
const COMBINING = /\p{Mark}/u;

/** Text without characters that a terminal would obey: each becomes `?`, a tab a space. */
export function clean(text: string): string {
  return text.replaceAll("\t", " ").replace(CONTROL, "?");
}

/**
 * A piece of text, cleaned.
 *
 * @param text Whatever it says.
 * @param style How it looks.
 */
export function segment(text: string, style: Style = {}): Segment {
  return { text: clean(text), style };
}

/** How many cells a text takes. */
export function cells(text: string): number {
  // The usual case, and quick.
  if (/^[\u0020-\u007e]*$/.test(text)) return text.length;
  let count = 0;
  for (const character of text) count += cellsOf(character);
  return count;
}

function cellsOf(character: string): number {
  if (COMBINING.test(character)) return 0;
  return WIDE.test(character) ? 2 : 1;
}

/**
 * The beginning of a text that fits; what was cut is shown by `~`.
 *
 * @param text A text.
 * @param width How many cells there are.
 */
export function cut(text: string, width: number): string {
  if (cells(text) <= width) return text;
  if (width <= 0) return "";
  let kept = "";
  let used = 0;
  for (const character of text) {
    used += cellsOf(character);
    if (used > width - 1) break;
    kept += character;
  }
  return `${kept}~`;
}

/** A text in exactly so many cells, at the left. */
export function left(text: string, width: number): string {
  const fitting = cut(clean(text), width);
  return fitting + " ".repeat(Math.max(0, width - cells(fitting)));
}

/** A text in exactly so many cells, at the right. */
export function right(text: string, width: number): string {
  const fitting = cut(clean(text), width);
  return " ".repeat(Math.max(0, width - cells(fitting))) + fitting;
}

/**
 * A line that fits.
 *
 * @param line A line of any length.
 * @param width How many cells there are.
 */
export function fitLine(line: Line, width: number): Line {
  const fitting: Segment[] = [];
  let room = width;
  for (const { text, style } of line) {
    if (room <= 0) break;
    const shown = cut(text, room);
    fitting.push({ text: shown, style });
    room -= cells(shown);
  }
  return fitting;
}

/** A line in exactly so many cells, all of them in one style in the place of their own. */
export function fillLine(line: Line, width: number, style: Style): Line {
  const text = fitLine(line, width).map((part) => part.text).join("");
  return [{ text: text + " ".repeat(Math.max(0, width - cells(text))), style }];
}

/** A line as plain text, without spaces at its end. */
export function plainLine(line: Line): string {
  return line.map(({ text }) => text).join("").trimEnd();
}

/** The numbers of the colours in control sequences. Source: ECMA-48, SGR. */
const COLOUR_NUMBERS: Readonly<Record<Colour, number>> = {
  red: 31,
  green: 32,
  yellow: 33,
  blue: 34,
  magenta: 35,
  cyan: 36,
};

/**
 * A line as a terminal takes it.
 *
 * @param line A line.
 * @param colours Whether colours may be used; the rest of the style is kept without them.
 */
export function terminalLine(line: Line, colours: boolean): string {
  return line.map(({ text, style }) => {
    const numbers = [
      ...(style.bold ? [1] : []),
      ...(style.dim && colours ? [2] : []),
      ...(style.inverse ? [7] : []),
      ...(style.colour !== undefined && colours ? [COLOUR_NUMBERS[style.colour]] : []),
    ];
    return numbers.length === 0 ? text : `\x1b[${numbers.join(";")}m${text}\x1b[0m`;
  }).join("");
}
