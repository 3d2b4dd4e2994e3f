/**
 * `quasaur run vmm`: runs one command in a machine of its own, on this command's own standard streams
 * or on its terminal, and ends as the command ended.
 *
 * @module
 */

import { Command } from "commander";
import { open, type VmmOpenOptions, type VmmSandboxer } from "../mod.ts";
import { type OwnTerminal, ownTerminal } from "./raw_terminal.ts";
import { checkRights, LINUX_HELP, type LinuxCommandOptions, runLinux, warn } from "./run_linux.ts";
import { addConfigOptions, addNetOption, addRunOptions } from "./run_options.ts";
import { THROUGH_PORTS, type ThroughPorts } from "./run_through.ts";
import { parseNet } from "./run_values.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
The command sees a Linux of its own, with a kernel that it shares with nobody. What it writes to its
files is gone with it. A file with an erofs or ext4 file system is taken as WHAT, too.
${LINUX_HELP.trimStart()}

--publish needs --net user, and stands for it. Ports of the host below 1024 cannot be published.

Examples:
  quasaur run vmm ./alpine.tar -- uname -a
  quasaur run vmm -it --net user docker.io/library/debian:12 bash
  quasaur run vmm -d -p 8080:80 --name web docker.io/library/nginx:1
  quasaur run vmm --image debian.erofs --memory 512Mi --volume ./data:/data:ro -- ls /data`;

/** Asks for a shared tree; see sandboxers/vmm/config/annotations.ts. */
const SHARE_FS = { "quasaur.dev/share-fs": "virtiofs" };

/** The options as commander gathers them. */
interface VmmCommandOptions extends LinuxCommandOptions {
  readonly net?: "none" | "user";
}

/** What the command works with; tests have their own. */
export interface RunVmmPorts {
  /** Opens a sandboxer. */
  readonly open: (options: VmmOpenOptions) => Promise<VmmSandboxer>;
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
export function runVmmCommand(
  end: (code: number) => void,
  ports: RunVmmPorts = { open: openWithRights, terminal: ownTerminal, through: THROUGH_PORTS },
): Command {
  const command = new Command("vmm")
    .description("Run a command in a machine of its own (microVM).")
    .usage("[options] WHAT [--] [args...]")
    .argument("[words...]", "what to run, and its arguments")
    .passThroughOptions();
  addNetOption(command, "none or user (what this user reaches), default none", parseNet);
  return addConfigOptions(addRunOptions(command), "vmm")
    .addHelpText("after", EXAMPLES)
    .action(async (words: string[], options: VmmCommandOptions) => {
      end(await runInMachine(command, words, options, ports));
    });
}

/** Opens a sandboxer, if this program may. */
async function openWithRights(options: VmmOpenOptions): Promise<VmmSandboxer> {
  await checkRights("cannot run machines", "vmm");
  return await open("vmm", options);
}

/** Runs a command; the answer is the exit code. */
async function runInMachine(
  commandLine: Command,
  words: readonly string[],
  options: VmmCommandOptions,
  { open, terminal, through }: RunVmmPorts,
): Promise<number> {
  const { config, set = [], cpus, memory, hostname, name, volume = [], publish = [] } = options;
  const { net = publish.length > 0 ? "user" : "none" } = options;
  if (net === "none" && publish.length > 0) {
    throw new UsageError("Cannot publish ports with --net none: use --net user");
  }
  const sharedTree = volume.some(({ readonly }) => readonly !== true);
  return await runLinux({
    kind: "vmm",
    commandLine,
    words,
    options,
    terminal,
    patience: "starting the machine; the first of a size is saved, which takes a moment ...",
    through,
    asked: { network: net, annotations: sharedTree ? SHARE_FS : {} },
    start: async (undo, run, { source, name: what }, images, signal) => {
      const sandboxer = undo.use(
        await open({ onWarning: warn, images, ...(config === undefined ? {} : { config }), set }),
      );
      const sandbox = undo.use(
        await sandboxer.createSandbox({
          network: net === "user" && publish.length > 0
            ? { kind: net, ports: publish }
            : { kind: net },
          ...(name === undefined ? {} : { id: name }),
          ...(cpus === undefined ? {} : { cpus }),
          ...(memory === undefined ? {} : { memoryBytes: memory }),
          ...(hostname === undefined ? {} : { hostname }),
          sharedTree,
          signal,
        }),
      );
      const files = source.kind === "rootfs" ? { rootfs: source.path } : { image: what };
      return undo.use(await sandbox.run({ ...run, ...files }));
    },
  });
}
