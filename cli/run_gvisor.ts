/**
 * `quasaur run gvisor`: runs one command over an application kernel, on this command's own standard
 * streams or on its terminal, and ends as the command ended.
 *
 * @module
 */

import { Command } from "commander";
import { type GvisorOpenOptions, type GvisorSandboxer, open } from "../mod.ts";
import { type OwnTerminal, ownTerminal } from "./raw_terminal.ts";
import { checkRights, LINUX_HELP, type LinuxCommandOptions, runLinux, warn } from "./run_linux.ts";
import { addConfigOptions, addNetOption, addRunOptions } from "./run_options.ts";
import { checkHostPorts } from "./run_publish.ts";
import { THROUGH_PORTS, type ThroughPorts } from "./run_through.ts";
import { type GvisorNet, parseGvisorNet } from "./run_values.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
The command sees gVisor's kernel in the place of the host's. What it writes to a directory goes there;
--read-only or --set gvisor.overlay=memory keep it as it is. Images stay as they are.
${LINUX_HELP.trimStart()}

With --net host, it listens at the host's own ports: --publish can only name a port twice.

Examples:
  quasaur run gvisor ./alpine.tar -- sh -c 'dmesg | head'
  quasaur run gvisor -it --net host docker.io/library/debian:12 bash
  quasaur run gvisor --rootfs ./alpine --memory 512Mi --volume ./data:/data:ro -- ls /data`;

/** Below that gVisor itself does not start. */
const MEMORY_BYTES_MIN = 8 * 2 ** 20;

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
  /** Reaches sandboxers that run. */
  readonly through: ThroughPorts;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function runGvisorCommand(
  end: (code: number) => void,
  ports: RunGvisorPorts = { open: openWithRights, terminal: ownTerminal, through: THROUGH_PORTS },
): Command {
  const command = new Command("gvisor")
    .description("Run a command over an application kernel (gVisor).")
    .usage("[options] WHAT [--] [args...]")
    .argument("[words...]", "what to run, and its arguments")
    .passThroughOptions();
  addNetOption(
    command,
    "none, host, or the path of a network namespace, default none",
    parseGvisorNet,
  );
  return addConfigOptions(addRunOptions(command), "quark")
    .addHelpText("after", EXAMPLES)
    .action(async (words: string[], options: GvisorCommandOptions) => {
      end(await runOverGvisor(command, words, options, ports));
    });
}

/** Opens a sandboxer, if this program may. */
async function openWithRights(options: GvisorOpenOptions): Promise<GvisorSandboxer> {
  await checkRights("cannot run gVisor", "gvisor");
  return await open("gvisor", options);
}

/** Runs a command; the answer is the exit code. */
async function runOverGvisor(
  commandLine: Command,
  words: readonly string[],
  options: GvisorCommandOptions,
  { open, terminal, through }: RunGvisorPorts,
): Promise<number> {
  const { config, set = [], cpus, memory, hostname, name, publish = [] } = options;
  const { net = { kind: "none" } } = options;
  const network = net.kind === "namespace" ? net.path : net.kind;
  checkHostPorts(publish, network);
  if (memory !== undefined && memory < MEMORY_BYTES_MIN) {
    throw new UsageError(
      `Invalid --memory: ${memory} bytes are too few, as gVisor takes some itself: expected at ` +
        "least 8Mi",
    );
  }
  return await runLinux({
    kind: "gvisor",
    commandLine,
    words,
    // Ports are the host's own already.
    options: { ...options, publish: [] },
    terminal,
    patience: "starting gVisor; the first start after a boot finds out what works here ...",
    through,
    asked: { network, runtime: "gvisor" },
    start: async (undo, run, { source, name: what }, images, signal) => {
      const sandboxer = undo.use(
        await open({ onWarning: warn, images, ...(config === undefined ? {} : { config }), set }),
      );
      const sandbox = undo.use(
        await sandboxer.createSandbox({
          network: net,
          ...(name === undefined ? {} : { id: name }),
          ...(cpus === undefined ? {} : { cpus }),
          ...(memory === undefined ? {} : { memoryBytes: memory }),
          hostname: hostname ?? "quasaur",
          signal,
        }),
      );
      const files = source.kind === "rootfs" ? { rootfs: source.path } : { image: what };
      return undo.use(await sandbox.run({ ...run, ...files }));
    },
  });
}
