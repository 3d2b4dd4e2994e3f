/**
 * What Attach has in common for a container's first process and for others: what the client sends, and
 * the messages that it gets.
 *
 * @module
 */

import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  AttachRequest,
  AttachResponseSchema,
} from "../../../proto/gen/quasaur/management/v1/management_pb.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { Sandboxer } from "../../lifecycle/sandboxer.ts";
import type { Exit } from "../../lifecycle/spec.ts";
import { exitMessage } from "../messages.ts";
import type { Output } from "./log_reading.ts";
import type { ProcessInput } from "./process_input.ts";
import { terminalSizeOf } from "./request_checks.ts";

/** A message to the client. */
export type Answer = MessageInitShape<typeof AttachResponseSchema>;

/** A process that a client is connected to. */
export interface Connected {
  /** Where its state is. */
  readonly sandboxer: Sandboxer;
  /** Its container. */
  readonly containerId: string;
  /** Empty for the first process. */
  readonly execId: string;
  /** Whether it has a terminal. */
  readonly terminal: boolean;
  /** Its input; undefined where it has none, or the client has no say in it. */
  readonly input: ProcessInput | undefined;
  /** Something was sent that it may answer. */
  readonly onSent: () => void;
}

/**
 * Does what a client says, until it has said all. What the process does not want any more, as it has
 * ended, is no error.
 *
 * @param requests What it says.
 * @param connected The process.
 * @throws {SandboxError} `InvalidArgument` for what cannot be meant.
 */
export async function obey(
  requests: AsyncIterator<AttachRequest>,
  connected: Connected,
): Promise<void> {
  const { sandboxer, containerId, execId, input, onSent } = connected;
  for (;;) {
    const { done, value } = await requests.next();
    if (done === true) return;
    const { message } = value;
    switch (message.case) {
      case "stdin":
        await input?.write(message.value);
        onSent();
        break;
      case "closeStdin":
        await input?.close();
        break;
      case "resize":
        await resize(connected, message.value);
        onSent();
        break;
      case "signal":
        await unlessEnded(sandboxer.killProcess(containerId, execId, message.value));
        break;
      default:
        throw new SandboxError(
          "InvalidArgument",
          `cannot go on: found ${JSON.stringify(message.case ?? "an empty message")}: expected ` +
            "stdin, close_stdin, resize or signal after the first message",
        );
    }
  }
}

/** Sets the size of a terminal; without one it does nothing. */
export async function resize(
  { sandboxer, containerId, execId, terminal }: Connected,
  size: Parameters<typeof terminalSizeOf>[1],
): Promise<void> {
  const wanted = terminalSizeOf("resize", size);
  if (wanted === undefined || !terminal) return;
  const { columns, rows } = wanted;
  await unlessEnded(sandboxer.resizeTerminal(containerId, execId, columns, rows));
}

/** One that has ended meanwhile needs nothing. */
async function unlessEnded(done: Promise<void>): Promise<void> {
  try {
    await done;
  } catch (error) {
    const { code } = SandboxError.from(error);
    if (code !== "NotFound" && code !== "FailedPrecondition") throw error;
  }
}

/** Output as a message. */
export function outputAnswer({ stream, bytes }: Output): Answer {
  return { message: { case: stream, value: bytes } };
}

/** The end as a message. */
export function exitAnswer(exit: Exit): Answer {
  return { message: { case: "exit", value: exitMessage(exit) } };
}
