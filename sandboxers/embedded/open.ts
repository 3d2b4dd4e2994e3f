/**
 * Opens a sandboxer in this process: the lifecycle over one kind's driver, with nothing on disk and
 * no containerd. The command line and the SDK start here.
 *
 * @module
 */

import type { SandboxSpec } from "../lifecycle/spec.ts";
import type { GvisorOpenOptions, GvisorSandboxer } from "./gvisor_api.ts";
import type { OpenOptions, Sandbox, Sandboxer, SandboxKind, SandboxOptions } from "./api.ts";
import { newId } from "./ids.ts";
import { checkKind, type EmbeddedKind } from "./kind.ts";
import { EmbeddedSandbox } from "./sandbox.ts";
import { Sandboxes } from "./sandboxes.ts";
import type { VmmOpenOptions, VmmSandboxer } from "./vmm_api.ts";

/** The namespace of sandboxes that containerd knows nothing of. */
const NAMESPACE = "embedded";

/**
 * Opens a sandboxer of WebAssembly modules (WASI preview 1) in this process.
 *
 * @param kind What its sandboxes are.
 * @throws {SandboxError} `FailedPrecondition` where something that the kind needs is not installed,
 *   `InvalidArgument` for an unknown kind, `Unimplemented` for one of a later version.
 */
export async function open(kind: "wasm", options?: OpenOptions): Promise<Sandboxer>;
/**
 * Opens a sandboxer of microVMs in this process.
 *
 * @throws {SandboxError} `FailedPrecondition` where something that the kind needs is not installed,
 *   `InvalidArgument` for a bad configuration.
 */
export async function open(kind: "vmm", options?: VmmOpenOptions): Promise<VmmSandboxer>;
/**
 * Opens a sandboxer of gVisor in this process: Linux commands over an application kernel.
 *
 * @throws {SandboxError} `FailedPrecondition` where something that the kind needs is not installed,
 *   or this program does not run as root; `InvalidArgument` for a bad configuration.
 */
export async function open(kind: "gvisor", options?: GvisorOpenOptions): Promise<GvisorSandboxer>;
/** See above. */
export async function open(
  kind: SandboxKind,
  options: OpenOptions | VmmOpenOptions | GvisorOpenOptions = {},
): Promise<Sandboxer | VmmSandboxer | GvisorSandboxer> {
  // Each is loaded when it is asked for: a program that runs one kind needs neither the code nor the
  // permissions of another.
  switch (checkKind(kind)) {
    case "wasm":
      return openKind("wasm", await (await import("./wasm.ts")).loadWasm(options), options);
    case "vmm":
      return await (await import("./vmm.ts")).openVmmSandboxer(options);
    case "gvisor":
      return await (await import("./gvisor.ts")).openGvisorSandboxer(options);
  }
}

/**
 * Opens a sandboxer on a kind that was loaded.
 *
 * @param kind Its name.
 * @param embedded Taken over.
 */
export function openKind(
  kind: "wasm",
  embedded: EmbeddedKind,
  options: OpenOptions,
): Sandboxer {
  return new EmbeddedSandboxer(kind, embedded, options);
}

/** See {@link Sandboxer}. */
class EmbeddedSandboxer implements Sandboxer {
  readonly #embedded: EmbeddedKind;
  readonly #options: OpenOptions;
  readonly #sandboxes: Sandboxes<EmbeddedSandbox>;

  /** Takes the kind over. */
  constructor(readonly kind: "wasm", embedded: EmbeddedKind, options: OpenOptions) {
    this.#embedded = embedded;
    this.#options = options;
    this.#sandboxes = new Sandboxes(embedded, options);
  }

  async createSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
    const { id = newId("sandbox"), network = { kind: "host" }, signal } = options;
    return await this.#sandboxes.start(
      sandboxSpec(id, network),
      (lifecycle, onDisposed) =>
        new EmbeddedSandbox(
          { lifecycle, kind: this.#embedded, options: this.#options },
          id,
          onDisposed,
        ),
      signal,
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#sandboxes[Symbol.asyncDispose]();
  }
}

function sandboxSpec(id: string, network: SandboxSpec["network"]): SandboxSpec {
  return {
    id,
    namespace: NAMESPACE,
    name: id,
    hostname: "",
    network,
    dns: { servers: [], searches: [], options: [] },
    cgroupParent: "",
    resources: {},
    labels: {},
    annotations: {},
  };
}
