/**
 * `quasaur exec`: runs a command in a container that runs, on this command's own streams or on its
 * terminal, and ends as it ended.
 *
 * @module
 */

import { Command } from "commander";
import type { FleetContainer } from "../sandboxers/client/fleet.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { runAttached } from "./client/attached.ts";
import { addAddress, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import {
  codeOfError,
  codeOfSignal,
  codeOfWireExit,
  FAILED,
  NOT_FOUND,
  SIGPIPE,
} from "./exit_codes.ts";
import { ForwardedSignals } from "./forwarded_signals.ts";
import { parseEnvironment, parseUser, parseWorkdir } from "./run_values.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
TARGET is the id or name of a sandbox or container, the beginning of an id, or SANDBOX/CONTAINER.
The command gets the environment, working directory and user of the container's first process where
the options say nothing else. Its exit code is this command's; 128 + n after signal n, 127 where
there is no such program, 126 where it cannot be run, 125 for any other failure, 2 for a bad command
line. Without -t, Ctrl-C goes to the command; pressed again it kills it. In wasm sandboxes COMMAND
is a module of the container's image.

Examples:
  quasaur exec web ls -l /
  quasaur exec -it web sh
  quasaur exec -u 1000:1000 -w /srv -e DEBUG=1 pod-1/app -- ./report --today
  echo 'select 1' | quasaur exec -i db psql`;

/** How it sounds where there is no such program. */
const MISSING_PROGRAM = /not found|no such file/i;

/** The options as commander gathers them. */
interface ExecOptions {
  readonly env?: readonly string[];
  readonly interactive?: boolean;
  readonly tty?: boolean;
  readonly user?: { readonly uid: number; readonly gid: number };
  readonly workdir?: string;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function execCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("exec")
    .description("Run a command in a running container.")
    .usage("[options] TARGET [--] COMMAND [args...]")
    .argument("<TARGET>", "the container, or a sandbox with one container")
    .argument("<COMMAND>", "what to run")
    .argument("[args...]", "arguments of the command")
    .passThroughOptions()
    .option(
      "-e, --env <NAME=VALUE>",
      "set an environment variable; may be repeated",
      (text: string, before: readonly string[] = []) => [
        ...before,
        parseEnvironment(text).join("="),
      ],
    )
    .option("-i, --interactive", "pass standard input on")
    .option("-t, --tty", "give it a terminal: that of this command")
    .option("-u, --user <UID[:GID]>", "who it runs as", parseUser)
    .option("-w, --workdir <PATH>", "working directory inside", parseWorkdir);
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (target: string, program: string, args: string[], options: ExecOptions) => {
      const words = program === "--"
        ? args
        : [program, ...(args[0] === "--" ? args.slice(1) : args)];
      if (words.length === 0) throw new UsageError("missing required argument 'COMMAND'");
      end(
        await withFleet(command, ports, async (fleet) => {
          const found = await fleet.resolveContainer(target, "cannot exec in");
          return await execIn(found, words, options, ports);
        }, FAILED),
      );
    });
}

/** Runs a command in a container; answers the exit code. */
async function execIn(
  { client, container }: FleetContainer,
  args: readonly string[],
  options: ExecOptions,
  ports: ClientPorts,
): Promise<number> {
  const { tty = false, interactive: stdin = false, env = [], user, workdir = "" } = options;
  const terminal = tty ? ports.terminal() : undefined;
  if (tty && stdin && terminal === undefined) {
    throw new UsageError(
      "Cannot use -t with -i: standard input and output are no terminal: leave -t out",
    );
  }
  using signals = new ForwardedSignals();
  try {
    const end = await runAttached(client.attach({ signal: signals.startSignal }), {
      first: {
        message: {
          case: "exec",
          value: {
            target: container.id,
            process: {
              args: [...args],
              env: [...env],
              cwd: workdir,
              ...(user ?? {}),
              terminal: tty,
              ...(terminal === undefined ? {} : { terminalSize: terminal.size() }),
            },
            stdin,
            inherit: true,
            userGiven: user !== undefined,
          },
        },
      },
      stdin,
      terminal,
      streams: ports.streams,
      signals,
      detachKeys: undefined,
      // What it runs ends with this command.
      unread: "leave",
    });
    return end.kind === "exit" ? codeOfWireExit(end.exit, ports) : codeOfSignal(SIGPIPE);
  } catch (error) {
    if (signals.givenUpBy !== undefined) return codeOfSignal(signals.givenUpBy);
    const { message } = SandboxError.from(error);
    ports.complain(message);
    // Kinds differ in what they call it.
    return MISSING_PROGRAM.test(message) ? NOT_FOUND : codeOfError(error);
  }
}
