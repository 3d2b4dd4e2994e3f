/**
 * Runs many guests at the same time through the SDK, as a process of its own so that nobody else's
 * memory counts. Prints one line of JSON: {@link DensityReport}.
 *
 * Arguments: a directory with the module, how many guests. Its standard input must not end before it
 * does: the guests wait for it.
 *
 * @module
 */

import { type Container, open, type Sandbox } from "../../mod.ts";
import { DEFAULT_LIBRARY_PATH } from "../../sandboxers/wasm/native/library.ts";
import { System } from "../../sandboxers/wasm/native/system.ts";
import { processMemory } from "./process_memory.ts";

/** What the process found. */
export interface DensityReport {
  /** How many guests ran at the same time. */
  readonly running: number;
  /** From the first call until the last one ran, in milliseconds. */
  readonly startMs: number;
  /** Until all of them were killed and gone, in milliseconds. */
  readonly stopMs: number;
  /** What each has added to the memory, in KiB: the proportional share. */
  readonly guestKiB: number;
}

/** How many guests share a sandbox. */
const GUESTS_PER_SANDBOX = 100;

/** How many are started at the same time. */
const AT_ONCE = 16;

/** Before memory is read. */
const SETTLE_MS = 1_000;

async function main([directory = "", count = "1"]: readonly string[]): Promise<void> {
  // As a program would that runs so many: each guest holds some descriptors.
  new System(DEFAULT_LIBRARY_PATH).raiseOpenFileLimit();
  await using sandboxer = await open("wasm");
  const sandboxes: Sandbox[] = [];
  const containers: Container[] = [];
  let next = 0;
  const start = async (): Promise<void> => {
    const sandbox = sandboxes[next++ % sandboxes.length];
    if (sandbox === undefined) throw new Error("there are no sandboxes");
    containers.push(
      await sandbox.run({
        module: "/cat.wasm",
        rootfs: directory,
        // All wait for the same input, so that each holds as few descriptors as it can.
        stdin: "inherit",
        stdout: "inherit",
        stderr: "inherit",
      }),
    );
  };
  for (let index = 0; index < Number(count) / GUESTS_PER_SANDBOX; index++) {
    sandboxes.push(await sandboxer.createSandbox());
  }
  // The first guest brings what all of them use.
  await start();
  await settle();
  const before = await processMemory(Deno.pid);
  const begin = performance.now();
  let left = Number(count) - 1;
  const worker = async () => {
    while (left-- > 0) await start();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  const startMs = performance.now() - begin;
  await settle();
  const after = await processMemory(Deno.pid);
  const running = await runningGuests(sandboxes);
  const stopping = performance.now();
  await Promise.all(containers.map((container) => container[Symbol.asyncDispose]()));
  const report: DensityReport = {
    running,
    startMs,
    stopMs: performance.now() - stopping,
    guestKiB: (after.pssMiB - before.pssMiB) * 1024 / Math.max(running - 1, 1),
  };
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(report)}\n`));
}

async function runningGuests(sandboxes: readonly Sandbox[]): Promise<number> {
  const all = await Promise.all(sandboxes.map((sandbox) => sandbox.stats()));
  return all.reduce((sum, { pids }) => sum + pids, 0);
}

async function settle(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
}

if (import.meta.main) await main(Deno.args);
