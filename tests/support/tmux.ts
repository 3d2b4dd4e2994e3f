/**
 * A real terminal for tests and screenshots: a tmux server of its own with one window, into which keys
 * are typed and whose screen is read.
 *
 * @module
 */

import { run } from "./command.ts";
import { waitFor } from "./wait.ts";

/** How a {@link Tmux} begins. */
export interface TmuxOptions {
  /** How many cells a line has. Default 80. */
  readonly columns?: number;
  /** How many lines there are. Default 24. */
  readonly rows?: number;
  /** What the window runs. Default a shell with the prompt `$ `. */
  readonly command?: readonly string[];
  /** Variables added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A shell with a prompt that looks the same everywhere. */
const SHELL = ["/usr/bin/env", "-u", "NO_COLOR", "-u", "ENV", "PS1=$ ", "/bin/sh"];

/** A terminal. Disposing of it ends what runs in it. */
export class Tmux implements AsyncDisposable {
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** Opens a terminal. */
  static async open(options: TmuxOptions = {}): Promise<Tmux> {
    const { columns = 80, rows = 24, command = SHELL, env = {} } = options;
    const tmux = new Tmux(await Deno.makeTempDir({ prefix: "quasaur-tmux-" }));
    try {
      // The server has the environment of the one who starts it.
      await tmux.#run(["new-session", "-d", "-x", `${columns}`, "-y", `${rows}`, ...command], env);
      return tmux;
    } catch (error) {
      await tmux[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Types text as it is. */
  async type(text: string): Promise<void> {
    await this.#run(["send-keys", "-l", "--", text]);
  }

  /** Presses keys by the names of tmux(1), such as `Enter`, `Down` or `C-c`. */
  async press(...keys: readonly string[]): Promise<void> {
    await this.#run(["send-keys", ...keys]);
  }

  /** Changes the size of the window. */
  async resize(columns: number, rows: number): Promise<void> {
    await this.#run(["resize-window", "-x", `${columns}`, "-y", `${rows}`]);
  }

  /**
   * What is on the screen now.
   *
   * @param options `styled`: with the control sequences of colours, and with the spaces at the ends of
   *   lines, which may have a colour too. Default false.
   * @returns Its lines.
   */
  async screen({ styled = false }: { readonly styled?: boolean } = {}): Promise<string> {
    return await this.#run(["capture-pane", "-p", ...(styled ? ["-e", "-N"] : [])]);
  }

  /**
   * Waits until the screen shows something.
   *
   * @param wanted What.
   * @returns The screen.
   * @throws {Error} With the screen as it was last.
   */
  async shows(wanted: string | RegExp): Promise<string> {
    return await waitFor(`the screen to show ${wanted}`, async () => {
      const screen = await this.screen();
      const isThere = typeof wanted === "string" ? screen.includes(wanted) : wanted.test(screen);
      if (!isThere) throw new Error(`it shows\n${screen}`);
      return screen;
    });
  }

  /** A fact about the window, such as `alternate_on` or `cursor_flag`: see FORMATS in tmux(1). */
  async fact(name: string): Promise<string> {
    return (await this.#run(["display-message", "-p", `#{${name}}`])).trimEnd();
  }

  async #run(
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const command = ["tmux", "-S", `${this.#directory}/socket`, "-f", "/dev/null"] as const;
    // Without a locale tmux would write what is not ASCII as underscores.
    const { stdout } = await run([...command, ...args], {
      env: { LC_ALL: "C.UTF-8", ...env },
    });
    return stdout;
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#run(["kill-server"]).catch(() => {});
    await Deno.remove(this.#directory, { recursive: true });
  }
}
