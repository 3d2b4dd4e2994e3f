/**
 * What a WebAssembly engine does for the wasm driver: turn bytes into a module that many guests
 * share, and run guests with WASI on threads of their own. Nothing here names an engine; WasmEdge
 * is the first that implements it (wasmedge/).
 *
 * @module
 */

import type { ThreadStep } from "./native/thread_spec.ts";

/** An engine. One for a process. */
export interface Engine {
  /** Its name, such as `wasmedge`. */
  readonly name: string;
  /** Its version, such as `0.17.1`. */
  readonly version: string;
  /**
   * Makes a module, or finds the one that was made of the same bytes before.
   *
   * @param bytes The file as it is in the image.
   * @returns A reference to the shared module; the caller disposes of it.
   * @throws {SandboxError} `InvalidArgument` with the reason when it cannot be run.
   */
  load(bytes: Uint8Array<ArrayBuffer>): Promise<EngineModule>;
  /**
   * Finds a module that was made before, without its bytes.
   *
   * @param digest SHA-256 of the bytes, in hexadecimal.
   * @returns A reference as {@link Engine.load} gives it; undefined when the bytes are needed.
   */
  loadKnown?(digest: string): Promise<EngineModule | undefined>;
  /**
   * Makes a guest of a module, ready to run.
   *
   * @throws {SandboxError} `InvalidArgument` when module and options do not fit together;
   *   `ResourceExhausted` when there is no room for one more guest.
   */
  instantiate(module: EngineModule, options: GuestOptions): Promise<EngineGuest>;
  /** Figures for metrics. */
  stats(): EngineStats;
  /** Releases everything. Guests must have been disposed of. */
  close(): Promise<void>;
}

/** A reference to a compiled module. Disposing of it gives this one reference up. */
export interface EngineModule extends Disposable {
  /** SHA-256 of the bytes, in hexadecimal. */
  readonly digest: string;
  /** Whether guests of it run compiled code; else it is interpreted. */
  readonly compiled: boolean;
}

/** A directory that a guest may open. */
export interface Preopen {
  /** Path as the guest knows it, absolute. */
  readonly guestPath: string;
  /** Descriptor of the directory. It is used while the guest is made, and not kept. */
  readonly fd: number;
  /** Whether nothing below it can be changed. */
  readonly readonly: boolean;
}

/** What a guest gets. */
export interface GuestOptions {
  /** argv, with the program's name first. */
  readonly args: readonly string[];
  /** Environment as `KEY=value`. */
  readonly env: readonly string[];
  /** Directories that it may open. */
  readonly preopens: readonly Preopen[];
  /** Standard input: an open, blocking descriptor that stays open until the guest has ended. */
  readonly stdin: number;
  /** Standard output; as `stdin`. */
  readonly stdout: number;
  /** Standard error; as `stdin`. */
  readonly stderr: number;
  /** Most bytes of linear memory; undefined for what the module itself allows. */
  readonly memoryLimitBytes?: number;
  /**
   * Most descriptors that it may have opened itself at a time (files, sockets); undefined for no
   * bound but the process's.
   */
  readonly descriptorsMax?: number;
  /**
   * Most bytes that the engine may take for it beside linear memory: an interpreter's stack, which
   * an endless recursion grows, and tables. Beyond it the guest ends as `oom`. Undefined for the
   * engine's own bound.
   */
  readonly engineBytesMax?: number;
}

/** How a guest's thread is set up. */
export interface GuestThreadOptions {
  /** Thread name, for people who look at the process; cut to 15 bytes. */
  readonly name: string;
  /** Settings that the thread makes before it runs the guest, such as entering a namespace. */
  readonly steps: readonly ThreadStep[];
  /**
   * A seccomp filter as an array of `struct sock_filter`, put into force behind the steps and beside
   * what is always denied; undefined for none.
   */
  readonly filter?: Uint8Array<ArrayBuffer>;
}

/** How a guest ended. */
export type GuestEnd =
  /** It returned or called proc_exit; the code as the guest gave it, 32 bits. */
  | { readonly kind: "exit"; readonly code: number }
  /** It broke a rule of its machine; the engine's words, such as `unreachable`. */
  | { readonly kind: "trap"; readonly message: string }
  /** It took more memory than it may have; what of, for people. */
  | { readonly kind: "oom"; readonly message: string }
  /** It was made to end by {@link EngineGuest.kill}. */
  | { readonly kind: "killed" };

/** A guest. Disposing of it is allowed before it was started and after it has ended. */
export interface EngineGuest extends Disposable {
  /**
   * Starts it. Called once, or again after it failed.
   *
   * @returns The thread id, when all settings are made and the guest begins to run.
   * @throws {SandboxError} When a setting failed; then the guest has not run and will not.
   */
  start(options: GuestThreadOptions): Promise<number>;
  /** Settles when a started guest has ended; never rejects. */
  readonly ended: Promise<GuestEnd>;
  /**
   * Makes it end, whatever it does: compute, sleep, wait for input or a connection. `ended` tells
   * when.
   *
   * @returns Whether it was still running.
   */
  kill(): boolean;
  /** CPU time used so far in nanoseconds; kept after the end. */
  cpuNs(): number;
  /** Memory it holds now; after its disposal nothing. */
  memory(): GuestMemory;
}

/** What memory a guest holds. */
export interface GuestMemory {
  /** Linear memory as it has grown it, touched or not, in bytes. */
  readonly linearBytes: number;
  /** The engine's own for it, in bytes: measured where it can be, else estimated. */
  readonly engineBytes: number;
}

/** Figures of an engine. */
export interface EngineStats {
  /** Guests that exist, running or not. */
  readonly guests: number;
  /** Most guests that may exist. */
  readonly guestsMax: number;
  /** Modules in memory, used or kept for later. */
  readonly modules: number;
  /** Size of the files they were made of, in bytes. */
  readonly moduleBytes: number;
  /** Modules among them whose guests run compiled code. */
  readonly compiledModules: number;
  /** How often a module was asked for that was in memory. */
  readonly moduleHits: number;
  /** How often a module was asked for that had to be made. */
  readonly moduleMisses: number;
}
