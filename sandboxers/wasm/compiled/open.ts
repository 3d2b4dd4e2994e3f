/**
 * Opens the cache of compiled code for an engine on this machine.
 *
 * @module
 */

import type { Log } from "../../log.ts";
import { DEFAULT_LIBRARY_PATH } from "../native/library.ts";
import { System } from "../native/system.ts";
import { COMPILE_OPTIONS } from "../wasmedge/compile_options.ts";
import { sha256 } from "../digest.ts";
import { KEEPER_MODULE } from "../wasmedge/keeper.ts";
import { WasmEdgeLibrary } from "../wasmedge/library.ts";
import { CompiledCache } from "./cache.ts";
import { cacheKey } from "./cache_key.ts";
import { type CompileLimits, LauncherCompiler } from "./compiler.ts";
import { describeProcessor } from "./processor.ts";

/** The directory that all processes of the system share. */
export const SYSTEM_CACHE_DIRECTORY = "/var/cache/quasaur/wasm";

/** Options of {@link openEngineCache}. */
export interface EngineCacheOptions {
  /** Where notes go. */
  readonly log?: Log;
  /** Whether modules that are not there are compiled (default), or only looked for. */
  readonly compile?: boolean;
  /** Bounds of a compile that differ from the usual ones. */
  readonly limits?: Partial<CompileLimits>;
}

/**
 * Opens the cache for the WasmEdge engine of this process. Where its directory or its compiler
 * cannot be used, it has nothing, and modules are interpreted.
 *
 * @param directory Where entries lie, an absolute path.
 * @param options Whether and how to compile.
 * @throws {SandboxError} `FailedPrecondition` when the engine or the guest library is missing.
 */
export async function openEngineCache(
  directory: string,
  options: EngineCacheOptions = {},
): Promise<CompiledCache> {
  const { log, compile = true, limits } = options;
  const { version } = new WasmEdgeLibrary(DEFAULT_LIBRARY_PATH);
  const key = cacheKey({
    engine: `wasmedge ${version}`,
    options: COMPILE_OPTIONS,
    processor: await describeProcessor(new System(DEFAULT_LIBRARY_PATH)),
  });
  const compiler = new LauncherCompiler({
    options: COMPILE_OPTIONS,
    ...(limits === undefined ? {} : { limits }),
  });
  const cache = await CompiledCache.open({
    directory,
    key,
    ...(compile ? { compiler } : {}),
    ...(log === undefined ? {} : { log }),
  });
  // Nothing runs compiled before this does, so it comes first.
  const keeper = await sha256(KEEPER_MODULE);
  if (compile && await cache.find(keeper) === undefined) cache.request(keeper, KEEPER_MODULE);
  return cache;
}
