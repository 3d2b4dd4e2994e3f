/**
 * `quasaur attach`: connects to the streams of a container's first process.
 *
 * @module
 */

import { Command } from "commander";
import type { FleetContainer } from "../sandboxers/client/fleet.ts";
import { runAttached } from "./client/attached.ts";
import { addAddress, withFleet } from "./client/command.ts";
import { DEFAULT_DETACH_KEYS, type DetachKeys, parseDetachKeys } from "./client/detach_keys.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import { codeOfSignal, codeOfWireExit, FAILED, SIGPIPE } from "./exit_codes.ts";
import { ForwardedSignals } from "./forwarded_signals.ts";

const EXAMPLES = `
Works on what \`quasaur run\` made: the streams of pods that containerd made belong to containerd.
Ends with the exit code of the process; 128 + n after signal n, 125 for any other failure. Signals
go to the process. The keys ${DEFAULT_DETACH_KEYS} leave it running; then the exit code is 0.

Examples:
  quasaur attach shell
  quasaur attach --logs --no-stdin build
  quasaur attach --detach-keys ctrl-a,d shell`;

/** The options as commander gathers them. */
interface AttachOptions {
  readonly detachKeys: string;
  readonly logs?: boolean;
  readonly stdin: boolean;
  readonly sigProxy: boolean;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function attachCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("attach")
    .description("Connect to the streams of a container that run made.")
    .argument("<TARGET>", "the container, or a sandbox with one container")
    .option("--detach-keys <KEYS>", 'keys that leave it; "" for none', DEFAULT_DETACH_KEYS)
    .option("--logs", "first what it wrote before")
    .option("--no-sig-proxy", "signals end this command and not the process")
    .option("--no-stdin", "keep standard input to yourself");
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (target: string, options: AttachOptions) => {
      const keys = parseDetachKeys(options.detachKeys);
      end(
        await withFleet(command, ports, async (fleet) => {
          const found = await fleet.resolveContainer(target, "cannot attach to");
          return await attachTo(found, options, keys, ports);
        }, FAILED),
      );
    });
}

/** Stays with a container; answers the exit code. */
async function attachTo(
  { client, container }: FleetContainer,
  { logs = false, stdin, sigProxy }: AttachOptions,
  keys: DetachKeys | undefined,
  ports: ClientPorts,
): Promise<number> {
  const terminal = container.terminal && stdin ? ports.terminal() : undefined;
  using signals = sigProxy ? new ForwardedSignals({ killsAtLast: false }) : undefined;
  const end = await runAttached(client.attach(), {
    first: {
      message: {
        case: "attach",
        value: {
          target: container.id,
          withLogs: logs,
          noStdin: !stdin,
          ...(terminal === undefined ? {} : { terminalSize: terminal.size() }),
        },
      },
    },
    stdin,
    terminal,
    streams: ports.streams,
    signals,
    // Without a terminal every byte is the process's.
    detachKeys: terminal === undefined ? undefined : keys,
    unread: "leave",
  });
  if (end.kind === "exit") return codeOfWireExit(end.exit, ports);
  if (end.kind === "unread") return codeOfSignal(SIGPIPE);
  ports.complain("left it running");
  return 0;
}
