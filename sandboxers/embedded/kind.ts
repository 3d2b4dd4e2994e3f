/**
 * The kinds of sandbox that can be embedded in a program, and what the wasm kind needs for that: its
 * driver, and a way to make pipes for the standard streams.
 *
 * @module
 */

import type { Driver } from "../lifecycle/driver.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { Mounter } from "../lifecycle/mounter.ts";
import type { SandboxKind } from "./api.ts";

/** Makes and closes descriptors of this process. */
export interface Descriptors {
  /** Makes a pipe, both ends close-on-exec and blocking: `[read end, write end]`. */
  pipe(): readonly [number, number];
  /** Closes a descriptor. */
  close(fd: number): void;
  /** Whether a descriptor is in non-blocking mode, in which guests would lose data. */
  isNonblocking(fd: number): boolean;
  /** Switches that mode, for all who share what the descriptor refers to. */
  setNonblocking(fd: number, on: boolean): void;
}

/** How many bytes of a file {@link EmbeddedKind.checkModule} looks at. */
export const MODULE_HEAD_BYTES = 8;

/** A kind that was loaded. Disposing of it releases what its driver holds. */
export interface EmbeddedKind extends AsyncDisposable {
  /** Runs its sandboxes. */
  readonly driver: Driver;
  /** Makes pipes. */
  readonly descriptors: Descriptors;
  /** Mounts root file systems; missing where this program cannot. */
  readonly mounter?: Mounter;
  /**
   * Where containers of images write to, made at the first call; missing where nothing can be mounted.
   */
  readonly directory?: () => Promise<string>;
  /**
   * Refuses a file that cannot be a module at first sight, before it is copied anywhere.
   *
   * @param head Its first {@link MODULE_HEAD_BYTES} bytes, less where it is shorter.
   * @param sizeBytes Its size.
   * @throws {SandboxError} `InvalidArgument` with the reason.
   */
  checkModule(head: Uint8Array, sizeBytes: number): void;
}

/** Kinds that can be opened. */
const KINDS: readonly SandboxKind[] = ["wasm", "vmm", "gvisor"];

/** Kinds that are planned. */
const LATER = ["quark"];

/**
 * Tells whether a name is a kind that can be opened.
 *
 * @param name What a caller gave.
 * @throws {SandboxError} `Unimplemented` for a kind of a later version, `InvalidArgument` for any
 *   other name.
 */
export function checkKind(name: string): SandboxKind {
  const kind = KINDS.find((known) => known === name);
  if (kind !== undefined) return kind;
  const expected = `expected ${KINDS.slice(0, -1).join(", ")} or ${KINDS.at(-1)}`;
  if (LATER.includes(name)) {
    throw new SandboxError(
      "Unimplemented",
      `cannot open a sandboxer of kind "${name}": not in this version: ${expected}`,
    );
  }
  throw new SandboxError(
    "InvalidArgument",
    `cannot open a sandboxer of kind ${JSON.stringify(name)}: unknown: ${expected}`,
  );
}
