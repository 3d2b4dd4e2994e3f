// The part of Ink that is used here. Its own types need those of React, which are another package,
// and want Node's streams where these few members do.

import type { Component, Element } from "./react.d.ts";
import type { ScreenInput, ScreenOutput } from "./terminal_streams.ts";

/** A key that has no character of its own, or was pressed with others. */
export interface Key {
  /** Up. */
  readonly upArrow: boolean;
  /** Down. */
  readonly downArrow: boolean;
  /** Left. */
  readonly leftArrow: boolean;
  /** Right. */
  readonly rightArrow: boolean;
  /** Page up. */
  readonly pageUp: boolean;
  /** Page down. */
  readonly pageDown: boolean;
  /** Home. */
  readonly home: boolean;
  /** End. */
  readonly end: boolean;
  /** Enter. */
  readonly return: boolean;
  /** Escape. */
  readonly escape: boolean;
  /** Whether Control was held. */
  readonly ctrl: boolean;
  /** Whether Alt was held, which is sent as an Escape before the key. */
  readonly meta: boolean;
  /** Tab. */
  readonly tab: boolean;
  /** Backspace. */
  readonly backspace: boolean;
  /** Delete, which is what many terminals send for backspace. */
  readonly delete: boolean;
}

/** How a picture is drawn. */
export interface RenderOptions {
  /** Where keys come from. */
  readonly stdin: ScreenInput;
  /** Where pictures go. */
  readonly stdout: ScreenOutput;
  /** Whether Ctrl-C ends it. */
  readonly exitOnCtrlC: boolean;
  /** Whether what is written to the console is shown above the picture. */
  readonly patchConsole: boolean;
  /** Whether there is a person. */
  readonly interactive: boolean;
  /** Whether it is drawn on the screen that terminals have beside the usual one. */
  readonly alternateScreen: boolean;
  /** Whether only lines that have changed are written. */
  readonly incrementalRendering: boolean;
  /** How often it is drawn at most, per second. */
  readonly maxFps: number;
}

/** A picture on a terminal. */
export interface Instance {
  /** Draws another picture in its place. */
  rerender(tree: Element): void;
  /** Leaves the terminal. */
  unmount(): void;
  /** Waits until it has left; fails where drawing has. */
  waitUntilExit(): Promise<unknown>;
}

/** Holds other pieces. */
export const Box: Component<{
  readonly flexDirection?: "row" | "column";
  readonly height?: number;
  readonly children?: unknown;
}>;
/** A text in one line. */
export const Text: Component<{ readonly wrap?: "truncate"; readonly children?: unknown }>;
/** Draws a picture and takes the terminal. */
export function render(tree: Element, options: RenderOptions): Instance;
/** Hears keys, in a component. */
export function useInput(onKeys: (input: string, key: Key) => void): void;
