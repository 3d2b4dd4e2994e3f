/**
 * What `quasaur run vmm`, `quasaur run gvisor` and `quasaur run quark` have in common: running a
 * command in a Linux container on this command's own standard streams or on its terminal, to its end,
 * in this process or through a sandboxer.
 *
 * @module
 */

import type { Command } from "commander";
import {
  type ImageOptions,
  type LinuxContainer,
  type LinuxRunOptions,
  SandboxError,
} from "../mod.ts";
import { userDirectory } from "../sandboxers/embedded/workplace.ts";
import { DEFAULT_HOST_LAUNCHER_PATH } from "../sandboxers/host/launcher_file.ts";
import { type OwnTerminal, RawTerminal } from "./raw_terminal.ts";
import { entrypointOf, environmentOf, type RunCommandOptions } from "./run_options.ts";
import { findSubject, imageOptions, type Subject } from "./run_subject.ts";
import {
  chooseSandboxer,
  type RunKind,
  runThrough,
  type ThroughPorts,
  type ThroughRequest,
} from "./run_through.ts";
import { type RunContext, type RunEnd, runWithin } from "./run_within.ts";
import { complain } from "./terminal.ts";
import { UsageError } from "./usage_error.ts";

/** What the help of all says of what is run, and of the end. */
export const LINUX_HELP = `
WHAT is an OCI image layout (a directory), an archive of one (.tar, .tar.gz), an image in containerd
(containerd://NAME where a file has the same name), or a directory as its root file system. What
follows goes to the image's entrypoint, or is the command in a directory. The exit code of what runs
is this command's; 128 + n after signal n, 124 after --timeout, 127 for missing files, 126 for what
cannot be run, 125 for any other failure, 2 for a bad command line. Without -t, Ctrl-C goes to the
command; pressed again it kills it.`;

/** The options as commander gathers them. */
export interface LinuxCommandOptions extends RunCommandOptions {
  /** The configuration file. */
  readonly config?: string;
  /** Settings. */
  readonly set?: readonly string[];
}

/** A command that is to run. */
export interface LinuxRunRequest {
  /** The kind. */
  readonly kind: RunKind;
  /** The command line: says where sandboxers are. */
  readonly commandLine: Command;
  /** All words after the options. */
  readonly words: readonly string[];
  /** How it runs. */
  readonly options: LinuxCommandOptions;
  /** The terminal of this process; undefined where it has none. */
  readonly terminal: () => OwnTerminal | undefined;
  /** What is said on a terminal while nothing happens yet. */
  readonly patience: string;
  /** Reaches sandboxers that run. */
  readonly through: ThroughPorts;
  /** How it is asked of these. */
  readonly asked: Pick<ThroughRequest, "network" | "annotations" | "runtime">;
  /** Starts it in this process; see {@link EmbeddedRun}. */
  readonly start: EmbeddedRun;
}

/**
 * Starts a command in this process.
 *
 * @param undo Takes what has to be released after it.
 * @param run How the container runs.
 * @param subject What it runs on.
 * @param images Where images come from.
 * @param signal Aborted when it is given up.
 */
export type EmbeddedRun = (
  undo: AsyncDisposableStack,
  run: LinuxRunOptions,
  subject: Subject,
  images: ImageOptions,
  signal: AbortSignal,
) => Promise<LinuxContainer>;

/**
 * Refuses to go on without the rights that the kind takes: nobody should be asked for one right after
 * the other.
 *
 * @param what What cannot be done, such as `cannot run machines`.
 * @param kind The kind: names the task and the permission set.
 * @throws {SandboxError} `PermissionDenied`.
 */
export async function checkRights(what: string, kind: "vmm" | "gvisor"): Promise<void> {
  if (await has({ name: "run", command: DEFAULT_HOST_LAUNCHER_PATH }) && await mayWrite(kind)) {
    return;
  }
  // Machines are for every user.
  const uid = await has({ name: "sys", kind: "uid" }) ? Deno.uid() : undefined;
  if (kind === "gvisor" && uid !== undefined && uid !== 0) {
    throw new SandboxError("PermissionDenied", `${what} as user ${uid}: run this as root`);
  }
  throw new SandboxError(
    "PermissionDenied",
    `${what} with the rights of this program: run \`deno task quasaur:${kind}\` in the place ` +
      `of \`deno task quasaur\`, or deno with -P=cli-${kind}`,
  );
}

/** Whether this program may make the directory of its sandboxes. */
async function mayWrite(kind: "vmm" | "gvisor"): Promise<boolean> {
  if (!await has({ name: "sys", kind: "uid" })) return false;
  return await has({ name: "write", path: userDirectory(Deno.uid() ?? 0, kind) });
}

async function has(right: Deno.PermissionDescriptor): Promise<boolean> {
  return (await Deno.permissions.query(right)).state === "granted";
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
  const { kind, options, words, commandLine, through, patience, asked } = request;
  const { tty = false, detach = false, config, set = [], timeout } = options;
  const terminal = tty && !detach ? request.terminal() : undefined;
  if (tty && !detach && terminal === undefined) {
    throw new UsageError("Cannot use -t: standard input and output are no terminal: leave it out");
  }
  const embeddedOnly = config !== undefined ? "--config" : set.length > 0 ? "--set" : undefined;
  const subject = await findSubject(words, options, kind);
  checkCommand(subject);
  using client = await chooseSandboxer(
    { kind, command: commandLine, options, embeddedOnly },
    through,
  );
  return await runWithin({ patience, ...(timeout && { timeout }) }, async (context) => {
    if (client === undefined) return await runEmbedded(request, subject, terminal, context);
    return await runThrough(
      client,
      { kind, subject, options, ...asked },
      terminal,
      context,
      through,
    );
  });
}

/** A file system has no command of its own. */
function checkCommand({ source, words, name }: Subject): void {
  if (source.kind === "module") {
    throw new UsageError(`"${name}" is a WebAssembly module: run it with \`quasaur run wasm\``);
  }
  if ((source.kind === "rootfs" || source.kind === "disk") && words.length === 0) {
    throw new UsageError(`missing required argument 'COMMAND': "${name}" starts nothing by itself`);
  }
}

async function runEmbedded(
  { options, start, through }: LinuxRunRequest,
  subject: Subject,
  terminal: OwnTerminal | undefined,
  { signals, signal, progress }: RunContext,
): Promise<RunEnd> {
  const images: ImageOptions = {
    ...through.images,
    ...imageOptions(options),
    onProgress: (state) => progress.image(state),
  };
  await using undo = new AsyncDisposableStack();
  const run = { ...runOptions(subject.words, options, terminal), signal };
  const container = await start(undo, run, subject, images, signal);
  progress.over();
  using raw = terminal && new RawTerminal(terminal, (size) => container.resize(size));
  signals.forwardTo(container);
  const exit = await container.exit;
  raw?.restore();
  return exit;
}

function runOptions(
  words: readonly string[],
  options: LinuxCommandOptions,
  terminal: OwnTerminal | undefined,
): LinuxRunOptions {
  const { workdir, user, volume = [], memory, readOnly = false } = options;
  return {
    ...(words.length === 0 ? {} : { command: words }),
    ...entrypointOf(options),
    env: environmentOf(options),
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
