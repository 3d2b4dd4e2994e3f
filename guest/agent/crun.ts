/**
 * The container runtime inside of the guest, crun: its command lines, where it keeps its state, and
 * its complaints in the words that people know from runc. Only what crun has to do is asked of it
 * (create and exec); the rest is a few system calls away.
 *
 * Source: crun(1) 1.28; its state directory is `/run/crun/ID`, where `exec.fifo` lets a created
 * container go.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type { AgentErrorCode, JsonObject } from "../protocol/messages.ts";
import { ENXIO, must } from "./errno.ts";
import { makeDirectory, removeTree, tryReadText, writeText } from "./files.ts";
import { objectAt, textAt } from "./json_values.ts";
import { CLOCK_REALTIME, O_NONBLOCK, O_RDONLY, O_WRONLY } from "./linux.ts";
import { run } from "./processes.ts";
import type { ProcessStdio } from "./stdio.ts";
import * as sys from "./sys.js";

/** The program. */
export const CRUN = "/usr/bin/crun";

const STATE = "/run/crun";
/** Where files for one call are. */
const CALLS = "/run/calls";
/** How long one call may take, in milliseconds; under emulation the first one is slow. */
const TIMEOUT_MS = 60_000;

/** The kernel takes no larger filter: 4096 instructions (BPF_MAXINSNS). */
const FILTER_BYTES_MAX = 4096 * 8;

/** A call that makes a process. */
export interface CrunCall {
  /** `cannot create the container "x"` or the like, for errors. */
  readonly action: string;
  /** `create` reads the whole configuration, `exec` a `process` object. */
  readonly verb: "create" | "exec";
  /** The container. */
  readonly container: string;
  /** What crun reads. */
  readonly document: JsonObject;
  /** The first word of the process's command line, for errors. */
  readonly program: string;
  /** The process's streams; the ends for the child are closed here, a terminal is attached. */
  readonly stdio: Pick<
    ProcessStdio,
    "attachTerminal" | "childFds" | "closeChildEnds" | "hasTerminal"
  >;
}

let calls = 0;

/**
 * Makes a process. When this returns it runs (exec) or waits to be let go (create), and crun has
 * ended: the process is a child of the agent.
 *
 * @param call What to do.
 * @returns Its process id.
 * @throws AgentError What crun complained about, see {@link crunFailure}.
 */
export async function callCrun(call: CrunCall): Promise<number> {
  const place = `${CALLS}/${++calls}`;
  try {
    makeDirectory(place, 0o700);
    using terminal = call.stdio.hasTerminal ? new ConsoleSocket(place) : undefined;
    const result = await run({
      argv: commandLine(call, place),
      fds: call.stdio.childFds,
      timeoutMs: TIMEOUT_MS,
    });
    const pid = Number(tryReadText(`${place}/pid`) ?? 0);
    if (result.status !== 0 || pid <= 0) {
      const complaint = result.timedOut
        ? `crun took more than ${TIMEOUT_MS} ms`
        : firstError(tryReadText(`${place}/log`) ?? "");
      const fallback = `crun ended with status ${result.status}`;
      throw crunFailure(call.action, call.program, complaint ?? fallback);
    }
    if (terminal !== undefined) call.stdio.attachTerminal(terminal.receive(call.action));
    return pid;
  } finally {
    call.stdio.closeChildEnds();
    removeTree(place);
  }
}

function commandLine(call: CrunCall, place: string): string[] {
  const document = call.verb === "create" ? `${place}/config.json` : `${place}/process.json`;
  writeText(document, JSON.stringify(call.document), 0o600);
  return [
    CRUN,
    `--root=${STATE}`,
    "--cgroup-manager=cgroupfs",
    `--log=${place}/log`,
    "--log-format=json",
    call.verb,
    `--pid-file=${place}/pid`,
    ...(call.stdio.hasTerminal ? [`--console-socket=${place}/console`] : []),
    ...(call.verb === "create" ? [`--bundle=${place}`] : ["--detach", `--process=${document}`]),
    call.container,
  ];
}

/** Where crun hands over the terminal that it made in the container. */
class ConsoleSocket {
  readonly #fd: number;

  constructor(place: string) {
    this.#fd = must("cannot wait for a terminal", sys.unixListen(`${place}/console`, 1));
  }

  /** The terminal; crun has ended, so it has been sent. */
  receive(action: string): number {
    const what = `${action}: crun sent no terminal`;
    const connection = must(what, sys.accept(this.#fd));
    try {
      return must(what, sys.receiveFd(connection));
    } finally {
      sys.close(connection);
    }
  }

  [Symbol.dispose](): void {
    sys.close(this.#fd);
  }
}

/**
 * Lets the init process of a created container go. It waits for somebody to write to its FIFO.
 *
 * @param container The container.
 * @throws AgentError `FailedPrecondition` where the process has ended.
 */
export function releaseInit(container: string): void {
  const action = `cannot start the container "${container}"`;
  const path = `${STATE}/${container}/exec.fifo`;
  const fd = sys.open(path, O_WRONLY | O_NONBLOCK);
  if (fd === -ENXIO) throw new AgentError("FailedPrecondition", `${action}: its process has ended`);
  must(action, fd);
  try {
    // Without the FIFO the container is no longer `created` for crun.
    must(action, sys.unlink(path));
    must(action, sys.write(fd, new ArrayBuffer(1), 0, 1));
  } finally {
    sys.close(fd);
  }
}

/** A container that was made without crun. */
export interface ForeignContainer {
  /** Its id. */
  readonly container: string;
  /** Its configuration, as crun would have got it. */
  readonly document: JsonObject;
  /** The path of its cgroup below the hierarchy's root. */
  readonly cgroupsPath: string;
  /** Its init process. */
  readonly pid: number;
}

/**
 * Makes a container known to crun that it did not make, so that it can run processes in it: with
 * the files that `crun create` leaves.
 *
 * @throws AgentError `FailedPrecondition` where its process has ended.
 */
export function introduce({ container, document, cgroupsPath, pid }: ForeignContainer): void {
  const place = `${STATE}/${container}`;
  const stat = tryReadText(`/proc/${pid}/stat`) ?? "";
  // Behind the name, which may have anything in it; the 22nd of all fields (proc_pid_stat(5)).
  const startTime = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  if (stat === "" || !Number.isInteger(startTime)) {
    throw new AgentError("FailedPrecondition", `the container "${container}" is not running`);
  }
  makeDirectory(place, 0o700);
  writeText(`${place}/config.json`, JSON.stringify(document), 0o600);
  const status = {
    pid,
    "process-start-time": startTime,
    "cgroup-path": cgroupsPath,
    scope: "",
    rootfs: textAt(objectAt(document, "root"), "path") ?? "",
    "systemd-cgroup": false,
    bundle: place,
    created: new Date(sys.clock(CLOCK_REALTIME)).toISOString(),
    owner: "root",
    detached: true,
    external_descriptors: '["/dev/null","/dev/null","/dev/null"]',
  };
  writeText(`${place}/status`, JSON.stringify(status), 0o600);
}

/**
 * The system call filter of a container, as crun made it for the kernel.
 *
 * @param container A container that crun has created.
 * @returns undefined where there is none.
 */
export function filterProgram(container: string): ArrayBuffer | undefined {
  const fd = sys.open(`${STATE}/${container}/seccomp.bpf`, O_RDONLY);
  if (fd < 0) return undefined;
  try {
    const stat = sys.fstat(fd);
    if (typeof stat === "number" || stat.size === 0 || stat.size > FILTER_BYTES_MAX) {
      return undefined;
    }
    const program = new ArrayBuffer(stat.size);
    return sys.pread(fd, program, 0, stat.size, 0) === stat.size ? program : undefined;
  } finally {
    sys.close(fd);
  }
}

/**
 * Makes crun forget a container whose processes have ended.
 *
 * @returns What went wrong, for the log; undefined for nothing.
 */
export function forgetContainer(container: string): string | undefined {
  return removeTree(`${STATE}/${container}`);
}

/**
 * The message of the first error in crun's log; what follows is said by those who passed it on.
 *
 * @param log JSON objects one after the other, each over several lines.
 */
export function firstError(log: string): string | undefined {
  const text = log.match(/"msg":\s*("(?:[^"\\]|\\.)*")/)?.[1];
  if (text === undefined) return undefined;
  try {
    return String(JSON.parse(text));
  } catch {
    return text;
  }
}

/** Complaints of crun, what kind of error each is, and how runc says it. */
const COMPLAINTS: readonly {
  readonly pattern: RegExp;
  readonly code: AgentErrorCode;
  readonly text: (program: string, match: RegExpMatchArray) => string;
}[] = [
  {
    pattern: /executable file `([^`]*)` not found in \$PATH/,
    code: "InvalidArgument",
    text: (program) => `exec: "${program}": executable file not found in $PATH`,
  },
  {
    pattern: /executable file `([^`]*)` not found/,
    code: "InvalidArgument",
    text: (program) => `exec: "${program}": stat ${program}: no such file or directory`,
  },
  {
    pattern: /cannot find `` in \$PATH/,
    code: "InvalidArgument",
    text: () => `exec: "": executable file not found in $PATH`,
  },
  {
    pattern:
      /exec(?:ve| container process)?(?: \(missing dynamic library\?\))? `?([^`:]*)`?: No such file/,
    code: "InvalidArgument",
    text: (program) =>
      `exec: "${program}": no such file or directory (is its interpreter or a library missing?)`,
  },
  {
    pattern:
      /exists but it is not executable|is not a regular file|open `[^`]*`: Permission denied/,
    code: "InvalidArgument",
    text: (program) => `exec: "${program}": permission denied`,
  },
  {
    pattern: /(?:exec|execve)[^:]*: Permission denied/,
    code: "InvalidArgument",
    text: (program) => `exec: "${program}": permission denied`,
  },
  {
    pattern: /Exec format error/,
    code: "InvalidArgument",
    text: (program) => `exec: "${program}": exec format error (is it for another machine?)`,
  },
  {
    pattern: /chdir(?: to)?:? `?([^`:]*)`?: (.*)/,
    code: "InvalidArgument",
    text: (_program, match) =>
      `chdir to cwd ("${match[1] ?? ""}") set in config.json failed: ${lower(match[2] ?? "")}`,
  },
  {
    pattern: /the container `[^`]*` is (not running|paused)/,
    code: "FailedPrecondition",
    text: plain,
  },
  { pattern: /container `[^`]*` (does not exist|is not running)/, code: "NotFound", text: plain },
  { pattern: /No space left|Cannot allocate memory/, code: "ResourceExhausted", text: plain },
];

/**
 * What crun complained about, as an error.
 *
 * @param action The failed action.
 * @param program The first word of the process's command line.
 * @param complaint What crun said.
 */
export function crunFailure(action: string, program: string, complaint: string): AgentError {
  for (const { pattern, code, text } of COMPLAINTS) {
    const match = complaint.match(pattern);
    if (match !== null) return new AgentError(code, `${action}: ${text(program, match)}`);
  }
  return new AgentError("Internal", `${action}: ${complaint}`);
}

function plain(_program: string, match: RegExpMatchArray): string {
  return (match.input ?? "").replace(/`/g, '"');
}

function lower(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
