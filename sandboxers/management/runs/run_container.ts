/**
 * A container that was made without containerd: its log, what reads its output into that, and its
 * input. It lives as long as its sandbox is there, also after its own end.
 *
 * @module
 */

import type { FifoKeeper } from "../../host/fifo_holder.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { Sandboxer } from "../../lifecycle/sandboxer.ts";
import type { ContainerSpec, Exit, StdioSpec } from "../../lifecycle/spec.ts";
import type { Log } from "../../log.ts";
import type { LogBudget } from "./log_budget.ts";
import type { OutputName } from "./log_format.ts";
import { OutputReader } from "./output_reader.ts";
import { ProcessInput } from "./process_input.ts";
import { RunLog } from "./run_log.ts";

/** How long the rest of the output of a container that has ended is waited for, in milliseconds. */
const FINISH_MS = 60_000;

/** What a {@link RunContainer} works with. */
export interface RunContainerOptions {
  /** Where its state is. */
  readonly sandboxer: Sandboxer;
  /** Its id and where its streams go. */
  readonly spec: Pick<ContainerSpec, "id" | "stdio">;
  /** The directory of its log. */
  readonly logDirectory: string;
  /** How large that may be. */
  readonly budget: LogBudget;
  /** Holds FIFOs beyond this process. */
  readonly keeper: FifoKeeper | undefined;
  /** Where notes go. */
  readonly log: Log;
}

/** See the module. */
export class RunContainer implements Disposable {
  readonly #options: RunContainerOptions;
  readonly #readers: readonly OutputReader[];
  /** What it has written. */
  readonly log: RunLog;
  /** What it reads; undefined for nothing. */
  readonly input: ProcessInput | undefined;

  /**
   * Opens log and FIFOs. A FIFO that is not there any more is left out.
   *
   * @param options See {@link RunContainerOptions}.
   * @throws {SandboxError} Where they cannot be opened; nothing is open then.
   */
  constructor(options: RunContainerOptions) {
    this.#options = options;
    const { sandboxer, spec: { id, stdio }, budget, logDirectory: directory } = options;
    const label = `container "${id}"`;
    using undo = new DisposableStack();
    this.log = undo.use(
      new RunLog({ directory, label, fileBytesMax: () => budget.fileBytesMax }),
    );
    this.#readers = (["stdout", "stderr"] as const).flatMap((name) => {
      const reader = this.#open(name, stdio, label);
      return reader === undefined ? [] : [undo.use(reader)];
    });
    this.input = stdio.stdin.kind === "path"
      ? new ProcessInput(
        stdio.stdin.path,
        `stdin of ${label}`,
        () => sandboxer.closeStdin(id, ""),
      )
      : undefined;
    undo.move();
    budget.add(this.log);
  }

  #open(name: OutputName, stdio: StdioSpec, label: string): OutputReader | undefined {
    const stream = stdio[name];
    if (stream.kind !== "path") return undefined;
    try {
      return new OutputReader({
        path: stream.path,
        what: `${name} of ${label}`,
        keeper: this.#options.keeper,
        room: () => this.log.room(),
        take: (bytes) => this.log.append(name, bytes),
      });
    } catch (error) {
      if (error instanceof SandboxError && error.code === "NotFound") return undefined;
      throw error;
    }
  }

  /** Its id. */
  get id(): string {
    return this.#options.spec.id;
  }

  /** Output may come soon: it is looked for more often for a moment. */
  expect(): void {
    for (const reader of this.#readers) reader.expect();
  }

  /**
   * Waits for its end, and until all of its output is in the log.
   *
   * @throws {SandboxError} `Unavailable` where this process is about to go, `NotFound` where it was
   *   deleted.
   */
  async ended(): Promise<Exit> {
    const { sandboxer, log } = this.#options;
    const exit = await sandboxer.waitProcess(this.id, "");
    this.input?.[Symbol.dispose]();
    for (const reader of this.#readers) reader.finish();
    const late = setTimeout(() => this.#giveUp(), FINISH_MS);
    const results = await Promise.allSettled(this.#readers.map(({ done }) => done));
    clearTimeout(late);
    for (const result of results) {
      if (result.status === "fulfilled") continue;
      log.warn("an output cannot be read", { container: this.id, error: result.reason });
    }
    this.log.finish();
    return exit;
  }

  #giveUp(): void {
    this.#options.log.warn("the output of a container is given up", { container: this.id });
    for (const reader of this.#readers) reader[Symbol.dispose]();
  }

  /** Closes log and FIFOs; what is kept stays. */
  [Symbol.dispose](): void {
    this.input?.[Symbol.dispose]();
    for (const reader of this.#readers) reader[Symbol.dispose]();
    this.#options.budget.remove(this.log);
    this.log[Symbol.dispose]();
  }
}
