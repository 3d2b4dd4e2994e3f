/**
 * A started sandbox of an embedded sandboxer: runs containers and ends them with itself.
 *
 * @module
 */

import { resolve } from "node:path";
import { SandboxError } from "../lifecycle/errors.ts";
import type { Sandboxer as Lifecycle } from "../lifecycle/sandboxer.ts";
import type { Exit, Stats } from "../lifecycle/spec.ts";
import type { Container, OpenOptions, RunOptions, Sandbox } from "./api.ts";
import { EmbeddedContainer } from "./container.ts";
import { newId } from "./ids.ts";
import type { EmbeddedKind } from "./kind.ts";
import { makePrivateRootfs } from "./private_rootfs.ts";
import { containerSpec, planRun } from "./run_options.ts";
import { Stdio } from "./stdio.ts";

/** What a sandbox works with. */
export interface SandboxPorts {
  /** Runs it. */
  readonly lifecycle: Lifecycle;
  /** Its kind. */
  readonly kind: EmbeddedKind;
  /** What the sandboxer was opened with. */
  readonly options: OpenOptions;
}

/** See {@link Sandbox}. */
export class EmbeddedSandbox implements Sandbox {
  readonly #ports: SandboxPorts;
  readonly #containers = new Set<EmbeddedContainer>();
  /** Runs that have not come to a container yet. */
  readonly #starting = new Set<Promise<unknown>>();
  readonly #onDisposed: () => void;
  #disposal: Promise<void> | undefined;

  /**
   * Stands for a sandbox that was started.
   *
   * @param id Of a sandbox that is ready.
   * @param onDisposed Called once, when it is gone.
   */
  constructor(ports: SandboxPorts, readonly id: string, onDisposed: () => void) {
    this.#ports = ports;
    this.#onDisposed = onDisposed;
  }

  /** Runs a module in a container of its own. */
  async run(options: RunOptions): Promise<Container> {
    if (this.#disposal !== undefined) {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot run in sandbox "${this.id}": it is gone`,
      );
    }
    const starting = this.#start(options);
    this.#starting.add(starting);
    try {
      return await starting;
    } catch (error) {
      throw this.#cause(error);
    } finally {
      this.#starting.delete(starting);
    }
  }

  /** Of a failure and failures to clean up after it, the first; the others are warnings. */
  #cause(error: unknown): unknown {
    let cause = error;
    while (cause instanceof SuppressedError) {
      const later = String(cause.error);
      this.#ports.options.onWarning?.("cannot undo the start of a container", { error: later });
      cause = cause.suppressed;
    }
    return cause;
  }

  async #start(options: RunOptions): Promise<EmbeddedContainer> {
    const { lifecycle, kind: { descriptors } } = this.#ports;
    const { id = newId("container"), signal } = options;
    const plan = planRun(options);
    await using undo = new AsyncDisposableStack();
    const { rootfs, program } = await this.#place(options, undo);
    const { stdin = "null", stdout = "piped", stderr = "piped" } = options;
    const stdio = undo.use(
      new Stdio(descriptors, { stdin, stdout, stderr }, `container "${id}"`),
    );
    const spec = containerSpec(plan, {
      id,
      sandboxId: this.id,
      rootfs,
      program,
      stdio: stdio.spec,
    });
    await lifecycle.createContainer(spec, signal);
    undo.defer(() => this.#delete(id));
    const pid = await lifecycle.startProcess(id, "", signal);
    const exit = this.#exit(id, stdio);
    const release = undo.move();
    const container: EmbeddedContainer = new EmbeddedContainer({
      lifecycle,
      id,
      pid,
      stdio,
      exit,
      signal,
      release: async () => {
        this.#containers.delete(container);
        await release.disposeAsync();
      },
    });
    this.#containers.add(container);
    return container;
  }

  /** Where the module is: in the caller's root file system, or in a private one of its own. */
  async #place(
    { rootfs, module }: RunOptions,
    undo: AsyncDisposableStack,
  ): Promise<{ readonly rootfs: string; readonly program: string }> {
    if (rootfs !== undefined) {
      if (typeof module === "string") return { rootfs: resolve(rootfs), program: module };
      throw new SandboxError(
        "InvalidArgument",
        "cannot run the module: with rootfs, module has to be a path inside of it",
      );
    }
    const { temporaryDirectory, onWarning } = this.#ports.options;
    const made = undo.use(
      await makePrivateRootfs(module, {
        parent: temporaryDirectory,
        checkModule: (head, sizeBytes) => this.#ports.kind.checkModule(head, sizeBytes),
        onLeftover: (path, error) =>
          onWarning?.("cannot remove a temporary directory", { path, error: String(error) }),
      }),
    );
    return { rootfs: made.path, program: made.program };
  }

  /** The exit of a container; its ends of the pipes are closed first, so that readers find the end. */
  async #exit(id: string, stdio: Stdio): Promise<Exit> {
    try {
      return await this.#ports.lifecycle.waitProcess(id, "");
    } catch (error) {
      // Only where the sandboxer went away under it.
      const { message } = SandboxError.from(error);
      return { status: 137, at: Date.now(), reason: "lost", message };
    } finally {
      stdio.closeGuestEnds();
    }
  }

  /** Deletes a container; it may be gone with its sandbox already. */
  async #delete(id: string): Promise<void> {
    try {
      await this.#ports.lifecycle.deleteProcess(id, "");
    } catch (error) {
      if (!(error instanceof SandboxError && error.code === "NotFound")) throw error;
    }
  }

  /** What it uses. */
  async stats(): Promise<Stats> {
    return await this.#ports.lifecycle.sandboxStats(this.id);
  }

  /** Ends its containers and releases everything. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposal ??= this.#dispose();
    return this.#disposal;
  }

  async #dispose(): Promise<void> {
    // From the last to the first.
    await using steps = new AsyncDisposableStack();
    steps.defer(this.#onDisposed);
    steps.defer(() => disposeAll(this.#containers));
    // Runs that were under way find no sandbox any more and clean up after themselves.
    steps.defer(async () => void await Promise.allSettled(this.#starting));
    steps.defer(() => this.#ports.lifecycle.deleteSandbox(this.id));
  }
}

async function disposeAll(containers: Iterable<EmbeddedContainer>): Promise<void> {
  const ends = [...containers].map((container) => container[Symbol.asyncDispose]());
  const failures: unknown[] = [];
  for (const end of await Promise.allSettled(ends)) {
    if (end.status === "rejected") failures.push(end.reason);
  }
  if (failures.length > 0) throw failures.length === 1 ? failures[0] : new AggregateError(failures);
}
