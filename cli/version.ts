/**
 * `quasaur version` and `quasaur --version`.
 *
 * @module
 */

import { Command } from "commander";
import config from "../deno.json" with { type: "json" };
import { print } from "./terminal.ts";

/** The version of this program. */
export const VERSION: string = config.version;

/** Makes the command. */
export function versionCommand(): Command {
  return new Command("version")
    .description("Print the version of this program and of what it runs on.")
    .action(() => {
      const { arch, os } = Deno.build;
      print(`quasaur ${VERSION}\ndeno ${Deno.version.deno}\nplatform ${os}/${arch}\n`);
    });
}
