/**
 * A container in a machine, and the processes in it.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import { EmbeddedContainer } from "./container.ts";
import { disposeAll, exitOf } from "./container_runs.ts";
import { newId } from "./ids.ts";
import { EmbeddedProcess, labelOf, type StartedProcess } from "./process.ts";
import type { TerminalSize, VmmContainer, VmmProcess, VmmProcessOptions } from "./vmm_api.ts";
import { checkTerminalSize, vmmProcessSpec } from "./vmm_run_options.ts";
import { VmmStdio } from "./vmm_stdio.ts";

/** See {@link VmmContainer}. */
export class EmbeddedVmmContainer extends EmbeddedContainer implements VmmContainer {
  readonly #started: StartedProcess;
  readonly #processes = new Set<EmbeddedVmmProcess>();

  /** Takes over what it is given. */
  constructor(started: StartedProcess) {
    super(started);
    this.#started = started;
  }

  /** Starts another process in it. */
  async exec(options: VmmProcessOptions): Promise<VmmProcess> {
    const { lifecycle, containerId } = this.#started;
    const { signal } = options;
    const execId = newId("exec");
    const label = labelOf({ containerId, execId });
    await using undo = new AsyncDisposableStack();
    const process = vmmProcessSpec(options);
    const stdio = undo.use(new VmmStdio(options, label));
    await lifecycle.exec(containerId, { id: execId, process, stdio: stdio.spec });
    undo.defer(async () => {
      // It may be gone with its container already.
      await lifecycle.deleteProcess(containerId, execId).catch((error: unknown) => {
        if (!(error instanceof SandboxError && error.code === "NotFound")) throw error;
      });
    });
    const pid = await lifecycle.startProcess(containerId, execId, signal);
    const exit = exitOf(lifecycle, containerId, execId, () => stdio.end());
    const release = undo.move();
    const started: EmbeddedVmmProcess = new EmbeddedVmmProcess({
      lifecycle,
      containerId,
      execId,
      pid,
      stdio,
      exit,
      signal,
      release: async () => {
        this.#processes.delete(started);
        await release.disposeAsync();
      },
    });
    this.#processes.add(started);
    return started;
  }

  /** Sets the size of its terminal. */
  async resize(size: TerminalSize): Promise<void> {
    await resize(this.#started, size);
  }

  /** Freezes it. */
  async pause(): Promise<void> {
    await this.#started.lifecycle.pauseContainer(this.id);
  }

  /** Thaws it. */
  async resume(): Promise<void> {
    await this.#started.lifecycle.resumeContainer(this.id);
  }

  /** Ends it with its processes. */
  override async [Symbol.asyncDispose](): Promise<void> {
    await disposeAll(this.#processes);
    await super[Symbol.asyncDispose]();
  }
}

/** See {@link VmmProcess}. */
export class EmbeddedVmmProcess extends EmbeddedProcess implements VmmProcess {
  readonly #started: StartedProcess;

  /** Takes over what it is given. */
  constructor(started: StartedProcess) {
    super(started);
    this.#started = started;
  }

  /** Sets the size of its terminal. */
  async resize(size: TerminalSize): Promise<void> {
    await resize(this.#started, size);
  }
}

async function resize(started: StartedProcess, size: TerminalSize): Promise<void> {
  checkTerminalSize(size);
  const { lifecycle, containerId, execId } = started;
  await lifecycle.resizeTerminal(containerId, execId, size.columns, size.rows);
}
