/**
 * The main function of every sandboxer: read the command line, make the log, let the kind compose its
 * sandboxer, serve.
 *
 * @module
 */

import {
  type Flags,
  flagsOrExit,
  type KindFlags,
  type KindValues,
  NO_KIND_FLAGS,
} from "./flags.ts";
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
export function sandboxerMain(
  kind: string,
  compose: (flags: Flags, log: Log) => Sandboxer | Promise<Sandboxer>,
): Promise<never>;
/**
 * Runs a sandboxer process whose kind has flags of its own.
 *
 * @param compose Gets their values too.
 * @param ownFlags Those flags.
 */
export function sandboxerMain<F extends KindFlags>(
  kind: string,
  compose: (flags: Flags, log: Log, own: KindValues<F>) => Sandboxer | Promise<Sandboxer>,
  ownFlags: F,
): Promise<never>;
/** See above. */
export async function sandboxerMain(
  kind: string,
  compose: (
    flags: Flags,
    log: Log,
    own: KindValues<KindFlags>,
  ) => Sandboxer | Promise<Sandboxer>,
  ownFlags: KindFlags = NO_KIND_FLAGS,
): Promise<never> {
  const { flags, own } = flagsOrExit(kind, ownFlags);
  const log = createLog({ level: flags.logLevel, format: flags.logFormat });
  // Not before it is known that no other process uses the same directory: composing changes it.
  return await serve({ sandboxer: () => compose(flags, log, own), log, ...flags });
}
