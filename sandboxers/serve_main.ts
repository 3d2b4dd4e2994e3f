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
import { createLog, type RootLog } from "./log.ts";
import type { Composed } from "./management/ports.ts";
import { serve } from "./serve.ts";
import { openTelemetry } from "./telemetry/open.ts";
import type { Telemetry } from "./telemetry/telemetry.ts";

/** What comes with the program of a kind. */
export interface ProgramParts {
  /** The native launcher, an absolute path; it stands in for the process while that is restarted. */
  readonly launcher?: string;
}

/**
 * Puts the lifecycle and a kind's driver together. What it throws is logged, and the process exits
 * with 1.
 *
 * @param own The values of the kind's own flags.
 */
export type Compose<F extends KindFlags> = (
  flags: Flags,
  log: RootLog,
  own: KindValues<F>,
  telemetry: Telemetry,
) => Sandboxer | Composed | Promise<Sandboxer | Composed>;

/**
 * Runs a sandboxer process until a signal ends it.
 *
 * @param kind `wasm`, `vmm` or `quark`.
 * @param compose See {@link Compose}.
 */
export function sandboxerMain(kind: string, compose: Compose<KindFlags>): Promise<never>;
/**
 * Runs a sandboxer process whose kind has flags of its own.
 *
 * @param compose Gets their values too.
 * @param ownFlags Those flags.
 * @param parts See {@link ProgramParts}.
 */
export function sandboxerMain<F extends KindFlags>(
  kind: string,
  compose: Compose<F>,
  ownFlags: F,
  parts?: ProgramParts,
): Promise<never>;
/** See above. */
export async function sandboxerMain(
  kind: string,
  compose: Compose<KindFlags>,
  ownFlags: KindFlags = NO_KIND_FLAGS,
  parts: ProgramParts = {},
): Promise<never> {
  const { flags, own } = flagsOrExit(kind, ownFlags);
  const log = createLog({ level: flags.logLevel, format: flags.logFormat });
  const telemetry = await openTelemetry({ kind, metrics: flags.metrics, log });
  // Not before it is known that no other process uses the same directory: composing changes it.
  const sandboxer = () => compose(flags, log, own, telemetry);
  return await serve({ sandboxer, log, telemetry, ...parts, ...flags });
}
