/**
 * A process of a container, as the lifecycle sees it: calls go to Quark's task service, and its end
 * comes from an open Wait call there.
 *
 * Source: QuarkContainer/Quark qvisor/src/runc/shim/shim_task.rs; the status that Wait answers with
 * is that of wait(2): qlib/kernel/threadmgr/task_exit.rs.
 *
 * @module
 */

import type { MessageShape } from "@bufbuild/protobuf";
import { Task } from "../../../proto/gen/containerd/task/v2/shim_pb.ts";
import type { ProcessHandle } from "../../lifecycle/driver.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { type Exit, KILLED_STATUS, LOST_STATUS } from "../../lifecycle/spec.ts";
import { kernelError } from "./kernel_error.ts";
import type { BoundStdio } from "./stdio.ts";
import type { TaskConnection } from "./task_connection.ts";

/** How long the end of a process may take to be heard after a call to it failed, in milliseconds. */
const END_MS = 200;

/** Which process it is. */
export interface ProcessName {
  /** What Quark calls its container. */
  readonly container: string;
  /** The exec; empty for the init process. */
  readonly exec: string;
}

/** What a process is made of. */
export interface ProcessParts {
  /** Which one it is. */
  readonly name: ProcessName;
  /** The connection to Quark. */
  readonly tasks: TaskConnection;
  /** The id of Quark's process: ids inside of it mean nothing on the host. */
  readonly pid: number;
  /** Its streams; the process owns them. */
  readonly stdio: BoundStdio;
  /** Settles when the sandbox has ended. */
  readonly sandboxEnd: Promise<Exit>;
  /** Called once when it has ended, before anybody hears of that; must not throw. */
  onEnd(): void;
}

/** A process that was created, or runs. */
export class QuarkProcess implements ProcessHandle {
  /** The id of Quark's process. */
  readonly pid: number;
  readonly #parts: ProcessParts;
  readonly #exit = Promise.withResolvers<Exit>();
  #over = false;

  /**
   * Begins to wait for its end.
   *
   * @param parts See {@link ProcessParts}.
   */
  constructor(parts: ProcessParts) {
    this.#parts = parts;
    this.pid = parts.pid;
    void this.#watch();
  }

  /** Which one it is. */
  get name(): ProcessName {
    return this.#parts.name;
  }

  /** Its streams. */
  get stdio(): BoundStdio {
    return this.#parts.stdio;
  }

  /** Whether it has ended. */
  get over(): boolean {
    return this.#over;
  }

  /** Settles when it has ended. */
  get exited(): Promise<Exit> {
    return this.#exit.promise;
  }

  /** Sends a signal. */
  async kill(signal: number): Promise<void> {
    await this.#call(`cannot send signal ${signal} to`, async () => {
      const request = { ...this.#request(), signal };
      await this.#parts.tasks.call(Task.method.kill, request).catch((error: unknown) => {
        // So it says that it has ended, or its container has.
        if (SandboxError.from(error).code !== "NotFound") throw error;
      });
    });
  }

  /** Sets the size of its terminal. */
  async resize(columns: number, rows: number): Promise<void> {
    await this.#call("cannot resize the terminal of", async () => {
      const size = { width: columns, height: rows };
      await this.#parts.tasks.call(Task.method.resizePty, { ...this.#request(), ...size });
    });
  }

  /** Lets it read the end of its input. */
  async closeStdin(): Promise<void> {
    this.stdio.closeStdin();
    await this.#call("cannot close the input of", async () => {
      await this.#parts.tasks.call(Task.method.closeIO, { ...this.#request(), stdin: true });
    });
  }

  /** Takes note that it will not be started. */
  gaveUp(): void {
    this.#settle({ status: LOST_STATUS, at: Date.now(), reason: "lost" });
  }

  #request(): { readonly id: string; readonly execId: string } {
    const { container, exec } = this.name;
    return { id: container, execId: exec };
  }

  /** A process that ends meanwhile is no failure. */
  async #call(action: string, effect: () => Promise<void>): Promise<void> {
    if (this.#over) return;
    try {
      await effect();
    } catch (error) {
      if (await this.#endsNow(error)) return;
      const { container, exec } = this.name;
      const label = exec === "" ? `container "${container}"` : `exec "${exec}"`;
      throw kernelError(error, `${action} ${label}`);
    }
  }

  /** Whether a call failed because it has ended: the answer to Wait may come a little later. */
  async #endsNow(error: unknown): Promise<boolean> {
    const code = SandboxError.from(error).code;
    if (this.#over || code === "DeadlineExceeded" || code === "Cancelled") return this.#over;
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, END_MS);
    await Promise.race([this.exited, late]);
    clearTimeout(timer);
    return this.#over;
  }

  async #watch(): Promise<void> {
    const { tasks, sandboxEnd, name } = this.#parts;
    const lost = sandboxEnd.then(lostWith);
    try {
      const answer = await tasks.wait(name.container, name.exec);
      this.#settle(exitOf(answer));
    } catch (error) {
      if (SandboxError.from(error).code === "Unavailable") return this.#settle(await lost);
      const { message } = kernelError(error, "cannot wait for it");
      this.#settle({ status: LOST_STATUS, at: Date.now(), reason: "lost", message });
    }
  }

  #settle(exit: Exit): void {
    if (this.#over) return;
    this.#over = true;
    this.#parts.onEnd();
    this.#exit.resolve(exit);
  }
}

/** The end of a process whose sandbox has ended. */
function lostWith({ at, message = "the pod was stopped" }: Exit): Exit {
  return { status: KILLED_STATUS, at, reason: "lost", message };
}

/**
 * How a process ended, from the answer to Wait: the status has the exit code in its second byte and
 * the signal in its first, as wait(2) has them.
 *
 * @param answer What Quark answers.
 */
export function exitOf(answer: MessageShape<typeof Task.method.wait.output>): Exit {
  const { exitStatus, exitedAt } = answer;
  const at = exitedAt === undefined || exitedAt.seconds === 0n
    ? Date.now()
    : Number(exitedAt.seconds) * 1000 + Math.floor(exitedAt.nanos / 1e6);
  const signal = exitStatus & 0x7f;
  if (signal !== 0) return { status: 128 + signal, at, reason: "signaled" };
  return { status: (exitStatus >>> 8) & 0xff, at, reason: "exited" };
}
