/**
 * The WasmEdge library: opened, checked, silenced, and the few calls that are not about one module
 * or one guest.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { type Address, openLibrary } from "../native/library.ts";
import { Memory } from "../native/memory.ts";
import { VERSION_SYMBOLS, WASMEDGE_SYMBOLS } from "./symbols.ts";

/** The functions of {@link WASMEDGE_SYMBOLS}. */
export type WasmEdgeFunctions = Deno.DynamicLibrary<typeof WASMEDGE_SYMBOLS>["symbols"];

/** The module name of all imports that the engine provides. */
export const WASI_MODULE = "wasi_snapshot_preview1";

/**
 * The versions whose C API this is. 0.14 (Debian 13) has no WASI with streams of its own for each
 * guest (WasmEdge_ModuleInstanceCreateWASIWithFds): all guests would share the process's. Later ones
 * than the last may differ in what is not a matter of names, such as the layout of a value.
 */
const VERSION_MIN = [0, 17] as const;
const VERSION_END = [0, 18] as const;
/** mallopt(3). */
const ALLOCATOR_SYMBOLS = { mallopt: { parameters: ["i32", "i32"], result: "i32" } } as const;
const M_MMAP_THRESHOLD = -3;
/** Blocks from this size on are mapped for themselves and go back to the system when freed. */
const MAPPED_BYTES_MIN = 1_048_576;

/** Configurations that are kept, one for each memory limit in use. */
const CONFIGURATIONS_MAX = 64;
/** Bytes of a `WasmEdge_String`. */
const STRING_BYTES = 16;
const LIST_MAX = 100_000;

/**
 * WasmEdge_Proposal: what no guest gets, in an order that keeps to their dependencies.
 *
 * Garbage collection: the engine never frees an object before the instance ends, takes any size in
 * one step, and ends the process where there is no memory for it. Typed references: of use only
 * with it. Multiple memories: the limit in pages is for each of them. 64-bit memory: the engine's
 * WASI has none.
 */
const PROPOSALS_OFF = { gc: 10, functionReferences: 9, multiMemories: 11, memory64: 15 } as const;
/** WasmEdge_RunMode. */
const RUN_MODES: Readonly<Record<RunMode, number>> = { interpreter: 0, compiled: 2 };

/** How the functions of a module are run. */
export type RunMode = "interpreter" | "compiled";

/** The opened engine. */
export class WasmEdgeLibrary {
  /** See {@link openLibrary}. */
  readonly path: string;
  /** The engine's functions. */
  readonly c: WasmEdgeFunctions;
  /** Memory that the engine owns or reads. */
  readonly memory: Memory;
  /** The engine's version, such as `0.17.1`. */
  readonly version: string;
  /** Names of the functions that the engine's WASI has. */
  readonly wasiFunctions: ReadonlySet<string>;
  readonly #configurations = new Map<number | undefined, Address>();

  /**
   * Opens, silences and checks the engine.
   *
   * @param libraryPath See {@link openLibrary}.
   * @throws {SandboxError} `FailedPrecondition` when the engine is missing or too old.
   */
  constructor(libraryPath: string) {
    this.path = libraryPath;
    this.memory = new Memory(libraryPath);
    this.version = supportedVersion(libraryPath, this.memory);
    this.c = openLibrary(libraryPath, WASMEDGE_SYMBOLS);
    // First of all: its log goes to stdout by default, which belongs to whoever started us.
    this.c.WasmEdge_LogOff();
    // By default the allocator learns from each big block that is freed to keep the next one: then
    // one guest's table or stack would be made of what another one has left, and not be counted.
    openLibrary(libraryPath, ALLOCATOR_SYMBOLS).mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
    this.wasiFunctions = this.#listWasiFunctions();
  }

  /** The engine's words for a result code. */
  message(code: number): string {
    const text = this.memory.readCString(this.c.WasmEdge_ResultGetMessage(code));
    return text === "" ? `error 0x${code.toString(16)}` : text;
  }

  /**
   * Makes a configuration.
   *
   * @param memoryPagesMax Most 64 KiB pages of linear memory; undefined for no limit of ours.
   * @param runMode `compiled` only to load a file that this host has compiled itself: in any other
   *   mode machine code inside of a file is never executed.
   * @returns To be deleted by the caller.
   */
  configure(
    memoryPagesMax: number | undefined,
    runMode: RunMode = "interpreter",
  ): Address {
    const configuration = this.c.WasmEdge_ConfigureCreate();
    this.c.WasmEdge_ConfigureSetRunMode(configuration, RUN_MODES[runMode]);
    for (const proposal of Object.values(PROPOSALS_OFF)) {
      this.c.WasmEdge_ConfigureRemoveProposal(configuration, proposal);
    }
    if (memoryPagesMax !== undefined) {
      this.c.WasmEdge_ConfigureSetMaxMemoryPage(configuration, BigInt(memoryPagesMax));
    }
    return configuration;
  }

  /**
   * The configuration for guests with a limit; as {@link WasmEdgeLibrary.configure}, but kept for the
   * next guest and not to be deleted by the caller.
   *
   * @param memoryPagesMax See {@link WasmEdgeLibrary.configure}.
   */
  guestConfiguration(memoryPagesMax: number | undefined): Address {
    const kept = this.#configurations.get(memoryPagesMax);
    if (kept !== undefined) return kept;
    if (this.#configurations.size >= CONFIGURATIONS_MAX) this.releaseConfigurations();
    const configuration = this.configure(memoryPagesMax);
    this.#configurations.set(memoryPagesMax, configuration);
    return configuration;
  }

  /** Deletes the configurations that are kept. */
  releaseConfigurations(): void {
    for (const kept of this.#configurations.values()) this.c.WasmEdge_ConfigureDelete(kept);
    this.#configurations.clear();
  }

  /** The text of a `WasmEdge_String` at the start of `bytes`. */
  string(bytes: Uint8Array, offset = 0): string {
    const view = new DataView(bytes.buffer, bytes.byteOffset + offset, STRING_BYTES);
    return this.memory.readText(view.getBigUint64(8, true), view.getUint32(0, true));
  }

  #listWasiFunctions(): ReadonlySet<string> {
    const wasi = this.c.WasmEdge_ModuleInstanceCreateWASI(0n, 0, 0n, 0, 0n, 0);
    try {
      const count = this.c.WasmEdge_ModuleInstanceListFunctionLength(wasi);
      const strings = new Uint8Array(Math.min(count, LIST_MAX) * STRING_BYTES);
      // SAFETY: room for `count` structures of 16 bytes; the names live as long as `wasi`.
      this.c.WasmEdge_ModuleInstanceListFunction(wasi, strings, strings.length / STRING_BYTES);
      const names = new Set<string>();
      for (let at = 0; at < strings.length; at += STRING_BYTES) names.add(this.string(strings, at));
      return names;
    } finally {
      this.c.WasmEdge_ModuleInstanceDelete(wasi);
    }
  }
}

/**
 * The engine's version. It is looked at before anything else of the engine: functions that a version
 * lacks would make for a message that says nothing of versions.
 */
function supportedVersion(libraryPath: string, memory: Memory): string {
  const c = openLibrary(libraryPath, VERSION_SYMBOLS);
  const version = memory.readCString(c.WasmEdge_VersionGet());
  const found = [c.WasmEdge_VersionGetMajor(), c.WasmEdge_VersionGetMinor()] as const;
  if (!isBefore(found, VERSION_MIN) && isBefore(found, VERSION_END)) return version;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot use WasmEdge ${version}: from ${VERSION_MIN.join(".")} to before ` +
      `${VERSION_END.join(".")} is needed: install that version of the Debian package libwasmedge0`,
  );
}

function isBefore(a: readonly [number, number], b: readonly [number, number]): boolean {
  return a[0] < b[0] || a[0] === b[0] && a[1] < b[1];
}
