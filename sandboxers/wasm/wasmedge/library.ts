/**
 * The WasmEdge library: opened, checked, silenced, and the few calls that are not about one module
 * or one guest.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { type Address, openLibrary } from "../native/library.ts";
import { Memory } from "../native/memory.ts";
import { WASMEDGE_SYMBOLS } from "./symbols.ts";

/** The functions of {@link WASMEDGE_SYMBOLS}. */
export type WasmEdgeFunctions = Deno.DynamicLibrary<typeof WASMEDGE_SYMBOLS>["symbols"];

/** The module name of all imports that the engine provides. */
export const WASI_MODULE = "wasi_snapshot_preview1";

const VERSION_MAJOR = 0;
const VERSION_MINOR_MIN = 17;
/** Bytes of a `WasmEdge_String`. */
const STRING_BYTES = 16;
const LIST_MAX = 100_000;

/** WasmEdge_Proposal. */
const PROPOSAL_MULTI_MEMORIES = 11;
/** WasmEdge_RunMode. */
const RUN_MODE_INTERPRETER = 0;

/** The opened engine. */
export class WasmEdgeLibrary {
  /** The engine's functions. */
  readonly c: WasmEdgeFunctions;
  /** Memory that the engine owns or reads. */
  readonly memory: Memory;
  /** The engine's version, such as `0.17.1`. */
  readonly version: string;
  /** Names of the functions that the engine's WASI has. */
  readonly wasiFunctions: ReadonlySet<string>;

  /**
   * Opens, silences and checks the engine.
   *
   * @param libraryPath See {@link openLibrary}.
   * @throws {SandboxError} `FailedPrecondition` when the engine is missing or too old.
   */
  constructor(libraryPath: string) {
    this.c = openLibrary(libraryPath, WASMEDGE_SYMBOLS);
    // First of all: its log goes to stdout by default, which belongs to whoever started us.
    this.c.WasmEdge_LogOff();
    this.memory = new Memory(libraryPath);
    this.version = this.memory.readCString(this.c.WasmEdge_VersionGet());
    this.#checkVersion();
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
   * @returns To be deleted by the caller.
   */
  configure(memoryPagesMax: number | undefined): Address {
    const configuration = this.c.WasmEdge_ConfigureCreate();
    // Anything but the interpreter would execute machine code that may lie inside an image's file.
    this.c.WasmEdge_ConfigureSetRunMode(configuration, RUN_MODE_INTERPRETER);
    // The page limit is for each memory, so one memory it is.
    this.c.WasmEdge_ConfigureRemoveProposal(configuration, PROPOSAL_MULTI_MEMORIES);
    if (memoryPagesMax !== undefined) {
      this.c.WasmEdge_ConfigureSetMaxMemoryPage(configuration, BigInt(memoryPagesMax));
    }
    return configuration;
  }

  /** The text of a `WasmEdge_String` at the start of `bytes`. */
  string(bytes: Uint8Array, offset = 0): string {
    const view = new DataView(bytes.buffer, bytes.byteOffset + offset, STRING_BYTES);
    return this.memory.readText(view.getBigUint64(8, true), view.getUint32(0, true));
  }

  #checkVersion(): void {
    const major = this.c.WasmEdge_VersionGetMajor();
    const minor = this.c.WasmEdge_VersionGetMinor();
    if (major === VERSION_MAJOR && minor >= VERSION_MINOR_MIN) return;
    throw new SandboxError(
      "FailedPrecondition",
      `cannot use WasmEdge ${this.version}: at least 0.${VERSION_MINOR_MIN} is needed: ` +
        "update the Debian package libwasmedge0",
    );
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
