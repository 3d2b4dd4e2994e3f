/**
 * `quasaur run gvisor`: runs one command over an application kernel, on this command's own standard
 * streams or on its terminal, and ends as the command ended.
 *
 * @module
 */

import { Command } from "commander";
import { type GvisorOpenOptions, type GvisorSandboxer, open } from "../mod.ts";
import { type OwnTerminal, ownTerminal } from "./raw_terminal.ts";
import {
  addLinuxOptions,
  checkRights,
  LINUX_EXIT_CODES,
  type LinuxCommandOptions,
  RESOURCE_PARSERS,
  runLinux,
  warn,
} from "./run_linux.ts";
import { type GvisorNet, parseGvisorNet } from "./run_values.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
The command sees the files of --rootfs, and gVisor's kernel in the place of the host's. What it
writes goes to that directory; --read-only or --set gvisor.overlay=memory keep it as it is.
${LINUX_EXIT_CODES}

From the source, \`deno task quasaur:gvisor\` has the rights that this takes.

Examples:
  quasaur run gvisor --rootfs ./alpine -- /bin/sh -c 'dmesg | head'
  quasaur run gvisor --rootfs ./alpine -it --net host -- /bin/sh
  quasaur run gvisor --rootfs ./alpine --memory 512Mi --volume ./data:/data:ro -- ls /data`;

/** The options as commander gathers them. */
interface GvisorCommandOptions extends LinuxCommandOptions {
  readonly net?: GvisorNet;
}

/** What the command works with; tests have their own. */
export interface RunGvisorPorts {
  /** Opens a sandboxer. */
  readonly open: (options: GvisorOpenOptions) => Promise<GvisorSandboxer>;
  /** The terminal of this process; undefined where it has none. */
  readonly terminal: () => OwnTerminal | undefined;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function runGvisorCommand(
  end: (code: number) => void,
  ports: RunGvisorPorts = { open: openWithRights, terminal: ownTerminal },
): Command {
  const command = new Command("gvisor")
    .description("Run a command over an application kernel (gVisor).")
    .usage("[options] [--] COMMAND [args...]")
    .argument("<COMMAND>", "what to run, as its root file system knows it")
    .argument("[args...]", "arguments of the command")
    .passThroughOptions()
    .option("--rootfs <DIR>", "a directory as its root file system")
    .option("--cpus <N>", "CPUs, default all", RESOURCE_PARSERS.cpus)
    .option("--memory <SIZE>", "memory of the command, such as 256Mi", RESOURCE_PARSERS.memory)
    .option(
      "--net <WHAT>",
      "none, host, or the path of a network namespace, default none",
      parseGvisorNet,
    );
  return addLinuxOptions(command, "quark")
    .addHelpText("after", EXAMPLES)
    .action(async (command: string, args: string[], options: GvisorCommandOptions) => {
      end(await runOverGvisor([command, ...args], options, ports));
    });
}

/** Opens a sandboxer, if this program may. */
async function openWithRights(options: GvisorOpenOptions): Promise<GvisorSandboxer> {
  await checkRights("cannot run gVisor", "gvisor");
  return await open("gvisor", options);
}

/** Runs a command; the answer is the exit code. */
async function runOverGvisor(
  command: readonly string[],
  options: GvisorCommandOptions,
  ports: RunGvisorPorts,
): Promise<number> {
  const { config, set = [], cpus, memory, net, hostname, rootfs } = options;
  if (rootfs === undefined) throw new UsageError("Expected --rootfs DIR");
  return await runLinux({
    command,
    options,
    terminal: ports.terminal,
    patience: "starting gVisor; the first start after a boot finds out what works here ...",
    start: async (undo, run, signal) => {
      const sandboxer = undo.use(
        await ports.open({ onWarning: warn, ...(config === undefined ? {} : { config }), set }),
      );
      const sandbox = undo.use(
        await sandboxer.createSandbox({
          network: net ?? { kind: "none" },
          ...(cpus === undefined ? {} : { cpus }),
          ...(memory === undefined ? {} : { memoryBytes: memory }),
          hostname: hostname ?? "quasaur",
          signal,
        }),
      );
      return undo.use(await sandbox.run({ ...run, rootfs }));
    },
  });
}
