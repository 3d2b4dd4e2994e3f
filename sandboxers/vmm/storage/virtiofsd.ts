/**
 * The file server of a shared tree: virtiofsd, one process for each machine that has one. It acts as
 * root, with the few capabilities that this takes, sees nothing but the tree (chroot), has an empty
 * network namespace, and ends by itself when its machine does. It outlives the sandboxer, and the
 * next one finds it by its process id and start time.
 *
 * @module
 */

import { type KeptCapability, spawnConfined } from "../../host/confined.ts";
import type { Launcher, ProcessIdentity } from "../../host/launcher.ts";
import { abortError, SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";
import { once } from "./once.ts";

/** The program, where Debian's package virtiofsd has it. */
export const VIRTIOFSD = "/usr/libexec/virtiofsd";

/** How long it may take until its socket is there, in milliseconds. */
const START_MS = 10_000;
const POLL_MS = 5;
/** How long it may take to end by itself once its machine has, in milliseconds. */
const END_MS = 500;
/** How much of its log is shown, in characters. */
const LOG_LENGTH_MAX = 600;

/**
 * What it keeps: it makes files as any user, and reads and changes those of all. By `setpcap` it
 * gives the rest away itself, and then that too.
 */
const CAPABILITIES: readonly KeptCapability[] = [
  "chown",
  "dac_override",
  "dac_read_search",
  "fowner",
  "fsetid",
  "setfcap",
  "setgid",
  "setpcap",
  "setuid",
  "sys_chroot",
];

/** What a {@link VirtiofsServer} is started with. */
export interface VirtiofsOptions {
  /** Runs programs confined. */
  readonly launcher: Launcher;
  /** The directory that it shares. */
  readonly directory: string;
  /** The socket that it makes; not longer than 107 bytes, in a directory that the VMM can pass through. */
  readonly socket: string;
  /** The file that takes its log. */
  readonly log: string;
  /** Who may connect beside root: a user, a group or both; undefined for nobody. */
  readonly client?: { readonly uid?: number; readonly gid?: number };
  /** Cgroup to start in; empty for this process's own. */
  readonly cgroup: string;
  /** The program (default: {@link VIRTIOFSD}). */
  readonly program?: string;
  /** What guests may keep of files without asking again (default `auto`). */
  readonly cache?: "never" | "auto" | "always";
  /** Threads beside its own (default 0). */
  readonly threadPoolSize?: number;
  /** What it logs (default `error`). */
  readonly logLevel?: string;
  /** Takes note of its record as soon as its process is there; where that fails it is ended. */
  readonly onStart?: (record: Json) => Promise<void>;
}

/** A file server that runs. */
export class VirtiofsServer {
  /** What {@link VirtiofsServer.adopt} needs later. */
  readonly record: Json;
  /** Ends it and removes its socket and its log. May be called more than once. */
  readonly stop: () => Promise<void>;
  readonly #launcher: Launcher;
  readonly #log: string;

  private constructor(
    launcher: Launcher,
    readonly identity: ProcessIdentity,
    /** The socket that a machine connects to. */
    readonly socket: string,
    log: string,
  ) {
    this.#launcher = launcher;
    this.#log = log;
    this.record = { pid: identity.pid, startTime: identity.startTime, socket, log };
    this.stop = once(() => this.#stop());
  }

  /**
   * Starts a file server.
   *
   * @param options What it shares, and with whom.
   * @param signal Aborted when the caller gave up.
   * @returns When its socket is there.
   * @throws {SandboxError} `FailedPrecondition` where virtiofsd is missing or does not start, with
   *   its own words; `Cancelled`. Then nothing is left.
   */
  static async start(options: VirtiofsOptions, signal: AbortSignal): Promise<VirtiofsServer> {
    const { launcher, directory, socket, log, cgroup, program = VIRTIOFSD } = options;
    const action = `cannot start virtiofsd for "${directory}"`;
    throwIfAborted(signal, action);
    await removeFiles(socket);
    const process = await spawnConfined(launcher, {
      program,
      args: argumentsOf(options),
      directory: "/",
      log,
      user: undefined,
      network: { taps: 0 },
      cgroup,
      capabilities: CAPABILITIES,
    }, signal).catch(async (error) => {
      await removeFiles(log);
      throw error;
    });
    process.unref();
    const server = new VirtiofsServer(launcher, process.identity, socket, log);
    try {
      await options.onStart?.(server.record);
      await waitForSocket(socket, process.status, signal, action, log);
      const { uid = null, gid = null } = options.client ?? {};
      await Deno.chown(socket, uid, gid);
      await Deno.chmod(socket, 0o660);
      return server;
    } catch (error) {
      process.kill("SIGKILL");
      await server.stop().catch(() => {});
      throw SandboxError.from(error, action);
    }
  }

  /**
   * Takes over a file server that an earlier process started.
   *
   * @param launcher Ends it.
   * @param record What {@link VirtiofsServer.record} was.
   * @returns Undefined where it has ended; what was left of it is removed then.
   */
  static async adopt(launcher: Launcher, record: Json): Promise<VirtiofsServer | undefined> {
    const known = parseRecord(record);
    if (known === undefined) return undefined;
    const { socket, log, ...identity } = known;
    if (await launcher.alive(identity)) return new VirtiofsServer(launcher, identity, socket, log);
    await removeFiles(socket, log);
    return undefined;
  }

  async #stop(): Promise<void> {
    const end = Date.now() + END_MS;
    // It ends when its machine does; one that has none yet is told to.
    await this.#launcher.signal(this.identity, SIGTERM);
    while (await this.#launcher.alive(this.identity)) {
      if (Date.now() > end) {
        await this.#launcher.kill(this.identity);
        break;
      }
      await pause(POLL_MS * 4);
    }
    await removeFiles(this.socket, this.#log);
  }
}

const SIGTERM = 15;

function argumentsOf(options: VirtiofsOptions): string[] {
  const { directory, socket, cache = "auto", threadPoolSize = 0, logLevel = "error" } = options;
  return [
    `--shared-dir=${directory}`,
    `--socket-path=${socket}`,
    `--cache=${cache}`,
    `--thread-pool-size=${threadPoolSize}`,
    `--log-level=${logLevel}`,
    // In a mount namespace of its own it would not see what is mounted later; and with "namespace"
    // it would be two processes.
    "--sandbox=chroot",
    "--announce-submounts",
    "--posix-acl=never",
    "--xattr",
    // A guest makes no devices on the host: whoever may open such a file there would have the device.
    "--modcaps=-mknod",
    // As many as it may have anyway: it has no right to raise the limit.
    "--rlimit-nofile=0",
    "--inode-file-handles=never",
  ];
}

/** Looks for the socket until it is there; the program makes no other sign. */
async function waitForSocket(
  socket: string,
  ended: Promise<Deno.CommandStatus>,
  signal: AbortSignal,
  action: string,
  log: string,
): Promise<void> {
  let end: Deno.CommandStatus | undefined;
  ended.then((status) => end = status, () => {});
  const until = Date.now() + START_MS;
  while (!await isSocket(socket)) {
    if (signal.aborted) throw abortError(signal, action);
    if (end !== undefined) {
      const how = end.signal === null ? `ended with ${end.code}` : `died of ${end.signal}`;
      throw new SandboxError("FailedPrecondition", `${action}: it ${how}${await said(log)}`);
    }
    if (Date.now() > until) {
      const text = `${action}: no socket after ${START_MS} ms${await said(log)}`;
      throw new SandboxError("FailedPrecondition", text);
    }
    await pause(POLL_MS);
  }
}

async function isSocket(path: string): Promise<boolean> {
  return (await Deno.lstat(path).catch(() => undefined))?.isSocket === true;
}

/** The end of its log, for a message. */
async function said(log: string): Promise<string> {
  const text = await Deno.readTextFile(log).catch(() => "");
  const lines = text.trim().split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const tail = lines.join("; ").slice(-LOG_LENGTH_MAX);
  return tail === "" ? "" : `: ${tail}`;
}

/**
 * Removes a socket, the file by which virtiofsd locks it, and what else there is.
 *
 * @param socket The socket.
 * @param others More files.
 */
export async function removeFiles(socket: string, ...others: readonly string[]): Promise<void> {
  for (const path of [socket, `${socket}.pid`, ...others]) {
    try {
      await Deno.remove(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) continue;
      throw SandboxError.from(error, `cannot remove "${path}"`);
    }
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** What a record says. */
interface ServerRecord extends ProcessIdentity {
  readonly socket: string;
  readonly log: string;
}

function parseRecord(record: Json): ServerRecord | undefined {
  if (typeof record !== "object" || record === null || !("socket" in record)) return undefined;
  const { pid, startTime, socket, log } = record;
  if (typeof pid !== "number" || typeof startTime !== "number") return undefined;
  if (typeof socket !== "string" || typeof log !== "string") return undefined;
  return { pid, startTime, socket, log };
}
