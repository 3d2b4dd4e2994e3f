/**
 * `quasaur run vmm`: runs one command in a machine of its own, on this command's own standard streams
 * or on its terminal, and ends as the command ended.
 *
 * @module
 */

import { Command } from "commander";
import { open, type VmmOpenOptions, type VmmSandboxer } from "../mod.ts";
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
import { parseNet } from "./run_values.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
The command sees a Linux of its own: the files of --rootfs or --image, and a kernel that it shares
with nobody. What it writes there is gone with it. ${LINUX_EXIT_CODES}

From the source, \`deno task quasaur:vmm\` has the rights that this takes.

Examples:
  quasaur run vmm --rootfs ./alpine -- /bin/sh -c 'uname -a'
  quasaur run vmm --rootfs ./alpine -it --net user -- /bin/sh
  quasaur run vmm --image debian.erofs --memory 512Mi --volume ./data:/data:ro -- ls /data`;

/** The options as commander gathers them. */
interface VmmCommandOptions extends LinuxCommandOptions {
  readonly image?: string;
  readonly net?: "none" | "user";
}

/** What the command works with; tests have their own. */
export interface RunVmmPorts {
  /** Opens a sandboxer. */
  readonly open: (options: VmmOpenOptions) => Promise<VmmSandboxer>;
  /** The terminal of this process; undefined where it has none. */
  readonly terminal: () => OwnTerminal | undefined;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function runVmmCommand(
  end: (code: number) => void,
  ports: RunVmmPorts = { open: openWithRights, terminal: ownTerminal },
): Command {
  const command = new Command("vmm")
    .description("Run a command in a machine of its own (microVM).")
    .usage("[options] [--] COMMAND [args...]")
    .argument("<COMMAND>", "what to run, as its own Linux knows it")
    .argument("[args...]", "arguments of the command")
    .passThroughOptions()
    .option("--rootfs <DIR>", "a directory as its root file system")
    .option("--image <FILE>", "an erofs or ext4 image as its root file system")
    .option("--cpus <N>", "CPUs, default the configuration's", RESOURCE_PARSERS.cpus)
    .option("--memory <SIZE>", "memory of the command, such as 256Mi", RESOURCE_PARSERS.memory)
    .option("--net <WHAT>", "none or user (what this user reaches), default none", parseNet);
  return addLinuxOptions(command, "vmm")
    .addHelpText("after", EXAMPLES)
    .action(async (command: string, args: string[], options: VmmCommandOptions) => {
      end(await runInMachine([command, ...args], options, ports));
    });
}

/** Opens a sandboxer, if this program may. */
async function openWithRights(options: VmmOpenOptions): Promise<VmmSandboxer> {
  await checkRights("cannot run machines", "vmm");
  return await open("vmm", options);
}

/** Runs a command; the answer is the exit code. */
async function runInMachine(
  command: readonly string[],
  options: VmmCommandOptions,
  ports: RunVmmPorts,
): Promise<number> {
  const { config, set = [], cpus, memory, net = "none", hostname, rootfs, image } = options;
  if ((rootfs === undefined) === (image === undefined)) {
    throw new UsageError("Expected either --rootfs DIR or --image FILE");
  }
  return await runLinux({
    command,
    options,
    terminal: ports.terminal,
    patience: "starting the machine; the first of a size is saved, which takes a moment ...",
    start: async (undo, run, signal) => {
      const sandboxer = undo.use(
        await ports.open({ onWarning: warn, ...(config === undefined ? {} : { config }), set }),
      );
      const sandbox = undo.use(
        await sandboxer.createSandbox({
          network: { kind: net },
          ...(cpus === undefined ? {} : { cpus }),
          ...(memory === undefined ? {} : { memoryBytes: memory }),
          ...(hostname === undefined ? {} : { hostname }),
          sharedTree: (options.volume ?? []).some((volume) => volume.readonly !== true),
          signal,
        }),
      );
      return undo.use(
        await sandbox.run({
          ...run,
          ...(rootfs === undefined ? {} : { rootfs }),
          ...(image === undefined ? {} : { image }),
        }),
      );
    },
  });
}
