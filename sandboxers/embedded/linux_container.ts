/**
 * A Linux container in a sandbox of any kind, and the processes in it.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import { EmbeddedContainer } from "./container.ts";
import { disposeAll, exitOf } from "./container_runs.ts";
import { newId } from "./ids.ts";
import { EmbeddedProcess, labelOf, type StartedProcess } from "./process.ts";
import type {
  LinuxContainer,
  LinuxProcess,
  LinuxProcessOptions,
  TerminalSize,
} from "./linux_api.ts";
import { checkTerminalSize, linuxProcessSpec } from "./linux_run_options.ts";
import { LinuxStdio } from "./linux_stdio.ts";

/** See {@link LinuxContainer}. */
export class EmbeddedLinuxContainer extends EmbeddedContainer implements LinuxContainer {
  readonly #started: StartedProcess;
  readonly #processes = new Set<EmbeddedLinuxProcess>();

  /** Takes over what it is given. */
  constructor(started: StartedProcess) {
    super(started);
    this.#started = started;
  }

  /** Starts another process in it. */
  async exec(options: LinuxProcessOptions): Promise<LinuxProcess> {
    const { lifecycle, containerId } = this.#started;
    const { signal } = options;
    const execId = newId("exec");
    const label = labelOf({ containerId, execId });
    await using undo = new AsyncDisposableStack();
    const process = linuxProcessSpec(options);
    const stdio = undo.use(new LinuxStdio(options, label));
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
    const started: EmbeddedLinuxProcess = new EmbeddedLinuxProcess({
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

/** See {@link LinuxProcess}. */
export class EmbeddedLinuxProcess extends EmbeddedProcess implements LinuxProcess {
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
