/**
 * What can be done to pods and containers from the screen.
 *
 * @module
 */

import { constants } from "node:os";
import type { ManagementClient } from "../../sandboxers/client/management_client.ts";
import { runAttached } from "../client/attached.ts";
import { CLIENT_PORTS } from "../client/ports.ts";
import { ownTerminal } from "../raw_terminal.ts";
import { type Action, nameOf } from "./interaction.ts";
import { type TerminalInput, writeToTerminal } from "./terminal_streams.ts";

/** The shell that is started in a container. */
const SHELL = "sh";

/**
 * Does something.
 *
 * @param action What; not a shell.
 * @param client The pod's sandboxer.
 * @returns What was done, for people.
 * @throws {SandboxError} As the sandboxer says.
 */
export async function perform(action: Action, client: ManagementClient): Promise<string> {
  const { verb, pod, container } = action;
  const target = container?.id ?? pod.id;
  if (verb === "kill") {
    const containers = container === undefined ? pod.containers : [container];
    const running = containers.filter(({ state }) =>
      state.mood === "good" || state.mood === "held"
    );
    await Promise.all(
      running.map(({ id }) =>
        client.kill({ target: id, signal: constants.signals.SIGKILL, all: true })
      ),
    );
    return running.length === 0
      ? `nothing to kill in ${nameOf(action)}: nothing runs there`
      : `killed ${nameOf(action)}`;
  }
  if (verb === "stop") {
    await client.stop({ target });
    return `stopped ${nameOf(action)}`;
  }
  if (verb === "pause") {
    await client.pause({ target });
    return `paused ${nameOf(action)}`;
  }
  await client.resume({ target });
  return `resumed ${nameOf(action)}`;
}

/** A message and whether it is bad news. */
export interface Outcome {
  /** What is said. */
  readonly text: string;
  /** Whether it is bad news. */
  readonly isError: boolean;
}

/**
 * Lends the terminal to a shell in a container until the shell ends.
 *
 * @param action Which container; the screen must have left the terminal.
 * @param client The pod's sandboxer.
 * @param typed What is typed.
 * @param signal Ends it at once.
 * @throws {SandboxError} Where there is no shell, or the connection breaks.
 */
export async function runShell(
  action: Action,
  client: ManagementClient,
  typed: TerminalInput,
  signal: AbortSignal,
): Promise<Outcome> {
  const { pod, container } = action;
  if (pod.kind === "wasm") {
    const text = "no shell in wasm pods: use quasaur exec POD MODULE.wasm";
    return { text, isError: true };
  }
  const terminal = ownTerminal();
  const place = nameOf(action).replaceAll(/[^ -~]/g, "?");
  writeToTerminal(`${SHELL} in ${place}: its end leads back to quasaur top\r\n`);
  const { columns, rows } = terminal?.size() ?? { columns: 80, rows: 24 };
  const end = await runAttached(client.attach({ signal }), {
    first: {
      message: {
        case: "exec",
        value: {
          target: container?.id ?? pod.id,
          process: {
            args: [SHELL],
            env: ["TERM=xterm"],
            terminal: true,
            terminalSize: { columns, rows },
          },
          stdin: true,
          inherit: true,
        },
      },
    },
    stdin: true,
    terminal,
    streams: { ...CLIENT_PORTS.streams, input: () => typed.stream() },
    signals: undefined,
    detachKeys: undefined,
    unread: "leave",
  });
  if (end.kind !== "exit") return { text: "left the shell", isError: false };
  const { status } = end.exit;
  return { text: `the shell ended with ${status}`, isError: false };
}
