/**
 * `quasaur` as a program of its own, with the rights of the commands that talk to sandboxers, for a
 * bed: what is typed into a terminal then is what people type.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };
import { permissionFlags, REPOSITORY } from "./permissions.ts";

/** A directory with the program `quasaur` in it. Disposing of it removes the directory. */
export class ClientProgram implements AsyncDisposable {
  private constructor(
    /** The directory, for `PATH`. */
    readonly directory: string,
  ) {}

  /**
   * Makes one.
   *
   * @param runDirectory What the bed has in the place of /run/quasaur.
   * @param addresses Sockets of sandboxers, which it is given each time; those it finds where empty.
   */
  static async make(runDirectory: string, addresses: readonly string[]): Promise<ClientProgram> {
    const { permissions }: {
      readonly permissions: Record<string, Record<string, unknown>>;
    } = config;
    const rights = permissions["cli-client"];
    if (rights === undefined) throw new Error('deno.json has no permission set "cli-client"');
    const made = new ClientProgram(await Deno.makeTempDir({ prefix: "quasaur-program-" }));
    const words = [
      ...[Deno.execPath(), "run", "--quiet", "--no-prompt", `--config=${REPOSITORY}/deno.json`],
      ...permissionFlags(rights, new Map([["/run/quasaur", runDirectory]])),
      `${REPOSITORY}/cli/main.ts`,
      ...addresses.map((address) => `--address=${address}`),
    ];
    const quoted = words.map((word) => `'${word}'`).join(" ");
    const text = `#!/bin/sh\necho $$ >'${made.#pidPath}'\nexec ${quoted} "$@"\n`;
    await Deno.writeTextFile(`${made.directory}/quasaur`, text, { mode: 0o755 });
    return made;
  }

  /** The process id of the program that was started last. */
  async pid(): Promise<number> {
    return Number(await Deno.readTextFile(this.#pidPath));
  }

  get #pidPath(): string {
    return `${this.directory}/pid`;
  }

  /** Removes the directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}
