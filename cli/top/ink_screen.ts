/**
 * The screen, drawn by Ink: it takes the terminal, draws pictures so that only what has changed is
 * written, tells keys, and gives the terminal back as it was. Loaded by `quasaur top` alone.
 *
 * @module
 */

import process from "node:process";
import type { Instance, Key } from "./ink.d.ts";
import type { Element } from "./react.d.ts";
import { type Frame, terminalLine } from "./line.ts";
import {
  ScreenInput,
  ScreenOutput,
  type TerminalInput,
  writeToTerminal,
} from "./terminal_streams.ts";

/** What a screen tells. */
export interface ScreenListener {
  /** A key was pressed: a character, or a name such as `up`, `enter` or `ctrl-c`. */
  onKey(key: string): void;
  /** The library failed. */
  onFailure(error: unknown): void;
}

/** How often at most the library draws, per second: often enough for keys to be felt. */
const FPS_MAX = 30;

/**
 * What gives a terminal back whatever was on it before: colours off, cursor shown, lines wrapped, the
 * usual screen. Terminals ignore what they do not know. Source: xterm's control sequences.
 */
const RESTORE = "\x1b[0m\x1b[?2026l\x1b[?25h\x1b[?1049l";

/** What is used of the library. */
type Ink = typeof import("./ink_library.ts");

/** The library, loaded as its users have it: React looks at the environment for how it was built. */
async function loadInk(): Promise<Ink> {
  const { env } = process;
  process.env = { NODE_ENV: "production" };
  try {
    return await import("./ink_library.ts");
  } finally {
    process.env = env;
  }
}

/** The terminal while a picture is on it. */
export class InkScreen {
  readonly #ink: Ink;
  readonly #output = new ScreenOutput();
  readonly #typed: TerminalInput;
  readonly #listener: ScreenListener;
  readonly #colours: boolean;
  #shown: Shown | undefined;

  private constructor(
    ink: Ink,
    typed: TerminalInput,
    listener: ScreenListener,
    colours: boolean,
  ) {
    this.#ink = ink;
    this.#typed = typed;
    this.#listener = listener;
    this.#colours = colours;
  }

  /**
   * Loads what is needed; the terminal is left alone.
   *
   * @param typed What is typed.
   * @param listener Hears of keys.
   * @param colours Whether colours may be used.
   */
  static async load(
    typed: TerminalInput,
    listener: ScreenListener,
    colours: boolean,
  ): Promise<InkScreen> {
    return new InkScreen(await loadInk(), typed, listener, colours);
  }

  /** Draws a picture; the first one takes the terminal. */
  draw(frame: Frame): void {
    const tree = this.#tree(frame);
    if (this.#shown !== undefined) return this.#shown.app.rerender(tree);
    this.#output.measure();
    const input = new ScreenInput();
    const app = this.#ink.render(tree, {
      stdin: input,
      stdout: this.#output,
      exitOnCtrlC: false,
      patchConsole: false,
      interactive: true,
      alternateScreen: true,
      incrementalRendering: true,
      maxFps: FPS_MAX,
    });
    app.waitUntilExit().catch((error: unknown) => this.#listener.onFailure(error));
    const stopTaking = this.#typed.takeBy((bytes) => void input.write(bytes));
    this.#shown = { app, input, stopTaking };
  }

  /** Gives the terminal back. The next picture takes it again. */
  leave(): void {
    const shown = this.#shown;
    this.#shown = undefined;
    if (shown === undefined) return;
    shown.stopTaking();
    try {
      shown.app.unmount();
    } finally {
      shown.input.setRawMode(false);
      shown.input.destroy();
      writeToTerminal(RESTORE);
    }
  }

  #tree(frame: Frame): Element {
    const { Box, Text, createElement } = this.#ink;
    const lines = frame.map((line, index) =>
      createElement(
        Text,
        { key: index, wrap: "truncate" },
        // An empty text has no height.
        terminalLine(line, this.#colours) || " ",
      )
    );
    const box = createElement(Box, { flexDirection: "column", height: frame.length }, ...lines);
    return createElement(this.#keyboard, {}, box);
  }

  /** The component that hears keys; always the same one, so that it stays in place. */
  readonly #keyboard = ({ children }: { readonly children?: Element }): Element => {
    this.#ink.useInput((input, key) => {
      for (const name of keyNames(input, key)) this.#listener.onKey(name);
    });
    return children ?? this.#ink.createElement(this.#ink.Box, {});
  };
}

/** What is on the terminal. */
interface Shown {
  readonly app: Instance;
  readonly input: ScreenInput;
  readonly stopTaking: () => void;
}

/** Names by which {@link ScreenListener.onKey} tells keys that the library has flags for. */
const NAMED: readonly (readonly [keyof Key, string])[] = [
  ["upArrow", "up"],
  ["downArrow", "down"],
  ["leftArrow", "left"],
  ["rightArrow", "right"],
  ["pageUp", "page-up"],
  ["pageDown", "page-down"],
  ["home", "home"],
  ["end", "end"],
  ["return", "enter"],
  ["escape", "escape"],
  ["tab", "tab"],
  ["backspace", "backspace"],
  ["delete", "backspace"],
];

/**
 * What was pressed; several keys where they came together, as pasted text does.
 *
 * @param input The characters.
 * @param key What the library found out about them.
 */
export function keyNames(input: string, key: Key): string[] {
  const named = NAMED.find(([flag]) => key[flag] === true)?.[1];
  if (named !== undefined) return [named];
  // The rest of a key that the library does not know.
  if (input.length > 1 && input.startsWith("[")) return [];
  if (key.ctrl) return input === "" ? [] : [`ctrl-${input}`];
  // No key is pressed with Alt here: Escape and another one came together.
  if (key.meta) return ["escape", ...keyNames(input, { ...key, meta: false })];
  return [...input].flatMap((character) => {
    if (character === " ") return ["space"];
    if (character === "\r" || character === "\n") return ["enter"];
    return character >= " " && character !== "\x7f" ? [character] : [];
  });
}
