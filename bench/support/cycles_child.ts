/**
 * Creates, runs and deletes containers again and again on a lifecycle of its own, as a process of its
 * own so that nobody else's memory counts. Prints one line of JSON: {@link CyclesReport}.
 *
 * Arguments: a directory for everything, how many cycles, after how many memory is first read.
 *
 * @module
 */

import { Sandboxer } from "../../sandboxers/lifecycle/sandboxer.ts";
import type { ContainerSpec } from "../../sandboxers/lifecycle/spec.ts";
import { FileStore } from "../../sandboxers/lifecycle/store.ts";
import { containerSpec, sandboxSpec } from "../../sandboxers/lifecycle/testing/specs.ts";
import { noLog } from "../../sandboxers/log.ts";
import { openEngineCache } from "../../sandboxers/wasm/compiled/open.ts";
import { WasmDriver } from "../../sandboxers/wasm/driver.ts";
import { SystemMounter } from "../../sandboxers/wasm/mounter.ts";
import { openResidentEngine } from "../../sandboxers/wasm/resident.ts";
import { leaks, type Snapshot, snapshot } from "../../tests/support/leaks.ts";
import { waitFor } from "../../tests/support/wait.ts";
import { guestPath } from "./guests.ts";
import { processMemory } from "./process_memory.ts";

/** What the process found about itself. */
export interface CyclesReport {
  /** The mean time of a cycle in milliseconds. */
  readonly cycleMs: number;
  /** How much more memory it has than after the first cycles, in MiB: the proportional share. */
  readonly grownMiB: number;
  /** The same of memory that belongs to no file. */
  readonly grownAnonymousMiB: number;
  /** What is there that was not there after the first cycles, in words. */
  readonly left: readonly string[];
}

/** How many cycles go on at the same time. */
const AT_ONCE = 4;

/** How long things that are gone may take to be gone, in milliseconds. */
const SETTLE_TIMEOUT_MS = 10_000;

/** The threads on which Deno reads files, this look at the process among them; they come and go. */
const POOL_THREAD = 'thread "tokio-runtime-w"';

/** Before memory is read, so that what V8 has not collected yet does not count. */
const COLLECT_ROUNDS = 5;

/** Runs cycles. */
class Cycles {
  #count = 0;

  constructor(readonly sandboxer: Sandboxer, readonly directory: string) {}

  async run(count: number): Promise<void> {
    const end = this.#count + count;
    const worker = async () => {
      while (this.#count < end) await this.#cycle(this.#count++);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  }

  async #cycle(number: number): Promise<void> {
    const { signal } = new AbortController();
    const id = `c-${number}`;
    const spec = this.#spec(id, `${this.directory}/roots/${number % (2 * AT_ONCE)}-${id}`);
    if (spec.rootfs.kind === "mounts") await Deno.mkdir(spec.rootfs.target);
    await this.sandboxer.createContainer(spec, signal);
    await this.sandboxer.startProcess(id, "", signal);
    const exit = await this.sandboxer.waitProcess(id, "", signal);
    if (exit.status !== 0) throw new Error(`cycle ${number} ended with status ${exit.status}`);
    await this.sandboxer.deleteProcess(id, "");
    if (spec.rootfs.kind === "mounts") await Deno.remove(spec.rootfs.target);
  }

  #spec(id: string, target: string): ContainerSpec {
    const mounts = [{ type: "bind", source: `${this.directory}/image`, options: ["rbind", "ro"] }];
    const spec = containerSpec(id, "bench", { rootfs: { kind: "mounts", target, mounts } });
    return { ...spec, process: { ...spec.process, args: ["/hello.wasm"] } };
  }
}

/** What this process holds; mappings are counted, as their addresses differ. */
async function look(directory: string): Promise<Snapshot> {
  return await snapshot({
    mountsBelow: [directory],
    filesBelow: [`${directory}/roots`, `${directory}/state`],
    pid: Deno.pid,
  });
}

/** How many mappings there are of files and devices: each has a name that does not change. */
async function namedMappings(): Promise<number> {
  const text = await Deno.readTextFile("/proc/self/maps");
  return text.split("\n").filter((line) => line.includes("/")).length;
}

/** Memory without what is only waiting to be collected. */
async function readMemory() {
  for (let round = 0; round < COLLECT_ROUNDS; round++) {
    const collect: unknown = Reflect.get(globalThis, "gc");
    if (typeof collect === "function") collect();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return await processMemory(Deno.pid);
}

async function main([directory = "", count = "1", first = "1"]: readonly string[]) {
  await Deno.mkdir(`${directory}/image`);
  await Deno.mkdir(`${directory}/roots`);
  await Deno.mkdir(`${directory}/cache`, { mode: 0o700 });
  await Deno.copyFile(guestPath("hello"), `${directory}/image/hello.wasm`);
  const cache = await openEngineCache(`${directory}/cache`);
  const engine = await openResidentEngine(noLog, cache);
  const sandboxer = new Sandboxer({
    driver: new WasmDriver({ engine, system: engine.system }),
    store: new FileStore(`${directory}/state`),
    mounter: new SystemMounter(),
  });
  await sandboxer.createSandbox(sandboxSpec("bench"));
  await sandboxer.startSandbox("bench");
  const cycles = new Cycles(sandboxer, directory);
  await cycles.run(Number(first));
  const before = { things: await look(directory), maps: await namedMappings() };
  const memory = await readMemory();
  const rest = Number(count) - Number(first);
  const begin = performance.now();
  await cycles.run(rest);
  const cycleMs = (performance.now() - begin) / Math.max(rest, 1);
  const left = await leftBehind(directory, before);
  const after = await readMemory();
  const report: CyclesReport = {
    cycleMs,
    grownMiB: after.pssMiB - memory.pssMiB,
    grownAnonymousMiB: after.anonymousMiB - memory.anonymousMiB,
    left,
  };
  await sandboxer.stopSandbox("bench", 0);
  await sandboxer.close();
  await engine.close();
  await cache.close();
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(report)}\n`));
}

/** What came to stay. Some of it goes away by itself, a moment later. */
async function leftBehind(
  directory: string,
  before: { readonly things: Snapshot; readonly maps: number },
): Promise<string[]> {
  let found: string[] = [];
  await waitFor("everything to be gone", async () => {
    const more = await namedMappings() - before.maps;
    found = [
      ...leaks(before.things, await look(directory)).filter((text) => !text.includes(POOL_THREAD)),
      ...more > 0 ? [`mapping: ${more} more`] : [],
    ];
    return found.length === 0;
  }, { timeoutMs: SETTLE_TIMEOUT_MS }).catch(() => {});
  return found;
}

if (import.meta.main) {
  await main(Deno.args);
  Deno.exit();
}
