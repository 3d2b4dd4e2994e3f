/**
 * This host, for `quasaur doctor`: looks by Deno where that may, by cat(1) at what the kernel shows,
 * and by the sandboxers' own code at everything that is tried.
 *
 * @module
 */

import type { KindConfig } from "../../sandboxers/config/kind_config.ts";
import type { CommonConfig } from "../../sandboxers/config/kind_config.ts";
import { type HostFacts, Launcher } from "../../sandboxers/host/launcher.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { noLog } from "../../sandboxers/log.ts";
import { runscIdentity } from "../../sandboxers/quark/gvisor/choice_memory.ts";
import { choosePlatform } from "../../sandboxers/quark/gvisor/platform.ts";
import { runscProbe } from "../../sandboxers/quark/gvisor/probe.ts";
import { checkRunsc, runscVersion } from "../../sandboxers/quark/gvisor/runsc_version.ts";
import type { QuarkConfig } from "../../sandboxers/quark/config/config.ts";
import { chooseAccelerator } from "../../sandboxers/vmm/accelerator/accelerator.ts";
import { confinedStub } from "../../sandboxers/vmm/accelerator/qemu_stub.ts";
import type { VmmConfig } from "../../sandboxers/vmm/config/config.ts";
import { qemuVersion } from "../../sandboxers/vmm/qemu/version.ts";
import { confinedVmms } from "../../sandboxers/vmm/qemu/vmm_launcher.ts";
import { freeBytes } from "../../sandboxers/vmm/template/free_bytes.ts";
import { cniPlacesOf } from "./cni_places.ts";
import type { DoctorHost, PathKind, ReadConfiguration } from "./host.ts";

/** Shows files of /proc and /sys, which Deno reads only with all rights. */
const CAT = "/usr/bin/cat";
/** What the kernel shows. */
const KERNEL_FILES = /^\/(proc|sys)\//;

/** How long a program may take, in milliseconds. */
const RUN_MS = 10_000;
/** How long a try may take, in milliseconds. */
const TRY_MS = 60_000;
/** How long a sandboxer may take to answer, in milliseconds. */
const ANSWER_MS = 3_000;

/** What can be chosen. */
export interface ThisHostOptions {
  /** The vmm sandboxer's configuration file; default: its own, where that is there. */
  readonly vmmConfig?: string;
  /** The quark sandboxer's. */
  readonly quarkConfig?: string;
  /** containerd's configuration file. */
  readonly containerdConfig: string;
  /** Sockets of sandboxers; default: where they usually are. */
  readonly addresses: readonly string[];
}

/** This host. */
export function thisHost(options: ThisHostOptions): DoctorHost {
  const launcher = new Launcher();
  return {
    isSourceTree: /\/cli\/doctor\/this_host\.ts$/.test(import.meta.url) &&
      !Deno.build.standalone,
    uid: () => Deno.uid() ?? -1,
    readText,
    whatIsAt,
    list,
    freeBytes: (path) => freeBytes(path).catch(() => undefined),
    run,
    facts: () => launcher.facts(),
    wasmEdge,
    vmmConfig: async () => {
      const { VMM_CONFIG } = await import("../../sandboxers/vmm/config/load.ts");
      return readConfiguration(VMM_CONFIG, options.vmmConfig);
    },
    quarkConfig: async () => {
      const { QUARK_CONFIG } = await import("../../sandboxers/quark/config/load.ts");
      return readConfiguration(QUARK_CONFIG, options.quarkConfig);
    },
    qemu: (config) =>
      inPlace((directory) =>
        qemuVersion(
          confinedVmms(launcher, { diesWithParent: true }),
          config.hypervisor.path,
          directory,
        )
      ),
    tryMachine: (config, facts) => inPlace((dir) => tryMachine(launcher, config, facts, dir)),
    runsc: (program) => checkRunsc(program),
    tryRunsc: (config, facts) => inPlace((dir) => tryRunsc(launcher, config, facts, dir)),
    containerdSections: async (kinds) => {
      const { plan } = await import("../containerd/change.ts");
      const { pathText } = await import("../containerd/sections.ts");
      const wanted = { kinds, runDirectory: "/run/quasaur" };
      const planned = await plan(options.containerdConfig, wanted, false);
      return {
        file: options.containerdConfig,
        exists: planned.found.exists,
        missing: planned.added.map(({ path }) => pathText(path)),
        different: [...planned.differences, ...planned.foreign]
          .map(({ place, text }) => `${place}: ${text}`),
      };
    },
    cniPlaces: async () => cniPlacesOf(await readText(options.containerdConfig) ?? ""),
    sandboxers: () => sandboxers(options.addresses),
  };
}

async function readText(path: string): Promise<string | undefined> {
  if (KERNEL_FILES.test(path)) return await run(CAT, [path]);
  return await Deno.readTextFile(path).catch(() => undefined);
}

async function whatIsAt(path: string): Promise<PathKind | undefined> {
  try {
    const { isFile, isDirectory } = await Deno.stat(path);
    return isFile ? "file" : isDirectory ? "directory" : "other";
  } catch {
    return undefined;
  }
}

async function list(path: string): Promise<readonly string[]> {
  return await Array.fromAsync(Deno.readDir(path), ({ name }) => name).catch(() => []);
}

/** What a program writes; undefined where it is not there, fails or takes too long. */
async function run(program: string, args: readonly string[]): Promise<string | undefined> {
  try {
    const { success, stdout, stderr } = await new Deno.Command(program, {
      args: [...args],
      stdin: "null",
      clearEnv: true,
      signal: AbortSignal.timeout(RUN_MS),
    }).output();
    const decoder = new TextDecoder();
    return success ? decoder.decode(stdout) + decoder.decode(stderr) : undefined;
  } catch {
    return undefined;
  }
}

async function wasmEdge(): Promise<string> {
  const { WasmEdgeLibrary } = await import("../../sandboxers/wasm/wasmedge/library.ts");
  const { DEFAULT_LIBRARY_PATH } = await import("../../sandboxers/wasm/native/library.ts");
  return new WasmEdgeLibrary(DEFAULT_LIBRARY_PATH).version;
}

function readConfiguration<T extends CommonConfig>(
  kind: KindConfig<T>,
  file: string | undefined,
): ReadConfiguration<T> {
  try {
    return { config: kind.load(file === undefined ? {} : { file }) };
  } catch (error) {
    return { problem: SandboxError.from(error).message };
  }
}

/** Works in a directory that goes away at the end. */
async function inPlace<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = await Deno.makeTempDir({ dir: "/tmp", prefix: "quasaur-doctor-" });
  try {
    // Others than root may act there.
    await Deno.chmod(directory, 0o711);
    return await work(directory);
  } finally {
    await Deno.remove(directory, { recursive: true }).catch(() => undefined);
  }
}

async function tryMachine(
  launcher: Launcher,
  { hypervisor }: VmmConfig,
  facts: HostFacts,
  directory: string,
) {
  return await chooseAccelerator({
    wanted: hypervisor.accelerator,
    facts,
    hypervisor: "",
    runStub: confinedStub(launcher, hypervisor.path, { directory, user: undefined }),
    // Guests that stay need it, this one does not.
    measureTsc: () => Promise.resolve(0),
    memoryFile: `${directory}/accelerator.json`,
    log: noLog,
  }, AbortSignal.timeout(TRY_MS));
}

async function tryRunsc(
  launcher: Launcher,
  { gvisor }: QuarkConfig,
  facts: HostFacts,
  directory: string,
) {
  const { version } = await runscVersion(gvisor.path);
  return await choosePlatform({
    wanted: gvisor.platform,
    facts,
    runsc: await runscIdentity(gvisor.path, version),
    probe: runscProbe({ program: gvisor.path, launcher, directory: `${directory}/try` }),
    memoryFile: `${directory}/platform.json`,
    log: noLog,
  }, AbortSignal.timeout(TRY_MS));
}

async function sandboxers(addresses: readonly string[]) {
  const { DEFAULT_ADDRESSES, findSandboxers } = await import("../../sandboxers/client/find.ts");
  const { ManagementClient } = await import("../../sandboxers/client/management_client.ts");
  const asked = addresses.length > 0 ? addresses : Object.values(DEFAULT_ADDRESSES);
  const answers = await Promise.all(asked.map(async (address) => {
    // A socket that nobody has made is no sandboxer that is silent.
    if (addresses.length === 0 && await whatIsAt(address) === undefined) return [];
    try {
      await findSandboxers({ addresses: [address] });
      using client = new ManagementClient(address);
      const { kind, version } = await client.info({ timeoutMs: ANSWER_MS });
      return [{ address, kind, version }];
    } catch (error) {
      return [{ address, problem: SandboxError.from(error).message }];
    }
  }));
  return answers.flat();
}
