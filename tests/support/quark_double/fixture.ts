/**
 * Puts the double in Quark's place for a test: a program of that name, and its configuration.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import type { DoubleConfig } from "./double_config.ts";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));

/** What of the configuration tests choose. */
export type DoubleChoice = NonNullable<DoubleConfig["Double"]>;

/** The double, installed. Disposing of it removes its files; what it started is the test's to end. */
export class QuarkDouble implements AsyncDisposable {
  private constructor(
    /** A directory below /run, which only root can change. */
    readonly directory: string,
  ) {}

  /** The program. */
  get program(): string {
    return `${this.directory}/quark`;
  }

  /** Its configuration. */
  get configPath(): string {
    return `${this.directory}/config.json`;
  }

  /**
   * Installs it.
   *
   * @param choice What it does beyond the usual.
   */
  static async install(choice: DoubleChoice = {}): Promise<QuarkDouble> {
    const directory = `/run/quark-double-${crypto.randomUUID().slice(0, 8)}`;
    await Deno.mkdir(directory, { mode: 0o755 });
    const double = new QuarkDouble(directory);
    await double.configure({ Sandboxed: true, ShimMode: false, Double: choice });
    // The launcher clears the environment.
    const script = `#!/bin/sh
export HOME=/root DENO_DIR='${Deno.env.get("DENO_DIR") ?? "/root/.cache/deno"}' NO_COLOR=1
export QUARK_DOUBLE_CONFIG='${double.configPath}'
exec '${Deno.execPath()}' run --quiet -A '${MAIN}' "$@"
`;
    await Deno.writeTextFile(double.program, script, { mode: 0o755 });
    return double;
  }

  /** Changes its configuration; sandboxes that run are not told. */
  async configure(config: DoubleConfig): Promise<void> {
    await Deno.writeTextFile(this.configPath, JSON.stringify(config));
  }

  /** Removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}
