/**
 * What `quasaur run vmm` and `quasaur run gvisor` have in common: the options of a command that runs
 * in a Linux container, and running it on this command's own standard streams or on its terminal, to
 * its end.
 *
 * @module
 */

import type { Command } from "commander";
import {
  type DirectoryMount,
  type Exit,
  type LinuxContainer,
  type LinuxRunOptions,
  SandboxError,
} from "../mod.ts";
import { DEFAULT_HOST_LAUNCHER_PATH } from "../sandboxers/host/launcher_file.ts";
import { codeOfExit, codeOfSignal, TIMED_OUT } from "./exit_codes.ts";
import { ForwardedSignals } from "./forwarded_signals.ts";
import { type OwnTerminal, RawTerminal } from "./raw_terminal.ts";
import {
  parseCpus,
  parseDuration,
  parseEnvironment,
  parseMemory,
  parseUser,
  parseVolume,
  parseWorkdir,
} from "./run_values.ts";
import { complain, printError } from "./terminal.ts";
import { UsageError } from "./usage_error.ts";

/** What the help of both says of the end. */
export const LINUX_EXIT_CODES = `Its exit code is this command's; 128 + n after
signal n, 124 after --timeout, 127 for missing files, 126 for what cannot be run, 125 for any other
failure, 2 for a bad command line. Without -t, Ctrl-C goes to the command; pressed again it kills it.`;

/** The options as commander gathers them. */
export interface LinuxCommandOptions {
  /** The configuration file. */
  readonly config?: string;
  /** CPUs. */
  readonly cpus?: number;
  /** The environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** The hostname inside. */
  readonly hostname?: string;
  /** Memory in bytes. */
  readonly memory?: number;
  /** Whether the root file system cannot be written to. */
  readonly readOnly?: boolean;
  /** A directory as its root file system. */
  readonly rootfs?: string;
  /** Settings. */
  readonly set?: readonly string[];
  /** When it is killed, in milliseconds. */
  readonly timeout?: number;
  /** Whether it has a terminal. */
  readonly tty?: boolean;
  /** Who it runs as. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** What it sees of the host. */
  readonly volume?: readonly DirectoryMount[];
  /** Working directory inside. */
  readonly workdir?: string;
}

/** A command that is to run. */
export interface LinuxRunRequest {
  /** The command and its arguments. */
  readonly command: readonly string[];
  /** How it runs. */
  readonly options: LinuxCommandOptions;
  /** The terminal of this process; undefined where it has none. */
  readonly terminal: () => OwnTerminal | undefined;
  /** What is said on a terminal while nothing happens yet. */
  readonly patience: string;
  /**
   * Starts it.
   *
   * @param undo Takes what has to be released after it.
   * @param run How the container runs, but for its files.
   * @param signal Aborted when it is given up.
   */
  start(
    undo: AsyncDisposableStack,
    run: LinuxRunOptions,
    signal: AbortSignal,
  ): Promise<LinuxContainer>;
}

/** How long a start may take before it is said that it takes long, in milliseconds. */
const PATIENCE_MS = 1_000;

/**
 * Adds the options to a command.
 *
 * @param command The command; those of its own come first in its help.
 * @param kind Whose configuration it is, for `quasaur config KIND`.
 */
export function addLinuxOptions(command: Command, kind: string): Command {
  const append = (text: string, before: readonly string[] = []) => [...before, text];
  return command
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
    .option("--config <FILE>", `configuration, see: quasaur config ${kind} --help`)
    .option("--set <KEY=VALUE>", "a setting that goes before the file's; may be repeated", append);
}

/** Reads `--cpus` and `--memory`, which each kind says in its own words. */
export const RESOURCE_PARSERS = { cpus: parseCpus, memory: parseMemory } as const;

/**
 * Refuses to go on without the rights that the kind takes: nobody should be asked for one right after
 * the other.
 *
 * @param what What cannot be done, such as `cannot run machines`.
 * @param kind The kind: names the task and the permission set.
 * @throws {SandboxError} `PermissionDenied`.
 */
export async function checkRights(what: string, kind: "vmm" | "gvisor"): Promise<void> {
  const { state } = await Deno.permissions.query({
    name: "run",
    command: DEFAULT_HOST_LAUNCHER_PATH,
  });
  if (state === "granted") return;
  throw new SandboxError(
    "PermissionDenied",
    `${what} with the rights of this program: run \`deno task quasaur:${kind}\` in the place ` +
      `of \`deno task quasaur\`, or deno with -P=cli-${kind}`,
  );
}

/**
 * What goes wrong and is survived, as one line.
 *
 * @param message What went wrong.
 * @param fields Facts; `error` is the reason.
 */
export function warn(message: string, fields: Readonly<Record<string, unknown>> = {}): void {
  const { error } = fields;
  const reason = error === undefined ? "" : `: ${error instanceof Error ? error.message : error}`;
  complain(`warning: ${message}${reason}`);
}

/**
 * Runs a command to its end.
 *
 * @param request See {@link LinuxRunRequest}.
 * @returns The exit code.
 */
export async function runLinux(request: LinuxRunRequest): Promise<number> {
  const { options } = request;
  const terminal = options.tty === true ? request.terminal() : undefined;
  if (options.tty === true && terminal === undefined) {
    throw new UsageError("Cannot use -t: standard input and output are no terminal: leave it out");
  }
  using signals = new ForwardedSignals();
  using limit = new TimeLimit(options.timeout);
  try {
    const exit = await runToEnd(request, { terminal, signals, limit });
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
interface RunPorts {
  readonly terminal: OwnTerminal | undefined;
  readonly signals: ForwardedSignals;
  readonly limit: TimeLimit;
}

async function runToEnd(
  { command, options, patience, start }: LinuxRunRequest,
  { terminal, signals, limit }: RunPorts,
): Promise<Exit> {
  const signal = AbortSignal.any([signals.startSignal, limit.signal]);
  using waiting = new Patience(patience);
  await using undo = new AsyncDisposableStack();
  const container = await start(
    undo,
    { ...runOptions(command, options, terminal), signal },
    signal,
  );
  waiting.over();
  using raw = terminal && new RawTerminal(terminal, (size) => container.resize(size));
  signals.forwardTo(container);
  const exit = await container.exit;
  raw?.restore();
  return exit;
}

function runOptions(
  command: readonly string[],
  options: LinuxCommandOptions,
  terminal: OwnTerminal | undefined,
): LinuxRunOptions {
  const { env = {}, workdir, user, volume = [], memory, readOnly = false } = options;
  return {
    // The marker that ends our own options is not the command's.
    command: command[0] === "--" ? command.slice(1) : command,
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

  constructor(text: string) {
    if (!Deno.stderr.isTerminal()) return;
    this.#timer = setTimeout(() => {
      this.#isShown = true;
      printError(text);
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
