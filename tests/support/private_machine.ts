/**
 * A machine of its own for a test that installs things: the files of this one with all that is
 * written kept in memory, its own processes, and nothing in /run. What the test does there this
 * machine does not see, and at the end all of it is gone.
 *
 * @module
 */

import { tail } from "./command.ts";
import { REPOSITORY } from "./permissions.ts";
import { waitFor } from "./wait.ts";

/** How a program ended, and what it wrote. */
export interface Ran {
  /** Its exit status. */
  readonly status: number;
  /** What it wrote to standard output. */
  readonly stdout: string;
  /** What it wrote to standard error. */
  readonly stderr: string;
}

/** How to run a program. */
export interface RunOptions {
  /** Variables added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Whether a status other than 0 is an error. Default true. */
  readonly check?: boolean;
}

/** A program that runs in the background. */
export interface Daemon {
  /** Its process id in the machine. */
  readonly pid: number;
  /** What it has written so far. */
  log(): Promise<string>;
  /** Whether it runs. */
  isRunning(): Promise<boolean>;
  /**
   * Ends it, and waits until it has ended.
   *
   * @param signal Default `TERM`.
   */
  stop(signal?: string): Promise<void>;
}

/**
 * Makes the machine's files and becomes its first process, which ends with its standard input. bash,
 * as it takes care of processes whose parents are gone.
 */
const START = `set -e
dir=$1; shift
mount -t tmpfs -o mode=0755,size=4g tmpfs "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/root"
mount -t overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/root"
for path; do mkdir -p "$dir/root$path"; mount --rbind "$path" "$dir/root$path"; done
mount --rbind /dev "$dir/root/dev"
mount --rbind /sys "$dir/root/sys"
mount -t proc proc "$dir/root/proc"
mount -t tmpfs -o mode=0755 tmpfs "$dir/root/run"
# Mounts that containerd makes have to be on a file system that can hold an overlay's layers.
mkdir -p "$dir/root/var/lib/containerd"
mount -t tmpfs -o mode=0711 tmpfs "$dir/root/var/lib/containerd"
mkdir -p "$dir/root/var/cache/quasaur-old-root"
cd "$dir/root"
pivot_root . var/cache/quasaur-old-root
umount -l /var/cache/quasaur-old-root
rmdir /var/cache/quasaur-old-root
ip link set lo up
echo up
exec bash -c 'while read -r; do :; done'`;

/** The machine. */
export class PrivateMachine implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #directory: string;
  readonly #pid: number;

  private constructor(child: Deno.ChildProcess, directory: string, pid: number) {
    this.#child = child;
    this.#directory = directory;
    this.#pid = pid;
  }

  /**
   * Starts one. Needs root.
   *
   * @param shared Directories that are the same there and here.
   * @throws {Error} When it does not come up; nothing is left behind then.
   */
  static async start(shared: readonly string[] = []): Promise<PrivateMachine> {
    const directory = await Deno.makeTempDir({ prefix: "quasaur-machine-" });
    const child = new Deno.Command("unshare", {
      args: [
        ...[
          "--mount",
          "--propagation=private",
          "--net",
          "--uts",
          "--pid",
          "--fork",
          "--kill-child",
        ],
        ...["bash", "-c", START, "bash", directory, ...await elsewhere(), ...shared],
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const errors = new Response(child.stderr).text();
    try {
      const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
      const { value } = await reader.read();
      if (value !== "up\n") throw new Error(`cannot make a machine: ${tail(await errors)}`);
      reader.cancel().catch(() => undefined);
      return new PrivateMachine(child, directory, await firstChild(child.pid));
    } catch (error) {
      await child.stdin.close().catch(() => undefined);
      await child.status;
      await Deno.remove(directory, { recursive: true });
      throw error;
    }
  }

  /**
   * The path by which this machine reaches a file of that one; links with absolute targets lead
   * astray.
   *
   * @param path The path there.
   */
  path(path: string): string {
    return `/proc/${this.#pid}/root${path}`;
  }

  /**
   * Runs a program there, in the root directory.
   *
   * @param command The program and its arguments.
   * @param options See {@link RunOptions}.
   * @throws {Error} When it ends with another status than 0, unless that is allowed.
   */
  async run(command: readonly string[], options: RunOptions = {}): Promise<Ran> {
    const output = await new Deno.Command("nsenter", {
      args: [...this.#enter(), ...command],
      env: { NO_COLOR: "1", ...options.env },
      stdin: "null",
    }).output();
    const [stdout, stderr] = [output.stdout, output.stderr].map((it) =>
      new TextDecoder().decode(it)
    );
    const ran = { status: output.code, stdout: stdout ?? "", stderr: stderr ?? "" };
    if (ran.status !== 0 && options.check !== false) {
      throw new Error(`${command.join(" ")} ended with ${ran.status}: ${ran.stdout}${ran.stderr}`);
    }
    return ran;
  }

  /**
   * Starts a program there that goes on in the background. It ends with the machine at the latest.
   *
   * @param name What it is called; names its log.
   * @param command The program and its arguments.
   * @param env Variables added to the environment.
   */
  async daemon(
    name: string,
    command: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<Daemon> {
    const log = `/var/log/${name}.log`;
    // A session of its own; the first process takes care of it. It says its number before it becomes
    // the program.
    const script = 'log=$1; shift; setsid sh -c \'echo $$ >"$0.pid"; exec "$@"\' "$log" "$@" ' +
      '>>"$log" 2>&1 </dev/null &';
    await this.run(["rm", "-f", `${log}.pid`]);
    await this.run(["sh", "-c", script, "sh", log, ...command], { env });
    const read = (path: string) => Deno.readTextFile(this.path(path)).catch(() => "");
    const pid = Number(
      await waitFor(`${name} to start`, async () => (await read(`${log}.pid`)).trim() || undefined),
    );
    const isRunning = async () => /^State:\s+[^ZX]/m.test(await read(`/proc/${pid}/status`));
    return {
      pid,
      log: () => read(log),
      isRunning,
      stop: async (signal = "TERM") => {
        await this.run(["kill", `-${signal}`, `${pid}`], { check: false });
        await waitFor(`${name} to end`, async () => !await isRunning());
      },
    };
  }

  /** Ends all that runs there, and removes everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.stdin.close();
    await this.#child.status;
    await Deno.remove(this.#directory, { recursive: true });
  }

  #enter(): string[] {
    return ["--target", `${this.#pid}`, "--mount", "--net", "--uts", "--pid", "--wdns=/", "--"];
  }
}

/** Directories that are needed there and are on other file systems than the root. */
async function elsewhere(): Promise<string[]> {
  const { dev } = await Deno.stat("/");
  const wanted = [REPOSITORY, (await Deno.realPath(Deno.execPath())).replace(/\/[^/]*$/, "")];
  const found: string[] = [];
  for (const path of wanted) if ((await Deno.stat(path)).dev !== dev) found.push(path);
  return found;
}

/** The only child of a process. */
async function firstChild(pid: number): Promise<number> {
  const text = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
  const child = Number(text.trim().split(" ")[0]);
  if (Number.isInteger(child) && child > 0) return child;
  throw new Error(`process ${pid} has no child`);
}
