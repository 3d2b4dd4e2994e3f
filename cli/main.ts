/**
 * The `quasaur` command.
 *
 * @module
 */

import { runProgram } from "./program.ts";

if (import.meta.main) Deno.exit(await runProgram(Deno.args));
