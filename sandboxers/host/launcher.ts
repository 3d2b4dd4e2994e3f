/**
 * Typed calls to the host launcher, a small C program for what needs system calls that Deno has not,
 * or paths that its permissions refuse. Each call is one short process; a sandboxer needs
 * `--allow-run` for that one file and nothing else.
 *
 * @module
 */

import { abortError, SandboxError } from "../lifecycle/errors.ts";
import type { ResourceSpec } from "../lifecycle/spec.ts";
import { launcherError } from "./launcher_errors.ts";
import { DEFAULT_HOST_LAUNCHER_PATH } from "./launcher_file.ts";
import { spawnPiped } from "./resident.ts";

/** How long a call may take, in milliseconds, unless it says otherwise. */
const TIMEOUT_MS = 20_000;
/** How long a launcher that was killed may take to end, in milliseconds. */
const KILLED_MS = 2_000;
/** Most milliseconds that a timer can count. */
const TIMER_MS_MAX = 2_147_483_647;
/** Most bytes of a directory tree that {@link Launcher.treeSize} counts to. */
const TREE_BYTES_MAX = Number.MAX_SAFE_INTEGER;

/** Names a process for as long as the machine runs: its number alone is given to others later. */
export interface ProcessIdentity {
  /** Its process id. */
  readonly pid: number;
  /** When it started, in clock ticks since the machine did (proc_pid_stat(5), field 22). */
  readonly startTime: number;
}

/** What the processes in a cgroup use. */
export interface CgroupUsage {
  /** CPU time so far, in nanoseconds. */
  readonly cpuNs: number;
  /** Memory in bytes, with the page cache. */
  readonly memoryBytes: number;
  /** The part of it that could be freed at once, in bytes. */
  readonly inactiveFileBytes: number;
  /** The memory limit in bytes; missing where there is none. */
  readonly memoryLimitBytes?: number;
  /** Processes and threads. */
  readonly pids: number;
  /** How often the kernel killed something in it for want of memory; missing where it does not say. */
  readonly oomKills?: number;
}

/** What one process uses. */
export interface ProcessUsage {
  /** CPU time so far, in nanoseconds. */
  readonly cpuNs: number;
  /** Resident memory in bytes, shared pages counted whole. */
  readonly residentBytes: number;
  /** Threads. */
  readonly threads: number;
}

/** What there is to know of this host. */
export interface HostFacts {
  /** A new one each time the machine starts. */
  readonly bootId: string;
  /** Whether /dev/kvm is there and can be opened. */
  readonly kvm: boolean;
  /** Whether KVM here is the kind that runs without the processor's help (kvm_pvm): too slow to use. */
  readonly kvmPvm: boolean;
  /** Whether /dev/vhost-vsock can be opened. */
  readonly vhostVsock: boolean;
  /** The kernel's release. */
  readonly kernel: string;
  /** The page size in bytes. */
  readonly pageBytes: number;
  /** Huge pages of the default size that are free, and that size in bytes. */
  readonly freeHugePages: number;
  /** The default size of huge pages in bytes; 0 where the kernel has none. */
  readonly hugePageBytes: number;
}

/** How large a directory tree is. */
export interface TreeSize {
  /** Bytes of its regular files. */
  readonly bytes: number;
  /** Files, directories and links. */
  readonly entries: number;
  /** Whether a limit was reached before the end. */
  readonly isPartial: boolean;
}

/** How a call is made. */
export interface CallOptions {
  /** Aborted when the caller gave up; the launcher is killed then. */
  readonly signal?: AbortSignal | undefined;
  /** How long it may take, in milliseconds. */
  readonly timeoutMs?: number;
}

/** Calls the launcher. */
export class Launcher {
  /** The program, an absolute path. */
  readonly path: string;

  /**
   * Starts nothing yet.
   *
   * @param path The launcher (default: the one that was built).
   */
  constructor(path: string = DEFAULT_HOST_LAUNCHER_PATH) {
    this.path = path;
  }

  /**
   * Runs a verb of the launcher to its end.
   *
   * @param action What is being done, such as `cannot mount "/a"`, for errors.
   * @param args The verb and its arguments.
   * @param options See {@link CallOptions}.
   * @returns What it wrote to standard output.
   * @throws {SandboxError} As the launcher says; `DeadlineExceeded`, `Cancelled`;
   *   `FailedPrecondition` where the launcher was not built.
   */
  async run(action: string, args: readonly string[], options: CallOptions = {}): Promise<string> {
    const { signal, timeoutMs = TIMEOUT_MS } = options;
    if (signal?.aborted === true) throw abortError(signal, action);
    const child = spawnPiped(this.path, args, action, "null");
    const { promise: interrupted, reject } = Promise.withResolvers<never>();
    const late = new SandboxError("DeadlineExceeded", `${action}: no end after ${timeoutMs} ms`);
    const timer = setTimeout(() => reject(late), Math.min(timeoutMs, TIMER_MS_MAX));
    const onAbort = () => reject(signal === undefined ? late : abortError(signal, action));
    signal?.addEventListener("abort", onAbort, { once: true });
    const output = child.output();
    try {
      const { code, stdout, stderr } = await Promise.race([output, interrupted]);
      const decoder = new TextDecoder();
      if (code !== 0) throw launcherError(action, { code, stderr: decoder.decode(stderr) });
      return decoder.decode(stdout);
    } catch (error) {
      kill(child);
      // Whoever undoes what it did must not overtake it.
      await settled(output);
      throw SandboxError.from(error, action);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /**
   * Says which process has a number now.
   *
   * @returns Undefined where there is none, or where it has ended and nobody has taken note.
   */
  async identify(pid: number): Promise<ProcessIdentity | undefined> {
    const text = await this.run(`cannot look up process ${pid}`, ["identity", `${pid}`]);
    const startTime = Number(text.trim());
    return text.trim() === "" || startTime === 0 ? undefined : { pid, startTime };
  }

  /** Whether a process still runs. */
  async alive(process: ProcessIdentity): Promise<boolean> {
    const action = `cannot look up process ${process.pid}`;
    return (await this.run(action, ["alive", ...words(process)])).trim() === "yes";
  }

  /**
   * Sends a signal. Never to another process that has got the number since.
   *
   * @param process Whom to.
   * @param signal signal(7); 0 only looks.
   * @returns False where the process has ended.
   */
  async signal(process: ProcessIdentity, signal: number): Promise<boolean> {
    const action = `cannot send signal ${signal} to process ${process.pid}`;
    return (await this.run(action, ["signal", ...words(process), `${signal}`])).trim() === "sent";
  }

  /**
   * Kills a process and waits until it is gone.
   *
   * @param process Which one.
   * @param timeoutMs How long to wait after the signal, in milliseconds.
   * @throws {SandboxError} `DeadlineExceeded` where it does not end.
   */
  async kill(process: ProcessIdentity, timeoutMs = 10_000): Promise<void> {
    const action = `cannot kill process ${process.pid}`;
    await this.run(action, ["kill", ...words(process), `${timeoutMs}`], {
      timeoutMs: timeoutMs + TIMEOUT_MS,
    });
  }

  /**
   * Waits until a process has ended; for one that is not a child. A small process waits meanwhile.
   *
   * @param process Whom for.
   * @param signal Ends the waiting.
   * @throws {SandboxError} `Cancelled`.
   */
  async waitForEnd(process: ProcessIdentity, signal: AbortSignal): Promise<void> {
    const action = `cannot wait for process ${process.pid}`;
    await this.run(action, ["wait", ...words(process)], { signal, timeoutMs: Infinity });
  }

  /** What a process uses; undefined where it has ended. */
  async processUsage(process: ProcessIdentity): Promise<ProcessUsage | undefined> {
    const action = `cannot measure process ${process.pid}`;
    const text = (await this.run(action, ["process-usage", ...words(process)])).trim();
    if (text === "") return undefined;
    const values = numbers(text);
    return {
      cpuNs: values.get("cpu_ns") ?? 0,
      residentBytes: values.get("resident_bytes") ?? 0,
      threads: values.get("threads") ?? 0,
    };
  }

  /**
   * Moves a process into a cgroup, which is made in every hierarchy where it is missing.
   *
   * @param cgroup Path below each hierarchy's root, such as `/kubepods/pod1/quasaur`.
   * @param pid The process.
   */
  async joinCgroup(cgroup: string, pid: number): Promise<void> {
    const action = `cannot move process ${pid} into cgroup "${cgroup}"`;
    await this.run(action, ["cgroup-join", cgroup, `${pid}`]);
  }

  /**
   * Removes a cgroup in every hierarchy, with those below it. Kills nothing; waits a bounded time
   * for processes that are just ending. Succeeds where there is none.
   *
   * @throws {SandboxError} `FailedPrecondition` while processes are in it.
   */
  async removeCgroup(cgroup: string): Promise<void> {
    await this.run(`cannot remove cgroup "${cgroup}"`, ["cgroup-remove", cgroup]);
  }

  /**
   * Sets limits of a cgroup, which is made where it is missing. What is missing in `limits` stays.
   *
   * @throws {SandboxError} `FailedPrecondition` where a controller is missing here.
   */
  async limitCgroup(cgroup: string, limits: ResourceSpec): Promise<void> {
    const args = limitArguments(limits);
    await this.run(`cannot limit cgroup "${cgroup}"`, ["cgroup-limits", cgroup, ...args]);
  }

  /** What a cgroup uses; undefined where there is none. */
  async cgroupUsage(cgroup: string): Promise<CgroupUsage | undefined> {
    const text = (await this.run(`cannot measure cgroup "${cgroup}"`, ["cgroup-usage", cgroup]))
      .trim();
    if (text === "") return undefined;
    const values = numbers(text);
    const limit = values.get("memory_limit_bytes");
    const oomKills = values.get("oom_kills");
    return {
      cpuNs: values.get("cpu_ns") ?? 0,
      memoryBytes: values.get("memory_bytes") ?? 0,
      inactiveFileBytes: values.get("inactive_file_bytes") ?? 0,
      ...(limit === undefined ? {} : { memoryLimitBytes: limit }),
      pids: values.get("pids") ?? 0,
      ...(oomKills === undefined ? {} : { oomKills }),
    };
  }

  /** What there is to know of this host; one call for all. */
  async facts(): Promise<HostFacts> {
    const text = await this.run("cannot look at this host", ["facts"]);
    const values = fields(text);
    const number = (name: string) => Number(values.get(name) ?? "0");
    return {
      bootId: values.get("boot_id") ?? "",
      kvm: values.get("kvm") === "yes",
      kvmPvm: values.get("kvm_pvm") === "yes",
      vhostVsock: values.get("vhost_vsock") === "yes",
      kernel: values.get("kernel") ?? "",
      pageBytes: number("page_bytes"),
      freeHugePages: number("free_huge_pages"),
      hugePageBytes: number("huge_page_bytes"),
    };
  }

  /**
   * Measures the frequency of the processor's time stamp counter; takes a moment.
   *
   * @returns In kHz; 0 where the processor has none.
   */
  async tscKhz(options: CallOptions = {}): Promise<number> {
    const text = await this.run("cannot measure the time stamp counter", ["tsc"], options);
    return numbers(text).get("khz") ?? 0;
  }

  /**
   * Measures a file or directory tree, on its own file system and without following links. A link
   * as the path itself is followed.
   *
   * @param path Where it is.
   * @param limits Where counting stops: most bytes and most entries.
   * @throws {SandboxError} `NotFound`.
   */
  async treeSize(
    path: string,
    limits: { readonly bytes?: number; readonly entries?: number } = {},
  ): Promise<TreeSize> {
    const { bytes = TREE_BYTES_MAX, entries = 1_000_000 } = limits;
    const args = ["tree-size", path, `${bytes}`, `${entries}`];
    const values = numbers(await this.run(`cannot measure "${path}"`, args));
    return {
      bytes: values.get("bytes") ?? 0,
      entries: values.get("entries") ?? 0,
      isPartial: values.get("partial") === 1,
    };
  }
}

/** The arguments that name a process. */
function words({ pid, startTime }: ProcessIdentity): string[] {
  return [`${pid}`, `${startTime}`];
}

/** Limits as the launcher's arguments. */
function limitArguments(limits: ResourceSpec): string[] {
  const pairs: readonly (readonly [string, number | string | undefined])[] = [
    ["memory", limits.memoryBytes],
    ["cpu-quota", limits.cpuQuotaUs],
    ["cpu-period", limits.cpuPeriodUs],
    ["cpu-shares", limits.cpuShares],
    ["cpuset", limits.cpusetCpus],
    ["pids", limits.pids],
  ];
  return pairs.flatMap(([name, value]) => value === undefined ? [] : [`--${name}=${value}`]);
}

/** Lines of a name, a space and a value. */
function fields(text: string): ReadonlyMap<string, string> {
  return new Map(
    text.split("\n").filter((line) => line.includes(" ")).map((line): [string, string] => {
      const space = line.indexOf(" ");
      return [line.slice(0, space), line.slice(space + 1)];
    }),
  );
}

/** The same with numbers. */
function numbers(text: string): ReadonlyMap<string, number> {
  return new Map([...fields(text)].map(([name, value]) => [name, Number(value)]));
}

/** Waits until a killed launcher, and what it ran, has let go of its outputs; not for ever. */
async function settled(output: Promise<unknown>): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, KILLED_MS);
  await Promise.race([output.then(() => undefined, () => undefined), late]);
  clearTimeout(timer);
}

/** Kills a child that may have ended; its streams end with it. */
function kill(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
}
