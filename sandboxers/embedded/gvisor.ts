/**
 * Opens gVisor in this process: reads the configuration, finds a directory for sandboxes, and puts
 * the driver together.
 *
 * @module
 */

import { basename, resolve } from "node:path";
import { Launcher } from "../host/launcher.ts";
import { HostMounter } from "../host/mounter.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { QuarkConfig } from "../quark/config/config.ts";
import { QUARK_CONFIG } from "../quark/config/load.ts";
import { missingFiles } from "../quark/config/missing_files.ts";
import { gvisorRoot } from "../quark/gvisor/open.ts";
import { openQuark, type QuarkKind } from "../quark/open.ts";
import type { GvisorOpenOptions, GvisorSandboxer } from "./gvisor_api.ts";
import { EmbeddedGvisorSandboxer } from "./gvisor_sandboxer.ts";
import { gvisorSnapshots } from "./gvisor_snapshots.ts";
import { unmountLeftOverlays } from "./overlay_rootfs.ts";
import { warningLog } from "./warning_log.ts";
import { openWorkplace, userDirectory, type Workplace } from "./workplace.ts";

const ROOT = 0;

/**
 * Opens a sandboxer of gVisor.
 *
 * @param options See {@link GvisorOpenOptions}.
 * @throws {SandboxError} See `open`.
 */
export async function openGvisorSandboxer(
  options: GvisorOpenOptions = {},
): Promise<GvisorSandboxer> {
  const uid = Deno.uid() ?? ROOT;
  const { config: file, set = [], directory = userDirectory(uid, "gvisor") } = options;
  const config = gvisorConfig(QUARK_CONFIG.load({ file, set }));
  const action = "cannot open a sandboxer of gVisor";
  if (uid !== ROOT) {
    throw new SandboxError("FailedPrecondition", `${action}: it takes root: run this as root`);
  }
  const [missing] = await missingFiles(config, ["gvisor"]);
  if (missing !== undefined) throw new SandboxError("FailedPrecondition", `${action}: ${missing}`);
  const log = warningLog(options);
  await using undo = new AsyncDisposableStack();
  const base = resolve(directory);
  const launcher = new Launcher();
  const mounter = new HostMounter(launcher);
  const kindIn = async (place: Pick<Workplace, "directory" | "connect">): Promise<QuarkKind> => {
    const embedded = { sharedDirectory: base, connect: place.connect };
    return await openQuark({ config, directory: place.directory, embedded, log });
  };
  const place = undo.use(
    await openWorkplace(base, uid, async (left, connect) => {
      // Sandboxes go on when the program that had them was killed.
      if (await hasSandboxes(left)) {
        await (await kindIn({ directory: left, connect })).driver.recovered();
      }
      await launcher.removeCgroup(cgroupOf(left));
      await unmountLeftOverlays(left, mounter);
      await Deno.remove(left, { recursive: true });
    }),
  );
  const { driver, snapshots } = await kindIn(place);
  const kept = undo.move();
  return new EmbeddedGvisorSandboxer({
    driver,
    mounter,
    snapshots: gvisorSnapshots(snapshots, place.directory),
    directory: place.directory,
    cgroup: cgroupOf(place.directory),
    [Symbol.asyncDispose]: async () => {
      await driver.leave();
      await kept.disposeAsync();
    },
  }, options);
}

/** The cgroup of a program's sandboxes, by the program's directory. */
function cgroupOf(directory: string): string {
  return `/quasaur-gvisor-${basename(directory)}`;
}

/** Whether there is anything of a sandbox in the directory of a program. */
async function hasSandboxes(directory: string): Promise<boolean> {
  try {
    for await (const _ of Deno.readDir(gvisorRoot(`${directory}/gvisor`))) return true;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return false;
}

/**
 * The configuration of a program that asked for gVisor: its sandboxes name no runtime, and what they
 * write is kept in no file that would be left in a root file system that is the program's own.
 */
function gvisorConfig(config: QuarkConfig): QuarkConfig {
  const { gvisor } = config;
  const overlay = gvisor.overlay === "self" ? "memory" : gvisor.overlay;
  return { ...config, kernel: { default: "gvisor" }, gvisor: { ...gvisor, overlay } };
}
