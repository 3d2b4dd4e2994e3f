/**
 * Which engine runs the modules of an embedded sandboxer: WasmEdge, or V8 where WasmEdge is not
 * installed or V8 was asked for.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { CompiledCache } from "../wasm/compiled/cache.ts";
import type { Engine } from "../wasm/engine.ts";
import { DEFAULT_LIBRARY_PATH } from "../wasm/native/library.ts";
import type { System } from "../wasm/native/system.ts";
import { V8_LACKS, V8Engine } from "../wasm/v8/engine.ts";
import { WasmEdgeEngine } from "../wasm/wasmedge/engine.ts";
import type { OpenOptions, WasmEngine } from "./api.ts";

/** The engines by name. */
const ENGINES: readonly WasmEngine[] = ["wasmedge", "v8"];

/** What an engine is opened with. */
export interface EngineChoice extends Pick<OpenOptions, "engine" | "onWarning"> {
  /** Opens the cache of compiled code, which only WasmEdge needs. */
  readonly openCache?: () => Promise<CompiledCache | undefined>;
  /** The guest library; that of this program unless given. */
  readonly libraryPath?: string;
}

/** An engine that was opened, with its cache where it has one; both are the caller's to close. */
export interface OpenedEngine {
  /** The engine. */
  readonly engine: EmbeddedEngine;
  /** Compiled code for it. */
  readonly compiled: CompiledCache | undefined;
}

/** An engine with the system calls that go with it. */
export type EmbeddedEngine = Engine & { readonly system: System };

/**
 * Tells whether a name is an engine.
 *
 * @param name What a caller gave.
 * @throws {SandboxError} `InvalidArgument` naming the engines.
 */
export function checkEngine(name: string): WasmEngine {
  const engine = ENGINES.find((known) => known === name);
  if (engine !== undefined) return engine;
  throw new SandboxError(
    "InvalidArgument",
    `cannot use engine ${JSON.stringify(name)}: unknown: expected ${ENGINES.join(" or ")}`,
  );
}

/**
 * Opens the engine that was asked for, or else WasmEdge, or else V8 with a warning.
 *
 * @param choice See {@link EngineChoice}.
 * @throws {SandboxError} `FailedPrecondition` when the engine or the guest library is missing.
 */
export async function openEmbeddedEngine(choice: EngineChoice): Promise<OpenedEngine> {
  const { libraryPath = DEFAULT_LIBRARY_PATH, onWarning } = choice;
  const wanted = choice.engine === undefined ? undefined : checkEngine(choice.engine);
  if (wanted === "v8") return { engine: new V8Engine({ libraryPath }), compiled: undefined };
  try {
    return await openWasmEdge(libraryPath, choice);
  } catch (error) {
    const missing = SandboxError.from(error);
    if (wanted !== undefined || missing.code !== "FailedPrecondition") throw missing;
    const engine = openInstead(libraryPath, missing);
    onWarning?.(`using V8 instead of WasmEdge: ${V8_LACKS} (${missing.message})`);
    return { engine, compiled: undefined };
  }
}

async function openWasmEdge(libraryPath: string, choice: EngineChoice): Promise<OpenedEngine> {
  const compiled = await choice.openCache?.();
  try {
    const engine = new WasmEdgeEngine({ libraryPath, ...(compiled && { compiled }) });
    return { engine, compiled };
  } catch (error) {
    await compiled?.close();
    throw error;
  }
}

/** V8; where that cannot be had either, what was missing first is what counts. */
function openInstead(libraryPath: string, missing: SandboxError): V8Engine {
  try {
    return new V8Engine({ libraryPath });
  } catch {
    throw missing;
  }
}
