/**
 * Starts one of our sandboxers for a test, as its own process with its own permission set, and kills
 * and restarts it on demand.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };
import type { LogLevel } from "../../sandboxers/log.ts";
import { tail } from "./command.ts";
import { ManagedProcess } from "./managed_process.ts";
import { permissionFlags, REPOSITORY } from "./permissions.ts";
import { waitFor } from "./wait.ts";

/** Kinds that have a configuration file. */
const KINDS_WITH_CONFIG: readonly string[] = ["vmm", "quark"];

/** Where a sandboxer lives in a bed's directory. */
export class SandboxerPaths {
  /**
   * Names the paths; nothing is made.
   *
   * @param kind The kind of sandbox: `wasm`, `vmm` or `quark`.
   * @param bedDirectory The directory of the bed.
   */
  constructor(readonly kind: string, readonly bedDirectory: string) {}

  /** The proxy plugin's name. */
  get name(): string {
    return `quasaur-${this.kind}`;
  }

  /** The runtime handlers: wasm pods may have a process of their own, quark pods one of two kernels. */
  get handlers(): readonly string[] {
    if (this.kind === "wasm") return [this.name, `${this.name}-process`];
    return this.kind === "quark" ? ["quasaur-gvisor", "quasaur-quark"] : [this.name];
  }

  /** Stands in for /run/quasaur. */
  get runDirectory(): string {
    return `${this.bedDirectory}/quasaur`;
  }

  /** The Sandbox API's socket. */
  get socketPath(): string {
    return `${this.runDirectory}/${this.kind}.sock`;
  }

  /** The Task API's socket. */
  get taskSocketPath(): string {
    return `${this.runDirectory}/${this.kind}-task.sock`;
  }

  /** The state directory. */
  get stateDirectory(): string {
    return `${this.runDirectory}/${this.kind}`;
  }

  /** Stands in for /var/cache/quasaur. */
  get cacheDirectory(): string {
    return `${this.bedDirectory}/cache`;
  }

  /** Stands in for the file in /etc/quasaur. */
  get configPath(): string {
    return `${this.bedDirectory}/${this.kind}.toml`;
  }

  /** What this bed has in the place of the system's directories. */
  get replacements(): ReadonlyMap<string, string> {
    return new Map([
      ["/run/quasaur", this.runDirectory],
      ["/run/containerd", `${this.bedDirectory}/state`],
      ["/run/containerd/containerd.sock", `${this.bedDirectory}/containerd.sock`],
      ["/var/lib/containerd", `${this.bedDirectory}/root`],
      ["/var/cache/quasaur", this.cacheDirectory],
      // Kernel and initrd are built once, for all beds.
      ["/var/cache/quasaur/guest", "/var/cache/quasaur/guest"],
      [`/etc/quasaur/${this.kind}.toml`, this.configPath],
    ]);
  }
}

/** What a sandboxer process runs. */
export interface SandboxerProgram {
  /** The kind of sandbox: names the runtime handler, the sockets and the state directory. */
  readonly kind: string;
  /** The main module, below the repository's root. */
  readonly main: string;
  /** The permission set, as deno.json writes it. */
  readonly permissions: Readonly<Record<string, unknown>>;
  /** More arguments for deno, such as `--v8-flags=...` or `--no-code-cache`. */
  readonly denoFlags?: readonly string[];
  /** Its environment, beside what every process of a test has. */
  readonly env?: Readonly<Record<string, string>>;
  /** More flags of the sandboxer itself, such as `--engine-mode=interpreter`. */
  readonly flags?: readonly string[];
  /** For a vmm sandboxer: more of its vmm.toml, any table but `[storage]`; for quark its quark.toml. */
  readonly config?: string;
  /** More paths of the permission set that the bed has elsewhere, such as a program. */
  readonly replacements?: ReadonlyMap<string, string>;
}

/**
 * One of this repository's sandboxers, as its task in deno.json runs it.
 *
 * @param kind The kind of sandbox: `wasm`, `vmm` or `quark`.
 */
export function sandboxerProgram(kind: string): SandboxerProgram {
  const { permissions = {}, tasks = {} }: {
    readonly name: string;
    readonly permissions?: Record<string, Record<string, unknown>>;
    readonly tasks?: Record<string, string>;
  } = config;
  const set = permissions[kind];
  if (set === undefined) {
    throw new Error(`Cannot start quasaur-${kind}: deno.json has no permission set "${kind}"`);
  }
  const words = tasks[kind]?.split(" ") ?? [];
  const denoFlags = words.filter((word) => /^--(v8-flags=|no-code-cache$)/.test(word));
  const variables = words.slice(0, words.indexOf("deno")).map((word) => word.split("="));
  const env = Object.fromEntries(variables.map(([name = "", value = ""]) => [name, value]));
  return { kind, main: `sandboxers/${kind}/main.ts`, permissions: set, denoFlags, env };
}

/** A sandboxer under test. */
export class SandboxerProcess implements AsyncDisposable {
  /** The process; it can be killed through it. */
  readonly process: ManagedProcess;
  readonly #config: string;

  /**
   * Describes a sandboxer; {@link SandboxerProcess.start} starts it.
   *
   * @param program What it runs.
   * @param paths Where it lives.
   * @param logLevel How much it logs.
   */
  constructor(program: SandboxerProgram, readonly paths: SandboxerPaths, logLevel: LogLevel) {
    this.#config = program.config ?? "";
    this.process = new ManagedProcess({
      name: paths.name,
      command: [Deno.execPath(), ...sandboxerArguments(program, paths, logLevel)],
      env: { NO_COLOR: "1", ...program.env },
      logPath: `${paths.bedDirectory}/${paths.name}.log`,
    });
  }

  /** Starts it and waits until it says that it is ready, and both its sockets take connections. */
  async start(): Promise<void> {
    await Deno.mkdir(this.paths.runDirectory, { recursive: true });
    if (KINDS_WITH_CONFIG.includes(this.paths.kind)) await writeConfig(this.paths, this.#config);
    const earlier = (await this.process.log()).length;
    await this.process.start();
    const { name, socketPath, taskSocketPath } = this.paths;
    await waitFor(`${name} to listen`, async () => {
      if (!this.process.running) return true;
      // What an earlier one had just begun to start holds its sockets open for a moment after its end.
      const isReady = /^ready$/m.test((await this.process.log()).slice(earlier));
      return isReady && await accepts(socketPath) && await accepts(taskSocketPath);
    }, { timeoutMs: 30_000 });
    if (!this.process.running) {
      throw new Error(`Cannot start ${name}: it ended at once\n${tail(await this.process.log())}`);
    }
  }

  /** Stops it as systemd would, and starts it again. */
  async restart(): Promise<void> {
    await this.process.stop();
    await this.start();
  }

  /** Stops it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.process.stop();
  }
}

/** Writes the configuration, unless it is there. A vmm sandboxer has its image cache in the bed. */
async function writeConfig(
  { kind, configPath, cacheDirectory }: SandboxerPaths,
  more: string,
): Promise<void> {
  if (await Deno.stat(configPath).then(() => true, () => false)) return;
  const storage = `[storage]\ncache_directory = "${cacheDirectory}/vmm/images"\n`;
  await Deno.writeTextFile(configPath, `${kind === "vmm" ? storage : ""}${more}`);
}

/** Whether somebody listens at a socket. */
async function accepts(path: string): Promise<boolean> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
    return true;
  } catch {
    return false;
  }
}

/** The arguments that make deno the sandboxer. */
export function sandboxerArguments(
  program: SandboxerProgram,
  paths: SandboxerPaths,
  logLevel: LogLevel,
): string[] {
  return [
    "run",
    "--no-prompt",
    ...program.denoFlags ?? [],
    `--config=${REPOSITORY}/deno.json`,
    ...permissionFlags(
      program.permissions,
      new Map([...paths.replacements, ...program.replacements ?? []]),
    ),
    `${REPOSITORY}/${program.main}`,
    `--listen=${paths.socketPath}`,
    `--task-listen=${paths.taskSocketPath}`,
    `--dir=${paths.stateDirectory}`,
    `--containerd-events=${paths.bedDirectory}/containerd.sock.ttrpc`,
    `--log-level=${logLevel}`,
    ...(program.kind === "wasm" ? [`--cache-dir=${paths.cacheDirectory}/wasm`] : []),
    ...(KINDS_WITH_CONFIG.includes(program.kind) ? [`--config=${paths.configPath}`] : []),
    ...program.flags ?? [],
  ];
}
