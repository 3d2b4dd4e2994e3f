/**
 * Opens the vmm kind in this process: reads the configuration, finds a directory for machines, and
 * puts the driver together.
 *
 * @module
 */

import { resolve } from "node:path";
import { Launcher } from "../host/launcher.ts";
import { HostMounter } from "../host/mounter.ts";
import type { Driver } from "../lifecycle/driver.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import { ANNOTATION_NAMES, type VmmConfig } from "../vmm/config/config.ts";
import { loadVmmConfig } from "../vmm/config/load.ts";
import { missingFiles } from "../vmm/config/missing_files.ts";
import { openVmm } from "../vmm/open.ts";
import type { VmmOpenOptions, VmmSandboxer } from "./vmm_api.ts";
import { vmmChecks } from "./vmm_run_checks.ts";
import { EmbeddedVmmSandboxer } from "./vmm_sandboxer.ts";
import { vmmSnapshots } from "./vmm_snapshots.ts";
import { warningLog } from "./warning_log.ts";
import { openWorkplace, userDirectory, type Workplace } from "./workplace.ts";

const ROOT = 0;

/**
 * Opens a sandboxer of microVMs.
 *
 * @param options See {@link VmmOpenOptions}.
 * @throws {SandboxError} See `open`.
 */
export async function openVmmSandboxer(options: VmmOpenOptions = {}): Promise<VmmSandboxer> {
  const uid = Deno.uid() ?? ROOT;
  const { config: file, set = [], directory = userDirectory(uid) } = options;
  const config = loadVmmConfig({ file, set });
  await checkFiles(config);
  await using undo = new AsyncDisposableStack();
  const launcher = new Launcher();
  const place = undo.use(
    await openWorkplace(resolve(directory), uid, (left) => removeLeft(launcher, left)),
  );
  const own = embeddedConfig(config, uid, place);
  const { driver } = await openVmm({
    config: own,
    directory: place.directory,
    embedded: place,
    log: warningLog(options),
  });
  const kept = undo.move();
  return new EmbeddedVmmSandboxer({
    driver: startingAlone(driver, place),
    snapshots: vmmSnapshots(driver, place.directory),
    checks: vmmChecks({ uid, separate: own.hypervisor.runAs !== "root" }),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }, options);
}

async function checkFiles(config: VmmConfig): Promise<void> {
  const [missing] = await missingFiles(config);
  if (missing === undefined) return;
  throw new SandboxError("FailedPrecondition", `cannot open a sandboxer of microVMs: ${missing}`);
}

/**
 * The configuration of a program: its directories are its own, as sandboxers do not share theirs; and
 * who is not root can neither switch users nor serve a tree.
 */
function embeddedConfig(config: VmmConfig, uid: number, { directory }: Workplace): VmmConfig {
  const { hypervisor, template, storage, limits } = config;
  return {
    ...config,
    hypervisor: uid === ROOT ? hypervisor : { ...hypervisor, runAs: "root", shareFs: "none" },
    template: { ...template, pool: 0, directory: "" },
    storage: { ...storage, cacheDirectory: `${directory}/images` },
    // A program may ask for what the configuration does not leave to the authors of pods.
    limits: { ...limits, annotations: ANNOTATION_NAMES },
  };
}

/** A driver that starts machines while no other program of the user does: they share templates. */
function startingAlone(driver: Driver, place: Workplace): Driver {
  return {
    kind: driver.kind,
    capabilities: driver.capabilities,
    start: (spec, signal) => place.alone(() => driver.start(spec, signal), signal),
    adopt: (sandbox) => driver.adopt(sandbox),
    validate: (spec) => driver.validate?.(spec),
    leave: async () => await driver.leave?.(),
  };
}

/**
 * Removes the directory of a program. What is mounted in it is the user's: nothing is removed before
 * all of it is unmounted.
 */
async function removeLeft(launcher: Launcher, directory: string): Promise<void> {
  const mounted: string[] = [];
  for (const pod of await namesIn(`${directory}/pods`)) {
    const share = `${directory}/pods/${pod}/share`;
    mounted.push(...(await namesIn(share)).map((name) => `${share}/${name}`));
  }
  if (mounted.length > 0) await new HostMounter(launcher).unmountAll(mounted);
  await Deno.remove(directory, { recursive: true });
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
