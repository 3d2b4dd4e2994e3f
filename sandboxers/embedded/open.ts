/**
 * Opens a sandboxer in this process: the lifecycle over one kind's driver, with nothing on disk and
 * no containerd. The command line and the SDK start here.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import { noMounts } from "../lifecycle/mounter.ts";
import { Sandboxer as Lifecycle } from "../lifecycle/sandboxer.ts";
import type { SandboxSpec } from "../lifecycle/spec.ts";
import { MemoryStore } from "../lifecycle/store.ts";
import type { OpenOptions, Sandbox, Sandboxer, SandboxKind, SandboxOptions } from "./api.ts";
import { newId } from "./ids.ts";
import { checkKind, type EmbeddedKind, loadKind } from "./kind.ts";
import { EmbeddedSandbox } from "./sandbox.ts";

/** The namespace of sandboxes that containerd knows nothing of. */
const NAMESPACE = "embedded";

/**
 * Opens a sandboxer in this process.
 *
 * @param kind What its sandboxes are; `wasm` runs WebAssembly modules with WASI preview 1.
 * @throws {SandboxError} `FailedPrecondition` where something that the kind needs is not installed,
 *   `InvalidArgument` for an unknown kind, `Unimplemented` for one of a later version.
 */
export async function open(kind: SandboxKind, options: OpenOptions = {}): Promise<Sandboxer> {
  return openKind(checkKind(kind), await loadKind(kind, options), options);
}

/**
 * Opens a sandboxer on a kind that was loaded.
 *
 * @param kind Its name.
 * @param embedded Taken over.
 */
export function openKind(
  kind: SandboxKind,
  embedded: EmbeddedKind,
  options: OpenOptions,
): Sandboxer {
  return new EmbeddedSandboxer(kind, embedded, options);
}

/** See {@link Sandboxer}. */
class EmbeddedSandboxer implements Sandboxer {
  readonly #embedded: EmbeddedKind;
  readonly #lifecycle: Lifecycle;
  readonly #options: OpenOptions;
  readonly #sandboxes = new Set<EmbeddedSandbox>();
  #disposal: Promise<void> | undefined;

  /** Takes the kind over. */
  constructor(readonly kind: SandboxKind, embedded: EmbeddedKind, options: OpenOptions) {
    const { onWarning } = options;
    this.#embedded = embedded;
    this.#options = options;
    this.#lifecycle = new Lifecycle({
      driver: embedded.driver,
      store: new MemoryStore(),
      mounter: noMounts,
      ...(onWarning && { log: { warn: onWarning } }),
    });
  }

  async createSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
    const { id = newId("sandbox"), network = { kind: "host" }, signal } = options;
    if (this.#disposal !== undefined) {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot create sandbox "${id}": the sandboxer was disposed of`,
      );
    }
    const lifecycle = this.#lifecycle;
    await lifecycle.createSandbox(sandboxSpec(id, network));
    await lifecycle.startSandbox(id, signal);
    const ports = { lifecycle, kind: this.#embedded, options: this.#options };
    const sandbox: EmbeddedSandbox = new EmbeddedSandbox(
      ports,
      id,
      () => this.#sandboxes.delete(sandbox),
    );
    this.#sandboxes.add(sandbox);
    return sandbox;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposal ??= this.#dispose();
    return this.#disposal;
  }

  async #dispose(): Promise<void> {
    await using last = new AsyncDisposableStack();
    last.use(this.#embedded);
    last.defer(() => this.#lifecycle.close());
    // Also one that was being created when the disposal began.
    last.defer(async () => {
      for (const { spec } of this.#lifecycle.sandboxes()) {
        await this.#lifecycle.deleteSandbox(spec.id);
      }
    });
    for (const sandbox of this.#sandboxes) last.use(sandbox);
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
