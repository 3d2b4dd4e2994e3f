/**
 * The command line of a sandboxer, the same for every kind: where it listens, where it keeps its
 * state, where events go and what it logs.
 *
 * @module
 */

import { parseArgs } from "node:util";
import config from "../deno.json" with { type: "json" };
import { SandboxError } from "./lifecycle/errors.ts";
import { LOG_LEVELS, type LogFormat, type LogLevel } from "./log.ts";

/** What the command line said. */
export interface Flags {
  /** The Sandbox API's socket, an absolute path. */
  readonly listen: string;
  /** The Task API's socket, an absolute path. */
  readonly taskListen: string;
  /** Where state is kept, an absolute path. */
  readonly dir: string;
  /** containerd's ttrpc socket for events, an absolute path; undefined where events are off. */
  readonly containerdEvents: string | undefined;
  /** Below it nothing is logged. */
  readonly logLevel: LogLevel;
  /** How records are written. */
  readonly logFormat: LogFormat;
}

/** What to do after reading the command line: run, or print something and be done. */
export type FlagsOutcome =
  | { readonly kind: "run"; readonly flags: Flags }
  | { readonly kind: "print"; readonly text: string };

const OPTIONS = {
  "listen": { type: "string" },
  "task-listen": { type: "string" },
  "dir": { type: "string" },
  "containerd-events": { type: "string" },
  "log-level": { type: "string" },
  "log-format": { type: "string" },
  "help": { type: "boolean", short: "h" },
  "version": { type: "boolean" },
} as const;

/** The longest path of a unix socket, in bytes, without its final NUL (unix(7)). */
const SOCKET_PATH_BYTES_MAX = 107;

/**
 * Reads the command line.
 *
 * @param kind `wasm`, `vmm` or `quark`: decides the defaults and the name in the help.
 * @param args The arguments without the program.
 * @throws SandboxError `InvalidArgument`, naming the flag.
 */
export function parseFlags(kind: string, args: readonly string[]): FlagsOutcome {
  const values = parse(args);
  if (values.help === true) return { kind: "print", text: help(kind) };
  if (values.version === true) return { kind: "print", text: `quasaur-${kind} ${config.version}` };
  const root = `/run/quasaur/${kind}`;
  const flags: Flags = {
    listen: socketPath("--listen", values.listen ?? `${root}.sock`),
    taskListen: socketPath("--task-listen", values["task-listen"] ?? `${root}-task.sock`),
    dir: absolutePath("--dir", values.dir ?? root),
    containerdEvents: eventsPath(values["containerd-events"]),
    logLevel: oneOf("--log-level", values["log-level"] ?? "info", LOG_LEVELS),
    logFormat: oneOf("--log-format", values["log-format"] ?? "text", ["text", "json"]),
  };
  if (flags.listen === flags.taskListen) {
    throw bad("--task-listen", flags.taskListen, "a socket of its own, not that of --listen");
  }
  return { kind: "run", flags };
}

/**
 * Reads the command line of this process and does what needs no sandboxer: `--help` and
 * `--version` print and exit with 0, a bad flag is told on standard error and exits with 2.
 *
 * @param kind See {@link parseFlags}.
 */
export function flagsOrExit(kind: string): Flags {
  try {
    const outcome = parseFlags(kind, Deno.args);
    if (outcome.kind === "run") return outcome.flags;
    print(Deno.stdout, outcome.text);
  } catch (error) {
    print(Deno.stderr, `quasaur-${kind}: ${SandboxError.from(error).message}`);
    Deno.exit(2);
  }
  Deno.exit(0);
}

function print(to: { writeSync(bytes: Uint8Array): number }, text: string): void {
  to.writeSync(new TextEncoder().encode(`${text}\n`));
}

/** The raw values by flag. */
function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: false }).values;
  } catch (error) {
    // Node's messages name the flag; only their first sentence is about what was found.
    const found = (error instanceof Error ? error.message : String(error)).split(". ")[0] ?? "";
    throw new SandboxError(
      "InvalidArgument",
      `cannot read the command line: ${lowerFirst(found)}: see --help`,
      { cause: error },
    );
  }
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

function bad(flag: string, value: string, expected: string): SandboxError {
  return new SandboxError(
    "InvalidArgument",
    `invalid ${flag} ${JSON.stringify(value)}: expected ${expected}`,
  );
}

function absolutePath(flag: string, value: string): string {
  const parts = value.split("/");
  if (!value.startsWith("/") || value.includes("\0") || parts.includes("..")) {
    throw bad(flag, value, `an absolute path without ".."`);
  }
  return value.length > 1 ? value.replace(/\/+$/, "") : value;
}

function socketPath(flag: string, value: string): string {
  const path = absolutePath(flag, value);
  if (path === "/" || value.endsWith("/")) throw bad(flag, value, "the path of a socket");
  if (new TextEncoder().encode(path).length > SOCKET_PATH_BYTES_MAX) {
    throw bad(flag, value, `at most ${SOCKET_PATH_BYTES_MAX} bytes, the limit of unix sockets`);
  }
  return path;
}

function eventsPath(value = "/run/containerd/containerd.sock.ttrpc"): string | undefined {
  return value === "none" ? undefined : socketPath("--containerd-events", value);
}

function oneOf<T extends string>(flag: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) throw bad(flag, value, `one of ${allowed.join(", ")}`);
  return found;
}

function help(kind: string): string {
  return `quasaur-${kind}: runs the ${kind} sandboxes of this node for containerd

Usage: quasaur-${kind} [flags]

  --listen PATH              Sandbox API socket for containerd (default /run/quasaur/${kind}.sock)
  --task-listen PATH         Task API socket (default /run/quasaur/${kind}-task.sock)
  --dir PATH                 state directory (default /run/quasaur/${kind})
  --containerd-events PATH   containerd's ttrpc socket, for task events; "none" switches them off
                             (default /run/containerd/containerd.sock.ttrpc)
  --log-level LEVEL          ${LOG_LEVELS.join(", ")} (default info)
  --log-format FORMAT        text or json, one line for each record (default text)
  --version                  print the version
  -h, --help                 print this

Prints "ready" when both sockets accept calls. SIGTERM and SIGINT end it gracefully; what runs in
its sandboxes is left to the next process where the kind can hand it over.`;
}
