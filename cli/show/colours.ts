/**
 * Colours: only on a terminal, and never where the environment has `NO_COLOR` (no-color.org).
 *
 * @module
 */

/** How a text can be shown. */
export type Colour = "bold" | "dim" | "red" | "green" | "yellow" | "blue";

/** Select Graphic Rendition (ECMA-48): switches on, and back. */
const CODES: Readonly<Record<Colour, readonly [on: number, off: number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  blue: [34, 39],
};

/** Makes texts coloured, or leaves them as they are. */
export interface Colours {
  /** The text in a colour. */
  paint(colour: Colour, text: string): string;
}

/** Leaves texts as they are. */
export const NO_COLOURS: Colours = { paint: (_, text) => text };

/** Colours texts. */
export const ANSI_COLOURS: Colours = {
  paint: (colour, text) => {
    const [on, off] = CODES[colour];
    return text === "" ? "" : `\x1b[${on}m${text}\x1b[${off}m`;
  },
};

/**
 * The colours of an output of this process.
 *
 * @param output Such as `Deno.stdout`.
 * @param noColor Whether the environment forbids them.
 */
export function coloursOf(
  output: { isTerminal(): boolean },
  noColor: boolean = Deno.noColor,
): Colours {
  return output.isTerminal() && !noColor ? ANSI_COLOURS : NO_COLOURS;
}
