/**
 * A process in a sandbox on this command's own streams or terminal: what is typed goes there, what it
 * writes comes here, signals and the size of the window follow, until it ends or is left.
 *
 * @module
 */

import { constants } from "node:os";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  AttachRequestSchema,
  AttachStarted,
  Exit,
} from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import type { AttachCall } from "../../sandboxers/client/management_client.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import type { ForwardedSignals } from "../forwarded_signals.ts";
import { type OwnTerminal, RawTerminal } from "../raw_terminal.ts";
import type { DetachKeys } from "./detach_keys.ts";

/** The streams of this command. */
export interface OwnStreams {
  /** Standard input. */
  input(): ReadableStream<Uint8Array>;
  /** Writes all to standard output. */
  output(bytes: Uint8Array): Promise<void>;
  /** Writes all to standard error. */
  error(bytes: Uint8Array): Promise<void>;
}

/** How a process is connected. */
export interface AttachedOptions {
  /** The first message: what to attach to. */
  readonly first: MessageInitShape<typeof AttachRequestSchema>;
  /** Whether standard input goes there. */
  readonly stdin: boolean;
  /** The terminal that is lent to it, where the process has one and this command too. */
  readonly terminal: OwnTerminal | undefined;
  /** The streams of this command. */
  readonly streams: OwnStreams;
  /** Signals that are passed on; undefined where they have their usual effect. */
  readonly signals: ForwardedSignals | undefined;
  /** Keys that leave the process alone; undefined for none. */
  readonly detachKeys: DetachKeys | undefined;
  /**
   * What becomes of the process when it writes and this command's own reader has gone, as in
   * `... | head -n 1`: it is left alone, or it ends as a program does that writes to such a pipe.
   */
  readonly unread: "leave" | "end";
}

/** How it ended: with the process, because the user has left it, or as nobody reads any more. */
export type AttachedEnd = { readonly kind: "exit"; readonly exit: Exit } | {
  readonly kind: "detached" | "unread";
};

/** Connects, and stays until the end. */
export async function runAttached(
  call: AttachCall,
  options: AttachedOptions,
): Promise<AttachedEnd> {
  using attached = new Attached(call, options);
  return await attached.run();
}

/** One process on this command's streams. */
class Attached implements Disposable {
  readonly #call: AttachCall;
  readonly #options: AttachedOptions;
  readonly #undo = new DisposableStack();
  #raw: RawTerminal | undefined;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #leftFor: "detached" | "unread" | undefined;
  /** Outputs whose reader has gone: what comes for them is dropped. */
  readonly #gone = new Set<"output" | "error">();

  constructor(call: AttachCall, options: AttachedOptions) {
    this.#call = this.#undo.use(call);
    this.#options = options;
  }

  async run(): Promise<AttachedEnd> {
    await this.#call.send(this.#options.first);
    try {
      for await (const { message } of this.#call) {
        switch (message.case) {
          case "started":
            this.#onStarted(message.value);
            break;
          case "stdout":
            await this.#write("output", message.value);
            break;
          case "stderr":
            await this.#write("error", message.value);
            break;
          case "exit":
            return { kind: "exit", exit: message.value };
        }
      }
    } catch (error) {
      if (this.#leftFor !== undefined) return { kind: this.#leftFor };
      throw error;
    }
    if (this.#leftFor !== undefined) return { kind: this.#leftFor };
    throw new SandboxError(
      "Unavailable",
      "cannot tell how the process ended: the sandboxer has closed the connection",
    );
  }

  /** The process is there: from now on it is what keys and signals are for. */
  #onStarted({ terminal: hasTerminal }: AttachStarted): void {
    const { terminal, stdin, signals } = this.#options;
    if (hasTerminal && terminal !== undefined) {
      this.#raw = this.#undo.use(
        new RawTerminal(
          terminal,
          (value) => this.#call.send({ message: { case: "resize", value } }),
        ),
      );
    }
    signals?.forwardTo({
      kill: (value) => this.#call.send({ message: { case: "signal", value } }),
    });
    if (stdin) void this.#feed();
  }

  /** Passes standard input on to its end. What fails says so where the call is read. */
  async #feed(): Promise<void> {
    const reader = this.#reader = this.#options.streams.input().getReader();
    try {
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        const { bytes, detach } = this.#options.detachKeys?.pass(part.value) ??
          { bytes: part.value, detach: false };
        if (bytes.length > 0) {
          await this.#call.send({ message: { case: "stdin", value: bytes } });
        }
        if (detach) {
          return this.#leave("detached");
        }
      }
      await this.#call.send({ message: { case: "closeStdin", value: {} } });
    } catch {
      // The process or the connection has ended: whoever reads the call is told.
    }
  }

  async #write(to: "output" | "error", bytes: Uint8Array): Promise<void> {
    // A process that goes on to write has not taken notice.
    if (this.#gone.has(to)) return this.#signal(constants.signals.SIGKILL);
    try {
      await this.#options.streams[to](bytes);
    } catch (error) {
      if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
      this.#gone.add(to);
      if (this.#options.unread === "leave") this.#leave("unread");
      else this.#signal(constants.signals.SIGPIPE);
    }
  }

  #leave(why: "detached" | "unread"): void {
    this.#leftFor ??= why;
    this.#call.cancel();
  }

  #signal(value: number): void {
    // One that has ended already is told of where the call is read.
    this.#call.send({ message: { case: "signal", value } }).catch(() => undefined);
  }

  [Symbol.dispose](): void {
    this.#raw?.restore();
    // What is still waited for is of no use to anybody; a terminal's next line belongs to the shell.
    this.#reader?.cancel().catch(() => undefined);
    this.#undo.dispose();
  }
}
