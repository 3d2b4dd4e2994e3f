/**
 * A process of a container, which the double runs as a plain process of the host: in its root
 * directory, with its streams, killed when the double is.
 *
 * @module
 */

import type { QuarkSpecProcess } from "./quark_spec.ts";

/** What is run. */
export interface HostProcessSpec {
  /** What Quark was told. */
  readonly process: QuarkSpecProcess;
  /** The root file system. */
  readonly rootfs: string;
  /** Paths of its streams on the host; empty for none. */
  readonly stdin: string;
  /** See `stdin`. */
  readonly stdout: string;
  /** See `stdin`. */
  readonly stderr: string;
  /** Whether it gets a terminal. */
  readonly terminal: boolean;
}

/** Opens the streams, which may wait for the other side, and becomes the program. */
const REDIRECT = 'IN=$1; OUT=$2; ERR=$3; shift 3; exec <"$IN" >"$OUT" 2>"$ERR" "$@"';

/** A process that runs. */
export class HostProcess {
  readonly #child: Deno.ChildProcess;
  /** Settles when it has ended, with its status as wait(2) has it. */
  readonly ended: Promise<number>;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.ended = child.status.then(({ code, signal }) =>
      signal === null ? (code & 0xff) << 8 : signalNumber(signal)
    );
    // Like a container without a pid namespace: nothing of it stays when its first process ends.
    void this.ended.then(() => signalGroup(child.pid, 9));
  }

  /**
   * Starts it.
   *
   * @throws Error Where there is no such program in its root.
   */
  static async start(spec: HostProcessSpec): Promise<HostProcess> {
    const { process, rootfs, stdin, stdout, stderr, terminal } = spec;
    const { args, env, cwd, user } = process;
    await findProgram(spec);
    const inside = [
      ...["unshare", "--root", rootfs, "--wd", cwd === "" ? "/" : cwd],
      ...(user.uid === 0 && user.gid === 0 ? [] : ["-S", `${user.uid}`, "-G", `${user.gid}`]),
      ...["--", ...args],
    ];
    const run = terminal ? ["script", "-qfec", shellLine(inside), "/dev/null"] : inside;
    const or = (path: string) => path === "" ? "/dev/null" : path;
    const child = new Deno.Command("setsid", {
      args: [
        ...["setpriv", "--pdeathsig", "KILL", "/bin/sh", "-c", REDIRECT, "sh"],
        ...[or(stdin), or(stdout), terminal ? or(stdout) : or(stderr)],
        ...run,
      ],
      clearEnv: true,
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", SHELL: "/bin/sh", ...variables(env) },
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    return new HostProcess(child);
  }

  /** Sends a signal; to all of its group where asked to. */
  signal(signal: number, all: boolean): void {
    if (all) return signalGroup(this.#child.pid, signal);
    new Deno.Command("kill", { args: [`-${signal}`, `${this.#child.pid}`], stderr: "null" })
      .outputSync();
  }

  /** Sets the size of its terminal. */
  async resize(columns: number, rows: number): Promise<void> {
    const children = await Deno.readTextFile(
      `/proc/${this.#child.pid}/task/${this.#child.pid}/children`,
    );
    const inner = children.trim().split(" ")[0] ?? "";
    const terminal = await Deno.readLink(`/proc/${inner}/fd/0`);
    const args = ["-F", terminal, "cols", `${columns}`, "rows", `${rows}`];
    const { success } = await new Deno.Command("stty", { args, stderr: "null" }).output();
    if (!success) throw new Error("resize_pty: no terminal");
  }
}

function signalGroup(pid: number, signal: number): void {
  new Deno.Command("kill", { args: [`-${signal}`, "--", `-${pid}`], stderr: "null" }).outputSync();
}

function signalNumber(name: Deno.Signal): number {
  const numbers: Partial<Record<Deno.Signal, number>> = {
    SIGHUP: 1,
    SIGINT: 2,
    SIGQUIT: 3,
    SIGKILL: 9,
    SIGUSR1: 10,
    SIGSEGV: 11,
    SIGPIPE: 13,
    SIGTERM: 15,
  };
  return numbers[name] ?? 1;
}

/** Quark finds the program before it answers Start. */
async function findProgram({ process, rootfs }: HostProcessSpec): Promise<void> {
  const [name = ""] = process.args;
  const path = variables(process.env)["PATH"] ?? "/usr/local/bin:/usr/bin:/bin";
  const places = name.includes("/") ? [name] : path.split(":").map((at) => `${at}/${name}`);
  for (const place of places) {
    if ((await Deno.lstat(`${rootfs}/${place}`).catch(() => undefined)) !== undefined) return;
  }
  throw new Error(`SysError(2): cannot load "${name}"`);
}

function variables(env: readonly string[]): Record<string, string> {
  return Object.fromEntries(env.map((entry) => {
    const equals = entry.indexOf("=");
    return [entry.slice(0, equals), entry.slice(equals + 1)];
  }));
}

function shellLine(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
}
