/**
 * The command line of a sandboxer, the same for every kind: where it listens, where it keeps its
 * state, where events go and what it logs. A kind may add flags of its own.
 *
 * @module
 */

import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import config from "../deno.json" with { type: "json" };
import { SandboxError } from "./lifecycle/errors.ts";
import { LOG_LEVELS, type LogFormat, type LogLevel } from "./log.ts";
import { type MetricsAddress, parseMetricsAddress } from "./telemetry/address.ts";

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
  /** How long a created sandbox may wait for its start, in seconds; 0 for ever. */
  readonly unstartedSecondsMax: number;
  /** How long calls that are under way may take to end when the process is told to, in seconds. */
  readonly drainSeconds: number;
  /** How long callers are kept waiting for the next process, in seconds; 0 to refuse them. */
  readonly holdSeconds: number;
  /** Below it nothing is logged. */
  readonly logLevel: LogLevel;
  /** How records are written. */
  readonly logFormat: LogFormat;
  /** Where metrics are read; undefined where they are off. */
  readonly metrics: MetricsAddress | undefined;
  /** Most pods with metrics of their own. */
  readonly metricsPodsMax: number;
}

/** A flag that only one kind has. It takes a value. */
export interface KindFlag<T> {
  /** What stands for the value in the help, such as `PATH`. */
  readonly placeholder: string;
  /** What it is for, with its default; a line of the help each. */
  readonly help: readonly string[];
  /**
   * Reads the value.
   *
   * @param flag The flag's name, for messages.
   * @param text What the command line says; undefined where it says nothing.
   * @throws {SandboxError} `InvalidArgument`, naming the flag.
   */
  readonly read: (flag: string, text: string | undefined) => T;
  /** The level of the log that its value stands for, where `--log-level` is not given. */
  logLevel?(value: T): LogLevel;
  /** A letter that stands for the flag, after one dash. */
  readonly short?: string;
}

/** Flags that only one kind has, by name without dashes. */
export type KindFlags = Readonly<Record<string, KindFlag<unknown>>>;

/** The values of {@link KindFlags}. */
export type KindValues<F extends KindFlags> = { readonly [K in keyof F]: ReturnType<F[K]["read"]> };

/** For a kind without flags of its own. */
export const NO_KIND_FLAGS: Readonly<Record<never, never>> = {};

/** What to do after reading the command line: run, or print something and be done. */
export type FlagsOutcome<F extends KindFlags = typeof NO_KIND_FLAGS> =
  | { readonly kind: "run"; readonly flags: Flags; readonly own: KindValues<F> }
  | { readonly kind: "print"; readonly text: string };

const OPTIONS = {
  "listen": { type: "string", short: "l" },
  "task-listen": { type: "string" },
  "dir": { type: "string", short: "d" },
  "containerd-events": { type: "string" },
  "unstarted-max": { type: "string" },
  "drain": { type: "string" },
  "hold": { type: "string" },
  "log-level": { type: "string" },
  "log-format": { type: "string" },
  "metrics": { type: "string" },
  "metrics-pods": { type: "string" },
  "help": { type: "boolean", short: "h" },
  "version": { type: "boolean", short: "v" },
} as const;

/** The longest path of a unix socket, in bytes, without its final NUL (unix(7)). */
const SOCKET_PATH_BYTES_MAX = 107;

/**
 * Reads the command line of a kind without flags of its own.
 *
 * @param kind `wasm`, `vmm` or `quark`: decides the defaults and the name in the help.
 * @param args The arguments without the program.
 * @throws SandboxError `InvalidArgument`, naming the flag.
 */
export function parseFlags(kind: string, args: readonly string[]): FlagsOutcome;
/**
 * Reads the command line of a kind with flags of its own.
 *
 * @param ownFlags Those flags.
 */
export function parseFlags<F extends KindFlags>(
  kind: string,
  args: readonly string[],
  ownFlags: F,
): FlagsOutcome<F>;
/** See above. */
export function parseFlags(
  kind: string,
  args: readonly string[],
  ownFlags: KindFlags = NO_KIND_FLAGS,
): FlagsOutcome<KindFlags> {
  const values = parse(args, ownFlags);
  if (values.has("help")) return { kind: "print", text: help(kind, ownFlags) };
  if (values.has("version")) return { kind: "print", text: `quasaur-${kind} ${config.version}` };
  const root = `/run/quasaur/${kind}`;
  let logLevel: LogLevel = "info";
  const own = Object.entries(ownFlags).map(([name, flag]) => {
    const value = flag.read(`--${name}`, values.get(name));
    logLevel = flag.logLevel?.(value) ?? logLevel;
    return [name, value];
  });
  const flags: Flags = {
    listen: socketPath("--listen", values.get("listen") ?? `${root}.sock`),
    taskListen: socketPath("--task-listen", values.get("task-listen") ?? `${root}-task.sock`),
    dir: absolutePath("--dir", values.get("dir") ?? root),
    containerdEvents: eventsPath(values.get("containerd-events")),
    unstartedSecondsMax: seconds("--unstarted-max", values.get("unstarted-max") ?? "600"),
    drainSeconds: seconds("--drain", values.get("drain") ?? "10"),
    holdSeconds: seconds("--hold", values.get("hold") ?? "30"),
    logLevel: oneOf("--log-level", values.get("log-level") ?? logLevel, LOG_LEVELS),
    logFormat: oneOf("--log-format", values.get("log-format") ?? "text", ["text", "json"]),
    metrics: metricsAddress(values.get("metrics"), values.get("listen") ?? `${root}.sock`),
    metricsPodsMax: podsMax("--metrics-pods", values.get("metrics-pods") ?? "0"),
  };
  if (flags.listen === flags.taskListen) {
    throw bad("--task-listen", flags.taskListen, "a socket of its own, not that of --listen");
  }
  return { kind: "run", flags, own: Object.fromEntries(own) };
}

/**
 * Reads the command line of this process and does what needs no sandboxer: `--help` and
 * `--version` print and exit with 0, a bad flag is told on standard error and exits with 2.
 *
 * @param kind See {@link parseFlags}.
 * @param ownFlags See {@link parseFlags}.
 */
export function flagsOrExit<F extends KindFlags>(
  kind: string,
  ownFlags: F,
): { readonly flags: Flags; readonly own: KindValues<F> } {
  try {
    const outcome = parseFlags(kind, Deno.args, ownFlags);
    if (outcome.kind === "run") return outcome;
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

/** The raw values by flag; empty for one that takes none. */
function parse(args: readonly string[], ownFlags: KindFlags): ReadonlyMap<string, string> {
  const own = Object.fromEntries(
    Object.entries(ownFlags).map(([name, { short }]) => [
      name,
      { type: "string" as const, ...(short === undefined ? {} : { short }) },
    ]),
  );
  const options: ParseArgsOptionsConfig = { ...own, ...OPTIONS };
  try {
    const { values } = parseArgs({ args: [...args], options, allowPositionals: false });
    return new Map(
      Object.entries(values).map(([name, value]) => [name, typeof value === "string" ? value : ""]),
    );
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

/**
 * Reads an absolute path.
 *
 * @param flag The flag's name, for messages.
 * @throws {SandboxError} `InvalidArgument`, naming the flag.
 */
export function absolutePath(flag: string, value: string): string {
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

/** Beside the Sandbox API's socket, unless said otherwise; nowhere where that path is too long. */
function metricsAddress(value: string | undefined, listen: string): MetricsAddress | undefined {
  if (value !== undefined) return parseMetricsAddress("--metrics", value);
  const path = `${listen.replace(/\.sock$/, "")}-metrics.sock`;
  const bytes = new TextEncoder().encode(path).length;
  return bytes > SOCKET_PATH_BYTES_MAX ? undefined : { kind: "unix", path };
}

/** Most pods that can have metrics of their own. */
const METRICS_PODS_MAX = 1_000;

function podsMax(flag: string, value: string): number {
  if (/^\d{1,4}$/.test(value) && Number(value) <= METRICS_PODS_MAX) return Number(value);
  throw bad(flag, value, `a whole number from 0 to ${METRICS_PODS_MAX}`);
}

/** The longest time in seconds that a flag takes: a day. */
const SECONDS_MAX = 86_400;

function seconds(flag: string, value: string): number {
  if (/^\d{1,6}$/.test(value) && Number(value) <= SECONDS_MAX) return Number(value);
  throw bad(flag, value, `a whole number of seconds from 0 to ${SECONDS_MAX}`);
}

/**
 * Reads one of several words.
 *
 * @param flag The flag's name, for messages.
 * @throws {SandboxError} `InvalidArgument`, naming the flag.
 */
export function oneOf<T extends string>(flag: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) throw bad(flag, value, `one of ${allowed.join(", ")}`);
  return found;
}

/** Where the texts of the help begin. */
const HELP_COLUMN = 29;

function ownHelp(ownFlags: KindFlags): string {
  return Object.entries(ownFlags).flatMap(([name, { placeholder, short, help: lines }]) => {
    const head = `  ${short === undefined ? "" : `-${short}, `}--${name} ${placeholder}`;
    return lines.map((line, i) => `${(i === 0 ? head : "").padEnd(HELP_COLUMN - 1)} ${line}\n`);
  }).join("");
}

function help(kind: string, ownFlags: KindFlags): string {
  return `quasaur-${kind}: runs the ${kind} sandboxes of this node for containerd

Usage: quasaur-${kind} [flags]

  -l, --listen PATH          Sandbox API socket for containerd (default /run/quasaur/${kind}.sock)
  --task-listen PATH         Task API socket (default /run/quasaur/${kind}-task.sock)
  -d, --dir PATH             state directory (default /run/quasaur/${kind})
  --containerd-events PATH   containerd's ttrpc socket, for task events; "none" switches them off
                             (default /run/containerd/containerd.sock.ttrpc)
  --unstarted-max SECONDS    delete sandboxes that nobody started for this long after they were
                             created, and empty ones that nobody asked for since they were taken
                             over; 0 keeps them (default 600)
  --drain SECONDS            how long calls under way may take to end after SIGTERM before they are
                             undone (default 10); a second SIGTERM does not wait
  --hold SECONDS             how long callers are kept waiting for the next process where this one
                             leaves or dies with sandboxes; 0 refuses them at once (default 30)
${ownHelp(ownFlags)}  --log-level LEVEL          ${LOG_LEVELS.join(", ")} (default info)
  --log-format FORMAT        text or json, one line for each record (default text)
  --metrics ADDRESS          where Prometheus' text is read: unix:PATH, 127.0.0.1:PORT, [::1]:PORT
                             or none (default unix:/run/quasaur/${kind}-metrics.sock)
  --metrics-pods N           metrics of their own for so many pods at most (default 0)
  -v, --version              print the version
  -h, --help                 print this

Prints "ready" when both sockets accept calls. SIGTERM and SIGINT end it gracefully; what runs in
its sandboxes is left to the next process where the kind can hand it over.`;
}
