/**
 * A started sandbox of an embedded sandboxer for modules: runs containers and ends them with itself.
 *
 * @module
 */

import { resolve } from "node:path";
import { SandboxError } from "../lifecycle/errors.ts";
import type { Sandboxer as Lifecycle } from "../lifecycle/sandboxer.ts";
import type { RootfsSpec, Stats } from "../lifecycle/spec.ts";
import type { Container, OpenOptions, RunOptions, Sandbox } from "./api.ts";
import { EmbeddedContainer } from "./container.ts";
import { ContainerRuns, type PreparedRun } from "./container_runs.ts";
import { EmbeddedImages } from "./images.ts";
import { imageModule } from "./module_image.ts";
import { newId } from "./ids.ts";
import type { EmbeddedKind } from "./kind.ts";
import { makePrivateRootfs } from "./private_rootfs.ts";
import { containerSpec, type PlainRunOptions, planRun } from "./run_options.ts";
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

/** Where a module is, and how it runs. */
export interface ModulePlace {
  /** The files that it sees. */
  readonly rootfs: RootfsSpec;
  /** Its path in them. */
  readonly program: string;
  /** How it runs. */
  readonly run: PlainRunOptions;
}

/** See {@link Sandbox}. */
export class EmbeddedSandbox implements Sandbox {
  readonly #ports: SandboxPorts;
  readonly #images: EmbeddedImages;
  readonly #runs: ContainerRuns<EmbeddedContainer>;
  readonly #onDisposed: () => void;

  /**
   * Stands for a sandbox that was started.
   *
   * @param id Of a sandbox that is ready.
   * @param onDisposed Called once, when it is gone.
   */
  constructor(ports: SandboxPorts, readonly id: string, onDisposed: () => void) {
    const { lifecycle, options: { onWarning } } = ports;
    this.#ports = ports;
    this.#images = new EmbeddedImages(ports.options);
    this.#runs = new ContainerRuns({
      lifecycle,
      sandboxId: id,
      ...(onWarning === undefined ? {} : { onWarning }),
    });
    this.#onDisposed = onDisposed;
  }

  /** Runs a module in a container of its own. */
  async run(options: RunOptions): Promise<Container> {
    const { id = newId("container"), signal } = options;
    return await this.#runs.run({
      id,
      signal,
      prepare: (undo) => this.#prepare(id, options, undo),
      wrap: (started) => new EmbeddedContainer(started),
    });
  }

  async #prepare(
    id: string,
    options: RunOptions,
    undo: AsyncDisposableStack,
  ): Promise<PreparedRun> {
    const { rootfs, program, run } = await this.#place(id, options, undo);
    const plan = planRun(run);
    const { stdin = "null", stdout = "piped", stderr = "piped" } = options;
    const { descriptors } = this.#ports.kind;
    const stdio = undo.use(
      new Stdio(descriptors, { stdin, stdout, stderr }, `container "${id}"`),
    );
    const place = { id, sandboxId: this.id, rootfs, program, stdio: stdio.spec };
    // The ends of the pipes that the guest had.
    return { spec: containerSpec(plan, place), stdio, onExit: () => stdio.closeGuestEnds() };
  }

  /** Where the module is: in the caller's root file system, or in a private one of its own. */
  async #place(
    id: string,
    options: RunOptions,
    undo: AsyncDisposableStack,
  ): Promise<ModulePlace> {
    const { rootfs, module, image } = options;
    if ((module === undefined) === (image === undefined) || (image && rootfs)) {
      throw new SandboxError(
        "InvalidArgument",
        "cannot run the module: expected either module, with rootfs or without, or image",
      );
    }
    if (module === undefined) {
      return await imageModule(id, options, { images: this.#images, kind: this.#ports.kind }, undo);
    }
    // Before files are made for it.
    planRun(options);
    const run = { ...options, user: options.user ?? {} };
    if (rootfs !== undefined) {
      const path = resolve(rootfs);
      if (typeof module === "string") {
        return { rootfs: { kind: "directory", path }, program: module, run };
      }
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
    return { rootfs: { kind: "directory", path: made.path }, program: made.program, run };
  }

  /** What it uses. */
  async stats(): Promise<Stats> {
    return await this.#ports.lifecycle.sandboxStats(this.id);
  }

  /** Ends its containers and releases everything. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#runs.dispose(this.#onDisposed);
  }
}
