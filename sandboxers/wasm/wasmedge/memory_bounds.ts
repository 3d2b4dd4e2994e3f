/**
 * What memory a guest takes, and when that is too much: the rules for linear memory, tables and the
 * engine's own share, in one place.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { GuestOptions } from "../engine.ts";
import type { ModuleShape } from "../module_sections.ts";

/** A page of linear memory in bytes. */
export const PAGE_BYTES = 65_536;

/**
 * Most bytes that the engine may take for a guest beside linear memory where the guest's options do
 * not say: room for an interpreter's stack of about 100,000 calls.
 */
export const ENGINE_BYTES_MAX = 67_108_864;

/** What an idle guest holds beside its linear memory, measured; big modules hold more. */
const GUEST_BYTES = 131_072;
/** Memory that an interpreted guest's own copy of the code takes, for each byte of code; measured. */
const CODE_COPY_FACTOR = 15;
/** Memory that a guest takes for each function of its module; measured. */
const FUNCTION_BYTES = 170;
/** Memory that a table takes for each entry. */
const TABLE_ENTRY_BYTES = 16;

/** A guest's memory as far as it is known when the guest is made. */
export interface MemoryPlan {
  /** Pages of linear memory that it starts with. */
  readonly pagesMin: number;
  /** Most pages of linear memory; undefined for what the module itself allows. */
  readonly pagesMax: number | undefined;
  /** Most bytes that the guest's thread may take on the C heap. */
  readonly heapBytesMax: number;
  /** The engine's share before the guest has run, estimated. */
  readonly engineBytes: number;
}

/**
 * Plans a guest's memory.
 *
 * @param shape What its module asks for.
 * @param compiled Whether it runs compiled code.
 * @throws {SandboxError} `InvalidArgument` when the module starts with more than the guest may have.
 *   The engine itself would start it with less memory than it declares.
 */
export function planMemory(
  shape: ModuleShape,
  compiled: boolean,
  options: Pick<GuestOptions, "memoryLimitBytes" | "engineBytesMax">,
): MemoryPlan {
  const { memoryLimitBytes, engineBytesMax = ENGINE_BYTES_MAX } = options;
  const linearBytes = shape.memoryPagesMin * PAGE_BYTES;
  if (memoryLimitBytes !== undefined && linearBytes > memoryLimitBytes) {
    throw refusal(
      `it starts with ${linearBytes} bytes of memory, the limit is ${memoryLimitBytes}: ` +
        "raise the container's memory limit",
    );
  }
  const tableBytes = shape.tableEntriesMin * TABLE_ENTRY_BYTES;
  if (tableBytes > engineBytesMax) {
    throw refusal(
      `its tables take ${tableBytes} bytes, the engine may take ${engineBytesMax} for it`,
    );
  }
  const copyBytes = compiled ? 0 : shape.codeBytes * CODE_COPY_FACTOR;
  const codeBytes = shape.functions * FUNCTION_BYTES + copyBytes;
  return {
    pagesMin: shape.memoryPagesMin,
    pagesMax: memoryLimitBytes === undefined
      ? undefined
      : Math.floor(memoryLimitBytes / PAGE_BYTES),
    heapBytesMax: Math.max(engineBytesMax - tableBytes, 1),
    engineBytes: GUEST_BYTES + tableBytes + codeBytes,
  };
}

/**
 * Whether a guest that gave up (`unreachable`) did so for lack of memory. Programs cannot say it:
 * what they do when an allocation fails is to trap. So it is taken for the reason where they hold
 * at least seven eighths of what they may have, that is, where the growth that they want cannot be
 * small any more.
 *
 * @param pages What the guest has, in pages.
 * @param pagesMax What it may have.
 */
export function isOutOfMemory(pages: number, pagesMax: number | undefined): boolean {
  return pagesMax !== undefined && (pagesMax - pages) * 8 <= pagesMax;
}

function refusal(reason: string): SandboxError {
  return new SandboxError(
    "InvalidArgument",
    `cannot instantiate the WebAssembly module: ${reason}`,
  );
}
