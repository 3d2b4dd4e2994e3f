/**
 * The standard streams of a guest as blocking descriptors that it reads and writes itself: no copy
 * in between, no thread that waits. Opening never waits for the other side of a FIFO.
 *
 * A FIFO is opened as containerd's runc shim does it. Outputs are held open for reading too: a
 * client that goes away and comes back (a restart of containerd) finds the guest alive and its
 * output in the pipe, instead of a guest that died of EPIPE. Stdin is held open for writing until
 * `closeStdin`: a client that detaches is not the end of the input.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { StdioSpec, StreamSpec } from "../lifecycle/spec.ts";
import { ERRNO } from "./native/errno.ts";
import { AT_FDCWD, OPEN } from "./native/syscalls.ts";
import type { System } from "./native/system.ts";

type StreamName = "stdin" | "stdout" | "stderr";

/** Opened standard streams. Disposing of them closes what was opened here. */
export interface GuestStdio extends Disposable {
  /** Descriptor of standard input. */
  readonly stdin: number;
  /** Descriptor of standard output. */
  readonly stdout: number;
  /** Descriptor of standard error. */
  readonly stderr: number;
  /** Gives up the hold on stdin: the guest reads its end once all other writers are gone too. */
  closeStdin(): void;
  /**
   * Waits until what was written to FIFOs has been read. The client may still be opening its end when
   * the guest has ended already; a client that hears of the end before it has done so (containerd)
   * closes it, and throws away what nobody has read.
   *
   * @param limits How long to wait at most.
   */
  drained(limits: DrainLimits): Promise<void>;
}

/** How long {@link GuestStdio.drained} waits. */
export interface DrainLimits {
  /** For a FIFO that nobody had opened for reading when the guest was made, in milliseconds. */
  readonly unopenedMs: number;
  /** For one that somebody had opened, or was opening, in milliseconds. */
  readonly openedMs: number;
}

/** Pause between two looks of {@link GuestStdio.drained}, doubled each time up to the second number. */
const DRAIN_INTERVAL_MS = 1;
const DRAIN_INTERVAL_MAX_MS = 32;

/**
 * Opens the standard streams of a guest.
 *
 * @param system Opens and closes descriptors.
 * @param spec Where the streams go.
 * @throws {SandboxError} `NotFound` for a path that is not there; `InvalidArgument` for what cannot
 *   be a stream. Nothing stays open then.
 */
export function openStdio(system: System, spec: StdioSpec): GuestStdio {
  using opened = new DisposableStack();
  const nullDevice = openOnce(system, opened);
  const stdin = openInput(system, spec.stdin, opened, nullDevice);
  const outputs: Outputs = { opened, fifos: { unopened: [], opened: [] }, nullDevice };
  const stdout = openOutput(system, "stdout", spec.stdout, outputs);
  const stderr = openOutput(system, "stderr", spec.stderr, outputs);
  const release = opened.move();
  return {
    stdin: stdin.fd,
    stdout,
    stderr,
    closeStdin: stdin.close,
    drained: async ({ unopenedMs, openedMs }) => {
      const { unopened, opened: others } = outputs.fifos;
      await Promise.all([drain(system, unopened, unopenedMs), drain(system, others, openedMs)]);
    },
    [Symbol.dispose]: () => release.dispose(),
  };
}

async function drain(
  system: System,
  fifos: readonly number[],
  timeoutMs: number,
): Promise<void> {
  const end = performance.now() + timeoutMs;
  let pauseMs = DRAIN_INTERVAL_MS;
  while (fifos.some((fd) => system.hasInput(fd)) && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    pauseMs = Math.min(pauseMs * 2, DRAIN_INTERVAL_MAX_MS);
  }
}

function openInput(
  system: System,
  spec: StreamSpec,
  opened: DisposableStack,
  nullDevice: () => number,
): { readonly fd: number; readonly close: () => void } {
  if (spec.kind !== "path") {
    return { fd: openOther(system, "stdin", spec, nullDevice), close: () => undefined };
  }
  const fd = openPath(system, "stdin", spec.path, OPEN.readOnly, opened);
  if (system.status(fd).kind !== "fifo") return { fd, close: () => undefined };
  // There is a reader now, so this does not wait either.
  const writer = opened.use(new DisposableStack());
  openPath(system, "stdin", spec.path, OPEN.writeOnly, writer);
  return { fd, close: () => writer.dispose() };
}

/** What {@link openOutput} works with. */
interface Outputs {
  /** Owns what is opened. */
  readonly opened: DisposableStack;
  /** Takes FIFOs, by whether somebody had opened them for reading. */
  readonly fifos: { readonly unopened: number[]; readonly opened: number[] };
  /** See {@link openOnce}. */
  readonly nullDevice: () => number;
}

/** Opens an output; a FIFO goes into `fifos`. */
function openOutput(
  system: System,
  name: StreamName,
  spec: StreamSpec,
  { opened, fifos, nullDevice }: Outputs,
): number {
  if (spec.kind !== "path") return openOther(system, name, spec, nullDevice);
  // Only this way of opening tells: it fails where a FIFO has no reader. It is closed after the
  // other is open, so that a reader never sees the last writer go.
  const flags = OPEN.writeOnly | OPEN.nonblocking | OPEN.noTerminal;
  const probe = system.openAt(AT_FDCWD, spec.path, flags, 0);
  try {
    const fd = openPath(system, name, spec.path, OPEN.readWrite | OPEN.append, opened);
    if (probe === -ERRNO.ENXIO) fifos.unopened.push(fd);
    else if (system.status(fd).kind === "fifo") fifos.opened.push(fd);
    return fd;
  } finally {
    if (probe >= 0) system.close(probe);
  }
}

/** Opens without waiting, then makes the descriptor blocking: guests lose data on others. */
function openPath(
  system: System,
  name: StreamName,
  path: string,
  flags: number,
  opened: DisposableStack,
): number {
  const fd = system.open(path, flags | OPEN.nonblocking | OPEN.noTerminal, name);
  opened.adopt(fd, (open) => system.close(open));
  const { kind } = system.status(fd);
  if (kind === "directory") {
    throw new SandboxError("InvalidArgument", `cannot open ${name} "${path}": it is a directory`);
  }
  system.setNonblocking(fd, false);
  return fd;
}

/** Opens the null device when it is asked for, once for all streams of a guest. */
function openOnce(system: System, opened: DisposableStack): () => number {
  let fd: number | undefined;
  return () => {
    if (fd !== undefined) return fd;
    fd = system.open("/dev/null", OPEN.readWrite, "the null device");
    opened.adopt(fd, (open) => system.close(open));
    return fd;
  };
}

/** The null device, or a descriptor of the caller, which stays the caller's. */
function openOther(
  system: System,
  name: StreamName,
  spec: Exclude<StreamSpec, { kind: "path" }>,
  nullDevice: () => number,
): number {
  if (spec.kind === "null") return nullDevice();
  if (spec.kind !== "fd") {
    throw new SandboxError(
      "InvalidArgument",
      `cannot use a stream object for ${name}: guests need a path or a descriptor`,
    );
  }
  if (!system.isOpen(spec.fd)) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot use descriptor ${spec.fd} for ${name}: it is not open`,
    );
  }
  if (system.isNonblocking(spec.fd)) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot use descriptor ${spec.fd} for ${name}: it is non-blocking, and guests lose data ` +
        "on such: clear O_NONBLOCK",
    );
  }
  return spec.fd;
}
