/**
 * `quasaur run quark`: runs one command over the Quark application kernel. That one takes a sandboxer:
 * in this process there is none.
 *
 * @module
 */

import { Command } from "commander";
import { SandboxError } from "../mod.ts";
import { ownTerminal } from "./raw_terminal.ts";
import { LINUX_HELP, type LinuxCommandOptions, runLinux } from "./run_linux.ts";
import { addNetOption, addRunOptions } from "./run_options.ts";
import { checkHostPorts } from "./run_publish.ts";
import { THROUGH_PORTS, type ThroughPorts } from "./run_through.ts";
import { type GvisorNet, parseGvisorNet } from "./run_values.ts";

const EXAMPLES = `
It runs through the sandboxer of the kind quark only, which says where Quark is: /run/quasaur/quark.sock
or what --address names.
${LINUX_HELP.trimStart()}

Examples:
  quasaur run quark ./alpine.tar -- uname -a
  quasaur run quark -d --name db --net /run/netns/db docker.io/library/postgres:17`;

/** The options as commander gathers them. */
interface QuarkCommandOptions extends LinuxCommandOptions {
  readonly net?: GvisorNet;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param through Reaches sandboxers.
 */
export function runQuarkCommand(
  end: (code: number) => void,
  through: ThroughPorts = THROUGH_PORTS,
): Command {
  const command = new Command("quark")
    .description("Run a command over an application kernel (Quark), through a sandboxer.")
    .usage("[options] WHAT [--] [args...]")
    .argument("[words...]", "what to run, and its arguments")
    .passThroughOptions();
  addNetOption(
    command,
    "none, host, or the path of a network namespace, default the sandboxer's choice",
    parseGvisorNet,
  );
  return addRunOptions(command)
    .addHelpText("after", EXAMPLES)
    .action(async (words: string[], options: QuarkCommandOptions) => {
      const { net, publish = [] } = options;
      const network = net === undefined ? "" : net.kind === "namespace" ? net.path : net.kind;
      checkHostPorts(publish, network === "" ? "none" : network);
      end(
        await runLinux({
          kind: "quark",
          commandLine: command,
          words,
          options: { ...options, publish: [] },
          terminal: ownTerminal,
          patience: "starting Quark ...",
          through,
          asked: { network, runtime: "quark" },
          start: () => Promise.reject(withoutSandboxer()),
        }),
      );
    });
}

function withoutSandboxer(): SandboxError {
  return new SandboxError(
    "FailedPrecondition",
    "cannot run Quark in this process: it takes a sandboxer: start one of the kind quark, or name " +
      "its socket with --address; `quasaur run gvisor` needs none",
  );
}
