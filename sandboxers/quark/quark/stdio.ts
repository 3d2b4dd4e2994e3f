/**
 * The standard streams of processes: containerd's FIFOs, or files, are bound below the pod's bundle,
 * where Quark opens them. Nothing is copied here. A FIFO of standard input is held open for writing
 * until its client says that it has ended: else Quark would find its end before it begins, and
 * whenever a client detaches.
 *
 * Source: kuasar-io/kuasar quark/src/sandbox.rs (bind_mount_io); QuarkContainer/Quark
 * qvisor/src/runc/shim/container_io.rs.
 *
 * @module
 */

import { closeSync, constants, openSync } from "node:fs";
import type { FifoKeeper } from "../../host/fifo_holder.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { StdioSpec, StreamSpec } from "../../lifecycle/spec.ts";
import type { ContainerDirectory } from "./container_files.ts";
import type { QuarkOptions } from "./options.ts";

const { O_NOCTTY, O_NONBLOCK, O_RDWR } = constants;

/** What streams are opened with. */
export type StdioOptions = Pick<QuarkOptions, "mounter" | "holder">;

/** Whose streams they are. */
export interface StdioOwner {
  /** The container's directory. */
  readonly directory: ContainerDirectory;
  /** The exec; empty for the init process. */
  readonly exec: string;
}

/** The streams of a task request: paths as Quark sees them, empty for none. */
export interface QuarkStdio {
  /** Standard input. */
  readonly stdin: string;
  /** Standard output. */
  readonly stdout: string;
  /** Standard error; empty with a terminal. */
  readonly stderr: string;
  /** Whether a terminal is wanted. */
  readonly terminal: boolean;
}

/**
 * Refuses streams that Quark, a process of its own, cannot open.
 *
 * @param stdio The streams.
 * @param label Whose they are, such as `container "a"`.
 * @throws {SandboxError} `InvalidArgument`.
 */
export function checkStdio({ stdin, stdout, stderr }: StdioSpec, label: string): void {
  for (const [name, stream] of Object.entries({ stdin, stdout, stderr })) {
    if (stream.kind === "null" || stream.kind === "path") continue;
    throw new SandboxError(
      "InvalidArgument",
      `cannot use ${name} of ${label}: it is a stream of this process, and Quark opens streams by ` +
        "their paths: give it the path of a FIFO or a file",
    );
  }
}

/** The streams of one process. */
export class BoundStdio {
  /** What Quark is asked to open. */
  readonly request: QuarkStdio;
  readonly #options: StdioOptions;
  readonly #targets: readonly string[];
  #stdin: HeldFifo | undefined;

  private constructor(options: StdioOptions, owner: StdioOwner, stdio: StdioSpec) {
    const { directory: { path, inside }, exec } = owner;
    const prefix = exec === "" ? "" : `${exec}-`;
    const place = (name: string, stream: StreamSpec) =>
      stream.kind === "null" ? "" : `${prefix}${name}`;
    const names = {
      stdin: place("stdin", stdio.stdin),
      stdout: place("stdout", stdio.stdout),
      // A terminal has one output.
      stderr: stdio.terminal ? "" : place("stderr", stdio.stderr),
    };
    const within = (name: string) => name === "" ? "" : `${inside}/${name}`;
    this.#options = options;
    this.request = {
      stdin: within(names.stdin),
      stdout: within(names.stdout),
      stderr: within(names.stderr),
      terminal: stdio.terminal,
    };
    this.#targets = Object.values(names).filter((name) => name !== "")
      .map((name) => `${path}/${name}`);
  }

  /**
   * Binds the streams of a process that is about to be made.
   *
   * @param options What they are opened with.
   * @param owner Whose they are.
   * @param stdio Where they go; {@link checkStdio} has seen it.
   * @throws {SandboxError} `NotFound` for a path that is not there; nothing is bound then.
   */
  static async bind(
    options: StdioOptions,
    owner: StdioOwner,
    stdio: StdioSpec,
  ): Promise<BoundStdio> {
    const bound = new BoundStdio(options, owner, stdio);
    const sources = [stdio.stdin, stdio.stdout, ...(stdio.terminal ? [] : [stdio.stderr])]
      .flatMap((stream) => stream.kind === "path" ? [stream.path] : []);
    try {
      await Promise.all(
        bound.#targets.map((target) => Deno.writeFile(target, new Uint8Array(), { mode: 0o600 })),
      );
      await options.mounter.bind(sources.map((source, index) => ({
        source,
        target: bound.#targets[index] ?? "",
        readonly: false,
        recursive: false,
      })));
      bound.#hold(owner, stdio);
      return bound;
    } catch (error) {
      await bound.release();
      throw error;
    }
  }

  /**
   * Takes over the streams of a process that an earlier sandboxer had made.
   *
   * @param options What they are opened with.
   * @param owner Whose they are.
   * @param stdio Where they go.
   */
  static adopt(options: StdioOptions, owner: StdioOwner, stdio: StdioSpec): BoundStdio {
    const bound = new BoundStdio(options, owner, stdio);
    try {
      bound.#hold(owner, stdio);
    } catch {
      // Its creator has removed it: the process goes on without.
    }
    return bound;
  }

  /** Lets the process read the end of its input, once what is written was read. */
  closeStdin(): void {
    this.#stdin?.[Symbol.dispose]();
    this.#stdin = undefined;
  }

  /** Leaves it to the next sandboxer: what is held for this process goes on to be. */
  leave(): void {
    this.#stdin?.leave();
    this.#stdin = undefined;
  }

  /** Takes the streams away; Quark keeps what it has open. May be called more than once. */
  async release(): Promise<void> {
    this.closeStdin();
    await this.#options.mounter.unmountAll(this.#targets);
    await Promise.all(
      this.#targets.map((target) =>
        Deno.remove(target).catch((error: unknown) => {
          if (!(error instanceof Deno.errors.NotFound)) throw error;
        })
      ),
    );
  }

  #hold({ directory, exec }: StdioOwner, { stdin }: StdioSpec): void {
    if (stdin.kind !== "path") return;
    // By the place where it is bound: the sandboxer's permissions do not reach to FIFOs.
    const path = `${directory.path}/${exec === "" ? "" : `${exec}-`}stdin`;
    if (Deno.statSync(path).isFifo !== true) return;
    this.#stdin = new HeldFifo(path, this.#options.holder);
  }
}

/** A FIFO that is held open for writing. */
class HeldFifo implements Disposable {
  readonly #path: string;
  readonly #holder: FifoKeeper | undefined;
  readonly #fd: number;

  /** Opens it; whether anybody reads it does not matter. */
  constructor(path: string, holder: FifoKeeper | undefined) {
    this.#path = path;
    this.#holder = holder;
    // For both, which never waits.
    this.#fd = openSync(path, O_RDWR | O_NONBLOCK | O_NOCTTY);
    holder?.hold(path, "write");
  }

  /** Closes it here only. */
  leave(): void {
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.#holder?.letGo(this.#path, "write");
    closeSync(this.#fd);
  }
}
