/**
 * What the engine and the thread of a guest say to each other.
 *
 * @module
 */

import type { GuestEnd } from "../engine.ts";
import type { ThreadStep } from "../native/thread_spec.ts";
import type { SharedBuffers } from "./shared_state.ts";
import type { OpenedPreopen } from "./wasi/descriptors.ts";

/** To the thread, once: what to run, and how. */
export interface RunMessage {
  /** The guest library; see `openLibrary`. */
  readonly libraryPath: string;
  /** The compiled module. */
  readonly module: WebAssembly.Module;
  /** Arguments, the program's name first. */
  readonly args: readonly string[];
  /** Environment as `KEY=value`. */
  readonly env: readonly string[];
  /** Directories; the engine closes them. */
  readonly preopens: readonly OpenedPreopen[];
  /** Most descriptors that the guest may have opened itself at a time. */
  readonly descriptorsMax: number;
  /** Descriptors of the three streams; the caller's. */
  readonly stdio: readonly [number, number, number];
  /** For `SharedState`. */
  readonly state: SharedBuffers;
  /** Thread name. */
  readonly name: string;
  /** Nice value of the thread. */
  readonly nice: number;
  /** Settings of the thread. */
  readonly steps: readonly ThreadStep[];
  /** A seccomp filter, an array of `struct sock_filter`. */
  readonly filter: Uint8Array<ArrayBuffer> | undefined;
}

/** From the thread: first whether it runs, then how it ended. */
export type ThreadMessage =
  /** All settings are made; the guest runs from now on. The first word of `stop` ends it. */
  | { readonly kind: "running"; readonly threadId: number; readonly stop: SharedArrayBuffer }
  /** A setting failed; the guest has not run. */
  | { readonly kind: "refused"; readonly label: string; readonly errno: number }
  /** The module could not be made an instance; the guest has not run. */
  | { readonly kind: "invalid"; readonly reason: string; readonly outOfMemory: boolean }
  /** The guest has ended, and what it had opened is closed. */
  | { readonly kind: "ended"; readonly end: GuestEnd };
