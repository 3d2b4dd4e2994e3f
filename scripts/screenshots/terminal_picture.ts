/**
 * Draws what a terminal shows as an SVG picture.
 *
 * @module
 */

import { styledLines, type StyledPiece, type TextStyle } from "./styled_text.ts";

/** The size of a cell, and of what is around all of them, in the picture's units. */
const CELL = { width: 8.4, height: 18 };
const MARGIN = 14;
const TITLE_HEIGHT = 30;
const FONT_SIZE = 14;
const FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace";

const COLOURS = { background: "#1e1e2e", text: "#cdd6f4", title: "#313244", caption: "#a6adc8" };

/** How strong faint text is. */
const FAINT = 0.6;

/**
 * Draws a screen.
 *
 * @param screen What the terminal shows, with control sequences for colours.
 * @param columns How many cells a line has.
 * @param title What stands above it.
 * @returns An SVG document.
 */
export function terminalPicture(screen: string, columns: number, title: string): string {
  const lines = styledLines(screen.trimEnd());
  const width = round(columns * CELL.width + 2 * MARGIN);
  const height = TITLE_HEIGHT + lines.length * CELL.height + 2 * MARGIN;
  const buttons = ["#f38ba8", "#f9e2af", "#a6e3a1"]
    .map((fill, index) => `<circle cx="${18 + 20 * index}" cy="15" r="6" fill="${fill}"/>`);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ` +
    `width="${width}" height="${height}" role="img" aria-label="${escaped(title)}">`,
    `<rect width="${width}" height="${height}" rx="8" fill="${COLOURS.background}"/>`,
    `<path d="M0 ${TITLE_HEIGHT}V8a8 8 0 0 1 8-8h${width - 16}a8 8 0 0 1 8 8v${
      TITLE_HEIGHT - 8
    }z" ` +
    `fill="${COLOURS.title}"/>`,
    ...buttons,
    `<text x="${width / 2}" y="20" text-anchor="middle" font-family="sans-serif" font-size="13" ` +
    `fill="${COLOURS.caption}">${escaped(title)}</text>`,
    `<g font-family="${FONTS}" font-size="${FONT_SIZE}" xml:space="preserve">`,
    ...lines.flatMap((pieces, row) => pieces.flatMap((piece) => drawn(piece, row))),
    "</g>",
    "</svg>",
    "",
  ].join("\n");
}

/**
 * A piece of text on its background. Words have places of their own, and a length, so that columns
 * are columns whatever font there is.
 */
function drawn({ text, column, style }: StyledPiece, row: number): string[] {
  const { front, back } = coloursOf(style);
  const y = TITLE_HEIGHT + MARGIN + row * CELL.height;
  const place = (at: number): number => round(MARGIN + (column + at) * CELL.width);
  const length = (words: string): number => round([...words].length * CELL.width);
  const bold = style.bold ? ' font-weight="bold"' : "";
  const faint = style.dim ? ` fill-opacity="${FAINT}"` : "";
  const words = [...text.matchAll(/\S+(?: \S+)*/g)].map(([words], index, all) => {
    const x = place([...text.slice(0, all[index]?.index)].length);
    return `<text x="${x}" y="${y + 13}" textLength="${length(words)}" ` +
      `lengthAdjust="spacingAndGlyphs" fill="${front}"${bold}${faint}>${escaped(words)}</text>`;
  });
  if (back === undefined) return words;
  const area = `x="${place(0)}" y="${y}" width="${length(text)}" height="${CELL.height}"`;
  return [`<rect ${area} fill="${back}"/>`, ...words];
}

function coloursOf({ colour, background, inverse }: TextStyle): {
  readonly front: string;
  readonly back: string | undefined;
} {
  if (!inverse) return { front: colour ?? COLOURS.text, back: background };
  return { front: background ?? COLOURS.background, back: colour ?? COLOURS.text };
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
