/**
 * `quasaur top` on a terminal: brings what is known, what is pressed and what is drawn together, and
 * leaves the terminal as it was, however it ends.
 *
 * @module
 */

import process from "node:process";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { codeOfSignal } from "../exit_codes.ts";
import { perform, runShell } from "./actions.ts";
import { frame } from "./frame.ts";
import { InkScreen } from "./ink_screen.ts";
import { type Action, firstScreen, press, type Screen, settle, target } from "./interaction.ts";
import { LogFollower } from "./log_follower.ts";
import { TopModel } from "./model.ts";
import { places } from "./places.ts";
import { bodyRows, type Scene } from "./scene.ts";
import type { Selection } from "./selection.ts";
import { Source } from "./source.ts";
import { setRaw, TerminalInput, terminalSize } from "./terminal_streams.ts";
import { scrollMax, textOf } from "./text_frame.ts";

/** How the session begins. */
export interface SessionOptions {
  /** Sockets of sandboxers; those that are found where it is empty. */
  readonly addresses: readonly string[];
  /** How often usage is asked for, in milliseconds. */
  readonly intervalMs: number;
  /** Which pods are shown, and in which order. */
  readonly selection: Selection;
  /** Whether colours may be used. */
  readonly colours: boolean;
}

/** Least time between two pictures of new data: 4 of them in a second. */
const DATA_MS = 250;
/** How long a picture may stay while nothing happens but that time passes. */
const CLOCK_MS = 1_000;

/** Signals that end it, by number. */
const ENDING = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1, SIGQUIT: 3 } as const;

/**
 * Runs until it is left.
 *
 * @returns The exit code.
 * @throws Whatever broke it; the terminal is as it was before.
 */
export async function runSession(options: SessionOptions): Promise<number> {
  const session = new Session(options);
  return await session.run();
}

class Session {
  readonly #options: SessionOptions;
  readonly #model = new TopModel();
  readonly #end = Promise.withResolvers<number>();
  readonly #over = new AbortController();
  readonly #typed = new TerminalInput(() => this.#end.resolve(codeOfSignal(ENDING.SIGHUP)));
  readonly #logs = new LogFollower(() => this.#changed = true);
  #screen: Screen;
  #view: InkScreen | undefined;
  #source: Source | undefined;
  /** Whether another program has the terminal. */
  #lent = false;
  #changed = true;
  #drawnVersion = -1;
  #drawnAtMs = 0;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#screen = { ...firstScreen(options.selection.sort), selection: options.selection };
  }

  async run(): Promise<number> {
    await using stack = new AsyncDisposableStack();
    // A shell may have the terminal when the end comes.
    stack.defer(() => setRaw(false));
    stack.use(this.#logs);
    this.#view = await InkScreen.load(this.#typed, {
      onKey: (key) => this.#onKey(key),
      onFailure: (error) => this.#end.reject(error),
    }, this.#options.colours);
    const { addresses, intervalMs } = this.#options;
    this.#source = stack.use(new Source({ model: this.#model, addresses, intervalMs }));
    stack.defer(() => this.#over.abort());
    // The terminal is given back first of all: the rest may take a moment.
    stack.defer(() => this.#view?.leave());
    this.#catchSignals(stack);
    const timer = setInterval(() => this.#drawIfDue(), DATA_MS);
    stack.defer(() => clearInterval(timer));
    this.#draw();
    return await this.#end.promise;
  }

  /** Signals and failures that nobody waits for end it in order; a new size draws it anew. */
  #catchSignals(stack: AsyncDisposableStack): void {
    for (const [name, number] of Object.entries(ENDING)) {
      const listener = (): void => this.#end.resolve(codeOfSignal(number));
      process.on(name, listener);
      stack.defer(() => void process.off(name, listener));
    }
    // What was stopped and goes on finds another program's picture and settings.
    const spoilt = (): void => this.#redraw();
    for (const name of ["SIGWINCH", "SIGCONT"] as const) {
      process.on(name, spoilt);
      stack.defer(() => void process.off(name, spoilt));
    }
    const failed = (event: PromiseRejectionEvent | ErrorEvent): void => {
      event.preventDefault();
      this.#end.reject("reason" in event ? event.reason : event.error);
    };
    globalThis.addEventListener("unhandledrejection", failed);
    globalThis.addEventListener("error", failed);
    stack.defer(() => {
      globalThis.removeEventListener("unhandledrejection", failed);
      globalThis.removeEventListener("error", failed);
    });
  }

  #onKey(key: string): void {
    try {
      const scene = this.#scene();
      const { screen, effect } = press(this.#screen, key, {
        pods: scene.pods,
        pageRows: bodyRows(scene),
      });
      this.#screen = screen;
      if (effect?.do === "quit") this.#end.resolve(0);
      else if (effect?.do === "redraw") this.#redraw();
      else if (effect?.do === "act") void this.#act(effect.action);
      this.#draw();
    } catch (error) {
      this.#end.reject(error);
    }
  }

  async #act(action: Action): Promise<void> {
    try {
      const client = this.#source?.client(action.pod.address);
      if (client === undefined) return;
      if (action.verb === "shell") await this.#shell(action, client);
      else this.#say(await perform(action, client), false);
    } catch (error) {
      this.#say(`cannot ${action.verb}: ${SandboxError.from(error).message}`, true);
    }
  }

  async #shell(action: Action, client: Parameters<typeof runShell>[1]): Promise<void> {
    if (this.#lent) return;
    if (action.pod.kind !== "wasm") {
      this.#lent = true;
      this.#view?.leave();
    }
    try {
      const { text, isError } = await runShell(action, client, this.#typed, this.#over.signal);
      this.#say(text, isError);
    } finally {
      this.#lent = false;
      this.#draw();
    }
  }

  #say(text: string, isError: boolean): void {
    this.#screen = { ...this.#screen, message: { text, isError } };
    this.#changed = true;
  }

  /** Draws where there is something new, not too often. */
  #drawIfDue(): void {
    const isNew = this.#changed || this.#model.version !== this.#drawnVersion;
    if (isNew || performance.now() - this.#drawnAtMs >= CLOCK_MS) this.#draw();
  }

  /** Takes the terminal anew: what is on it may have been spoilt. */
  #redraw(): void {
    if (this.#lent) return;
    this.#view?.leave();
    this.#draw();
  }

  #draw(): void {
    if (this.#lent || this.#over.signal.aborted) return;
    this.#changed = false;
    this.#drawnVersion = this.#model.version;
    this.#drawnAtMs = performance.now();
    try {
      const scene = this.#scene();
      const pageRows = bodyRows(scene);
      let screen = settle(this.#screen, { pods: scene.pods, pageRows });
      if (screen.view !== "list") {
        const most = scrollMax(textOf({ ...scene, screen }), pageRows);
        screen = { ...screen, scroll: Math.min(screen.scroll, most) };
      }
      this.#screen = screen;
      this.#followLogs(scene);
      this.#view?.draw(frame({ ...scene, screen, logs: this.#logs.lines }));
    } catch (error) {
      this.#end.reject(error);
    }
  }

  #followLogs({ pods }: Scene): void {
    const { view, tab } = this.#screen;
    const isShown = view === "pod" && tab === "logs";
    const { pod, container } = isShown
      ? target(this.#screen, { pods })
      : { pod: undefined, container: undefined };
    this.#logs.follow(pod, container, (id, tail, signal) => {
      if (pod === undefined || this.#source === undefined) throw new Error("no pod is shown");
      return this.#source.client(pod.address).logs({ target: id, follow: true, tail }, { signal });
    });
  }

  #scene(): Scene {
    const nowMs = Date.now();
    return {
      size: terminalSize(),
      nowMs,
      intervalMs: this.#options.intervalMs,
      sandboxers: this.#model.sandboxers(nowMs),
      places: places(this.#options.addresses, this.#source?.problems ?? []),
      pods: this.#model.pods(),
      events: this.#model.events(),
      logs: this.#logs.lines,
      screen: this.#screen,
    };
  }
}
