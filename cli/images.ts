/**
 * `quasaur images`: what can be done with images without running them.
 *
 * @module
 */

import { Command } from "commander";
import { precompileCommand } from "./precompile.ts";

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 */
export function imagesCommand(end: (code: number) => void): Command {
  return new Command("images")
    .description("Prepare images.")
    .helpCommand(false)
    .addCommand(precompileCommand(end));
}
