/**
 * The wasm kind, embedded: guests run on threads of this process.
 *
 * @module
 */

import { resolve } from "node:path";
import type { Mounter } from "../lifecycle/mounter.ts";
import { type Log, noLog } from "../log.ts";
import type { CompiledCache } from "../wasm/compiled/cache.ts";
import { openEngineCache, SYSTEM_CACHE_DIRECTORY } from "../wasm/compiled/open.ts";
import { Cgroups } from "../wasm/cgroups/cgroups.ts";
import { SystemCgroupFiles } from "../wasm/cgroups/files.ts";
import { WasmDriver } from "../wasm/driver.ts";
import { assertModuleHeader } from "../wasm/module_bytes.ts";
import { SystemMounter } from "../wasm/mounter.ts";
import type { System } from "../wasm/native/system.ts";
import type { OpenOptions } from "./api.ts";
import type { EmbeddedKind } from "./kind.ts";
import { unmountLeftOverlays } from "./overlay_rootfs.ts";
import { openEmbeddedEngine } from "./wasm_engine.ts";
import { openWorkplace, userDirectory, type Workplace } from "./workplace.ts";

const ROOT = 0;

/**
 * Opens the engine and makes a driver on it.
 *
 * @param options Which engine, and where compiled code is.
 * @throws {SandboxError} `FailedPrecondition` when the engine or the guest library is missing.
 */
export async function loadWasm(options: OpenOptions = {}): Promise<EmbeddedKind> {
  const { engine, compiled } = await openEmbeddedEngine({
    ...options,
    openCache: () => openCache(options),
  });
  const { system } = engine;
  const mounting = await mayMount()
    ? new Mounting(new SystemMounter(system.libraryPath))
    : undefined;
  return {
    driver: new WasmDriver({ engine, system, cgroups: cgroupsOf(system, options) }),
    descriptors: system,
    checkModule: assertModuleHeader,
    ...(mounting && { mounter: mounting.mounter, directory: () => mounting.directory() }),
    async [Symbol.asyncDispose]() {
      await mounting?.close();
      await engine.close();
      await compiled?.close();
    },
  };
}

/** Whether this program is one of root's, as far as it may know. */
async function mayMount(): Promise<boolean> {
  const { state } = await Deno.permissions.query({ name: "sys", kind: "uid" });
  return state === "granted" && Deno.uid() === ROOT;
}

/** Where overlays are mounted, once there is one. */
class Mounting {
  readonly mounter: Mounter;
  #place: Promise<Workplace> | undefined;

  constructor(mounter: Mounter) {
    this.mounter = mounter;
  }

  async directory(): Promise<string> {
    return (await (this.#place ??= this.#open())).directory;
  }

  async #open(): Promise<Workplace> {
    return await openWorkplace(userDirectory(ROOT, "wasm"), ROOT, async (left) => {
      await unmountLeftOverlays(left, this.mounter);
      await Deno.remove(left, { recursive: true });
    });
  }

  async close(): Promise<void> {
    await (await this.#place?.catch(() => undefined))?.[Symbol.asyncDispose]();
  }
}

/** Programs are seldom allowed to make cgroups: then limits that take one are told, and not kept. */
function cgroupsOf(system: System, { onWarning }: OpenOptions): Cgroups {
  return new Cgroups({
    files: new SystemCgroupFiles(system, system.libraryPath),
    log: { ...noLog, warn: onWarning ?? noLog.warn },
    unavailable: "note",
    // Sandboxes of several programs may have the same name.
    directory: `quasaur-${Deno.pid}`,
  });
}

/** The directory that was asked for, or a look into the system's. */
async function openCache(options: OpenOptions): Promise<CompiledCache | undefined> {
  const { cacheDirectory, onWarning } = options;
  if (cacheDirectory !== undefined) {
    const log: Log = { ...noLog, warn: onWarning ?? noLog.warn };
    return await openEngineCache(resolve(cacheDirectory), { log });
  }
  if (!await mayUse(SYSTEM_CACHE_DIRECTORY)) return undefined;
  return await openEngineCache(SYSTEM_CACHE_DIRECTORY, { compile: false });
}

/** Whether a directory is there and this program may use it, without anybody being asked. */
async function mayUse(path: string): Promise<boolean> {
  for (const name of ["read", "write"] as const) {
    const { state } = await Deno.permissions.query({ name, path });
    if (state !== "granted") return false;
  }
  try {
    // Only who may look into it finds an entry.
    for await (const _ of Deno.readDir(path)) return true;
  } catch {
    // Not there, or another user's.
  }
  return false;
}
