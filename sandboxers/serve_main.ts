/**
 * The main function of every sandboxer: read the command line, make the log, let the kind compose its
 * sandboxer, serve.
 *
 * @module
 */

import { type Flags, flagsOrExit } from "./flags.ts";
import { SandboxError } from "./lifecycle/errors.ts";
import type { Sandboxer } from "./lifecycle/sandboxer.ts";
import { createLog, type Log } from "./log.ts";
import { serve } from "./serve.ts";

/**
 * Runs a sandboxer process until a signal ends it.
 *
 * @param kind `wasm`, `vmm` or `quark`.
 * @param compose Puts the lifecycle and the kind's driver together. What it throws is logged, and
 *   the process exits with 1.
 */
export async function sandboxerMain(
  kind: string,
  compose: (flags: Flags, log: Log) => Sandboxer | Promise<Sandboxer>,
): Promise<never> {
  const flags = flagsOrExit(kind);
  const log = createLog({ level: flags.logLevel, format: flags.logFormat });
  let sandboxer: Sandboxer;
  try {
    sandboxer = await compose(flags, log);
  } catch (error) {
    log.error("cannot start", { kind, error: SandboxError.from(error) });
    Deno.exit(1);
  }
  return await serve({ sandboxer, log, ...flags });
}
