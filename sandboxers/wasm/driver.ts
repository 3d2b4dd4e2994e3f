/**
 * The wasm kind of sandbox: guests are WebAssembly modules that run on threads of this process,
 * each inside its pod's network namespace. A pod costs a descriptor, a container a thread.
 *
 * @module
 */

import type {
  AdoptableSandbox,
  AdoptedSandbox,
  Capabilities,
  Driver,
  SandboxHandle,
} from "../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import type { ContainerSpec, SandboxSpec } from "../lifecycle/spec.ts";
import { type Log, noLog } from "../log.ts";
import { type ContainerContext, validateContainer } from "./container.ts";
import type { Engine } from "./engine.ts";
import type { System } from "./native/system.ts";
import { WasmPod } from "./pod.ts";

/** What a {@link WasmDriver} works with. */
export interface WasmDriverOptions {
  /** Runs the guests. Stays the caller's. */
  readonly engine: Engine;
  /** Makes the system calls. */
  readonly system: System;
  /** Where notes go (default: nowhere). */
  readonly log?: Log;
}

/** Runs sandboxes of WebAssembly modules. */
export class WasmDriver implements Driver {
  /** The name of this kind. */
  readonly kind = "wasm";
  /** What wasm guests can do, for the lifecycle. */
  readonly capabilities: Capabilities = {
    exec: false,
    pause: false,
    updateContainer: false,
    updateSandbox: false,
    terminal: false,
    adoptContainers: false,
  };
  readonly #context: ContainerContext;

  /**
   * Makes the driver; nothing runs yet.
   *
   * @param options Engine and system.
   */
  constructor(options: WasmDriverOptions) {
    const { engine, system, log = noLog } = options;
    this.#context = { engine, system, log };
  }

  /** Opens the pod's network. */
  // deno-lint-ignore require-await -- what goes wrong is to reject, not to throw
  async start(spec: SandboxSpec, signal: AbortSignal): Promise<SandboxHandle> {
    throwIfAborted(signal, `cannot start sandbox "${spec.id}"`);
    return new WasmPod(this.#context, spec);
  }

  /**
   * Guests end with the process that they run in, so only the pod itself is taken over, where its
   * network namespace is still there.
   */
  // deno-lint-ignore require-await -- what goes wrong is to reject, not to throw
  async adopt({ spec }: AdoptableSandbox): Promise<AdoptedSandbox | undefined> {
    try {
      return { handle: new WasmPod(this.#context, spec), containers: new Map() };
    } catch (error) {
      if (SandboxError.from(error).code === "InvalidArgument") return undefined;
      throw error;
    }
  }

  /** Refuses terminals and containers without a program. */
  validate(spec: ContainerSpec): void {
    validateContainer(spec);
  }
}
