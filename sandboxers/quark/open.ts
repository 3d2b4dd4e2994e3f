/**
 * Puts the quark kind together from its configuration: the application kernels, whose programs are
 * looked for when they are needed, and the driver over them. The sandboxer's main, the command line
 * and the SDK all start here.
 *
 * @module
 */

import { FifoHolder } from "../host/fifo_holder.ts";
import { Gate } from "../host/gate.ts";
import { Launcher } from "../host/launcher.ts";
import { HostMounter } from "../host/mounter.ts";
import { TaskRelay } from "../host/task_relay.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { Mounter } from "../lifecycle/mounter.ts";
import type { Log } from "../log.ts";
import { noTelemetry, type Telemetry } from "../telemetry/telemetry.ts";
import { APP_KERNELS, type AppKernel, type AppKernelName } from "./app_kernel.ts";
import type { QuarkConfig } from "./config/config.ts";
import { missingFiles } from "./config/missing_files.ts";
import { QuarkDriver } from "./driver.ts";
import { openGvisor } from "./gvisor/open.ts";
import type { KernelBase } from "./kernel_base.ts";
import { Quark } from "./quark/kernel.ts";
import { QuarkSnapshots } from "./snapshots.ts";

/** What {@link openQuark} works with. */
export interface QuarkOptions {
  /** The configuration. */
  readonly config: QuarkConfig;
  /** The state directory, an absolute path, best in memory. */
  readonly directory: string;
  /** The sandboxer's task socket, for pods whose task calls outlive it; undefined without containerd. */
  readonly taskListen?: string;
  /** Set where sandboxes are a program's own. */
  readonly embedded?: EmbeddedQuark;
  /** Counts, measures and hears of the phases of starts; missing for nobody. */
  readonly telemetry?: Telemetry;
  /** Where notes go. */
  readonly log: Log;
}

/** What differs where sandboxes are a program's own: they end with it. */
export interface EmbeddedQuark {
  /** The directory of what was found out of this host, shared with other programs. */
  readonly sharedDirectory: string;
  /** Connects to a unix socket below the state directory. */
  connect(path: string): Promise<Deno.UnixConn>;
}

/** The quark kind, ready to work. */
export interface QuarkKind {
  /** Runs sandboxes. */
  readonly driver: QuarkDriver;
  /** Takes snapshots, and makes sandboxes of them. */
  readonly snapshots: QuarkSnapshots;
  /** The state directory, an absolute path. */
  readonly directory: string;
  /** Mounts root file systems. */
  readonly mounter: Mounter;
  /** Calls the host's kernel. */
  readonly launcher: Launcher;
  /** Holds FIFOs while no sandboxer is there; undefined where nothing outlives this process. */
  readonly holder: FifoHolder | undefined;
}

/**
 * Puts the quark kind together. A kernel whose program is missing is told of in the log, and fails
 * its own sandboxes only. Those of an earlier process are found later, by the lifecycle.
 *
 * @param options See {@link QuarkOptions}.
 * @throws {SandboxError} Where the state directory or the launcher cannot be used.
 */
export async function openQuark(options: QuarkOptions): Promise<QuarkKind> {
  const { config, directory, taskListen, embedded, telemetry = noTelemetry, log } = options;
  await Deno.mkdir(directory, { recursive: true });
  // Sandboxes act as users of their own, and have their directories below.
  await Deno.chmod(directory, 0o711);
  const launcher = new Launcher();
  const mounter = new HostMounter(launcher);
  const { connect } = embedded ?? new Gate(`${directory}/gate.sock`);
  const relay = taskListen === undefined ? undefined : await TaskRelay.open({
    launcher,
    listen: `${directory}/relay.sock`,
    server: taskListen,
    dir: directory,
    log,
  });
  // A FIFO without a writer makes containerd stop reading: somebody has to hold them meanwhile.
  const holder = taskListen === undefined
    ? undefined
    : await FifoHolder.start({ launcher, dir: directory, log });
  const base = (name: string): KernelBase => ({
    config,
    directory: `${directory}/${name}`,
    sharedDirectory: embedded?.sharedDirectory ?? directory,
    launcher,
    mounter,
    connect,
    holder,
    outlivesSandboxer: embedded === undefined,
    observer: telemetry,
    log,
  });
  // It needs its program only for what is new.
  const gvisor = await openGvisor(base("gvisor"), () => checkInstalled(config, "gvisor"));
  const driver = new QuarkDriver({
    kernels: [gvisor, newQuark(base("quark"))],
    defaultKernel: config.kernel.default,
    onStarted: (kernel) => telemetry.count("quasaur_quark_sandboxes_started_total", { kernel }),
    taskSocket: relay?.socket,
    recovered: async () => await holder?.tookOver(),
    keepOpen: async () => await holder?.release(),
    onCallersLost: (listener) => relay?.onLost(listener),
    leave: async (hasSandboxes) => {
      if (hasSandboxes) relay?.release();
      else await Promise.all([relay?.stop(), holder?.stop()]);
    },
    log,
  });
  await tellMissing(config, log);
  const snapshots = new QuarkSnapshots(driver, gvisor);
  return { driver, snapshots, directory, mounter, launcher, holder };
}

/** Notes once which kernels cannot be used; their sandboxes say so again, each to its caller. */
async function tellMissing(config: QuarkConfig, log: Log): Promise<void> {
  for (const name of APP_KERNELS) {
    const [missing] = await missingFiles(config, [name]);
    if (missing === undefined) continue;
    const level = name === config.kernel.default ? "warn" : "info";
    log[level]("an application kernel cannot be used", { kernel: name, missing });
  }
}

/** Fails where a kernel's files are not there. */
async function checkInstalled(config: QuarkConfig, name: AppKernelName): Promise<void> {
  const [missing] = await missingFiles(config, [name]);
  if (missing !== undefined) throw new SandboxError("FailedPrecondition", missing);
}

function newQuark({ config: { quark }, directory, ...base }: KernelBase): AppKernel {
  return new Quark({
    ...base,
    podDirectory: directory,
    program: quark.path,
    configPath: quark.configPath,
    readyMs: quark.readyTimeoutInS * 1000,
  });
}
