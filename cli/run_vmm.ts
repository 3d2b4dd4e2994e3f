/**
 * `quasaur run vmm`: runs one command in a machine of its own, on this command's own standard streams
 * or on its terminal, and ends as the command ended.
 *
 * @module
 */

import { Command } from "commander";
import {
  type DirectoryMount,
  type Exit,
  open,
  SandboxError,
  type VmmOpenOptions,
  type VmmRunOptions,
  type VmmSandboxer,
} from "../mod.ts";
import { DEFAULT_HOST_LAUNCHER_PATH } from "../sandboxers/host/launcher_file.ts";
import { codeOfExit, codeOfSignal, TIMED_OUT } from "./exit_codes.ts";
import { ForwardedSignals } from "./forwarded_signals.ts";
import { type OwnTerminal, ownTerminal, RawTerminal } from "./raw_terminal.ts";
import {
  parseCpus,
  parseDuration,
  parseEnvironment,
  parseMemory,
  parseNet,
  parseUser,
  parseVolume,
  parseWorkdir,
} from "./run_values.ts";
import { complain, printError } from "./terminal.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
The command sees a Linux of its own: the files of --rootfs or --image, and a kernel that it shares
with nobody. What it writes there is gone with it. Its exit code is this command's; 128 + n after
signal n, 124 after --timeout, 127 for missing files, 126 for what cannot be run, 125 for any other
failure, 2 for a bad command line. Without -t, Ctrl-C goes to the command; pressed again it kills it.

From the source, \`deno task quasaur:vmm\` has the rights that this takes.

Examples:
  quasaur run vmm --rootfs ./alpine -- /bin/sh -c 'uname -a'
  quasaur run vmm --rootfs ./alpine -it --net user -- /bin/sh
  quasaur run vmm --image debian.erofs --memory 512Mi --volume ./data:/data:ro -- ls /data`;

/** The options as commander gathers them. */
interface VmmCommandOptions {
  readonly config?: string;
  readonly cpus?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly hostname?: string;
  readonly image?: string;
  readonly memory?: number;
  readonly net?: "none" | "user";
  readonly readOnly?: boolean;
  readonly rootfs?: string;
  readonly set?: readonly string[];
  readonly timeout?: number;
  readonly tty?: boolean;
  readonly user?: { readonly uid: number; readonly gid: number };
  readonly volume?: readonly DirectoryMount[];
  readonly workdir?: string;
}

/** What the command works with; tests have their own. */
export interface RunVmmPorts {
  /** Opens a sandboxer. */
  readonly open: (options: VmmOpenOptions) => Promise<VmmSandboxer>;
  /** The terminal of this process; undefined where it has none. */
  readonly terminal: () => OwnTerminal | undefined;
}

/** How long a start may take before it is said that it takes long, in milliseconds. */
const PATIENCE_MS = 1_000;

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
  const append = (text: string, before: readonly string[] = []) => [...before, text];
  return new Command("vmm")
    .description("Run a command in a machine of its own (microVM).")
    .usage("[options] [--] COMMAND [args...]")
    .argument("<COMMAND>", "what to run, as its own Linux knows it")
    .argument("[args...]", "arguments of the command")
    .passThroughOptions()
    .option("--rootfs <DIR>", "a directory as its root file system")
    .option("--image <FILE>", "an erofs or ext4 image as its root file system")
    .option("--cpus <N>", "CPUs, default the configuration's", parseCpus)
    .option("--memory <SIZE>", "memory of the command, such as 256Mi", parseMemory)
    .option("--net <WHAT>", "none or user (what this user reaches), default none", parseNet)
    .option(
      "-e, --env <NAME=VALUE>",
      "set an environment variable; may be repeated",
      (text: string, before: Readonly<Record<string, string>> = {}) => {
        const [name, value] = parseEnvironment(text);
        return { ...before, [name]: value };
      },
    )
    .option(
      "-v, --volume <SOURCE:DESTINATION[:ro]>",
      "show a file or directory to it; may be repeated",
      (text: string, before: readonly DirectoryMount[] = []) => [...before, parseVolume(text)],
    )
    .option("-w, --workdir <PATH>", "working directory inside, default /", parseWorkdir)
    .option("-u, --user <UID[:GID]>", "who it runs as, default 0:0", parseUser)
    .option("--hostname <NAME>", "hostname inside, default quasaur")
    .option("--read-only", "its root file system cannot be written to")
    .option("-i, --interactive", "pass standard input on, which is always done")
    .option("-t, --tty", "give it a terminal: that of this command")
    .option("--timeout <DURATION>", "kill it after so long, such as 30s", parseDuration)
    .option("--config <FILE>", "configuration, see: quasaur config vmm --help")
    .option("--set <KEY=VALUE>", "a setting that goes before the file's; may be repeated", append)
    .addHelpText("after", EXAMPLES)
    .action(async (command: string, args: string[], options: VmmCommandOptions) => {
      end(await runInMachine([command, ...args], options, ports));
    });
}

/** Opens a sandboxer, if this program may: nobody should be asked for one right after the other. */
async function openWithRights(options: VmmOpenOptions): Promise<VmmSandboxer> {
  const { state } = await Deno.permissions.query({
    name: "run",
    command: DEFAULT_HOST_LAUNCHER_PATH,
  });
  if (state === "granted") return await open("vmm", options);
  throw new SandboxError(
    "PermissionDenied",
    "cannot run machines with the rights of this program: run `deno task quasaur:vmm` in the place " +
      "of `deno task quasaur`, or deno with -P=cli-vmm",
  );
}

/** Runs a command; the answer is the exit code. */
async function runInMachine(
  command: readonly string[],
  options: VmmCommandOptions,
  ports: RunVmmPorts,
): Promise<number> {
  const terminal = options.tty === true ? ports.terminal() : undefined;
  if (options.tty === true && terminal === undefined) {
    throw new UsageError("Cannot use -t: standard input and output are no terminal: leave it out");
  }
  if ((options.rootfs === undefined) === (options.image === undefined)) {
    throw new UsageError("Expected either --rootfs DIR or --image FILE");
  }
  using signals = new ForwardedSignals();
  using limit = new TimeLimit(options.timeout);
  try {
    const exit = await runToEnd(command, options, { ...ports, terminal, signals, limit });
    if (exit.reason === "oom" || exit.reason === "lost") complain(exit.message ?? exit.reason);
    if (limit.isOver && exit.reason === "signaled") return TIMED_OUT;
    // A signal that came as the command began has killed it: then it counts, not the kill.
    const { givenUpBy } = signals;
    if (givenUpBy !== undefined && exit.reason === "signaled") return codeOfSignal(givenUpBy);
    return codeOfExit(exit);
  } catch (error) {
    if (signals.givenUpBy !== undefined) return codeOfSignal(signals.givenUpBy);
    if (limit.isOver) return TIMED_OUT;
    throw error;
  }
}

/** What a run works with. */
interface RunPorts extends Pick<RunVmmPorts, "open"> {
  readonly terminal: OwnTerminal | undefined;
  readonly signals: ForwardedSignals;
  readonly limit: TimeLimit;
}

async function runToEnd(
  command: readonly string[],
  options: VmmCommandOptions,
  { open, terminal, signals, limit }: RunPorts,
): Promise<Exit> {
  const { config, set = [], cpus, memory, net = "none", hostname } = options;
  const signal = AbortSignal.any([signals.startSignal, limit.signal]);
  using patience = new Patience();
  await using sandboxer = await open({
    onWarning: (message, fields) => complain(warningText(message, fields)),
    ...(config === undefined ? {} : { config }),
    set,
  });
  await using sandbox = await sandboxer.createSandbox({
    network: { kind: net },
    ...(cpus === undefined ? {} : { cpus }),
    ...(memory === undefined ? {} : { memoryBytes: memory }),
    ...(hostname === undefined ? {} : { hostname }),
    sharedTree: (options.volume ?? []).some((volume) => volume.readonly !== true),
    signal,
  });
  await using container = await sandbox.run({
    ...runOptions(command, options, terminal),
    signal,
  });
  patience.over();
  using raw = terminal && new RawTerminal(terminal, (size) => container.resize(size));
  signals.forwardTo(container);
  const exit = await container.exit;
  raw?.restore();
  return exit;
}

function runOptions(
  command: readonly string[],
  options: VmmCommandOptions,
  terminal: OwnTerminal | undefined,
): VmmRunOptions {
  const { rootfs, image, env = {}, workdir, user, volume = [], memory, readOnly = false } = options;
  return {
    // The marker that ends our own options is not the command's.
    command: command[0] === "--" ? command.slice(1) : command,
    ...(rootfs === undefined ? {} : { rootfs }),
    ...(image === undefined ? {} : { image }),
    env,
    mounts: volume,
    readonlyRootfs: readOnly,
    ...(workdir === undefined ? {} : { workdir }),
    ...(user === undefined ? {} : { user }),
    ...(memory === undefined ? {} : { memoryBytes: memory }),
    stdin: "inherit",
    stdout: "inherit",
    ...(terminal === undefined ? { stderr: "inherit" } : { terminal: terminal.size() }),
  };
}

/** A warning with its reason, as one line. */
function warningText(message: string, fields: Readonly<Record<string, unknown>> = {}): string {
  const { error } = fields;
  if (error === undefined) return `warning: ${message}`;
  return `warning: ${message}: ${error instanceof Error ? error.message : String(error)}`;
}

/** Fires after so long, where a limit was given. */
class TimeLimit implements Disposable {
  readonly #abort = new AbortController();
  readonly #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(ms: number | undefined) {
    if (ms !== undefined) this.#timer = setTimeout(() => this.#abort.abort(), ms);
  }

  /** Aborted when the time is over. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Whether it is. */
  get isOver(): boolean {
    return this.#abort.signal.aborted;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

/** Says on a terminal why nothing happens yet, and takes it back when something does. */
class Patience implements Disposable {
  readonly #timer: ReturnType<typeof setTimeout> | undefined;
  #isShown = false;

  constructor() {
    if (!Deno.stderr.isTerminal()) return;
    this.#timer = setTimeout(() => {
      this.#isShown = true;
      printError("starting the machine; the first of a size is saved, which takes a moment ...");
    }, PATIENCE_MS);
  }

  /** Something happens now. */
  over(): void {
    clearTimeout(this.#timer);
    if (this.#isShown) printError("\r\x1b[K");
    this.#isShown = false;
  }

  [Symbol.dispose](): void {
    this.over();
  }
}
