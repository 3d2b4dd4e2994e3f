/**
 * A program that uses the SDK hard and tells what this process holds before and after: run as a
 * child by tests, where nothing else opens files or starts threads.
 *
 * @module
 */

import { open, type RunOptions, type Sandboxer } from "../../../mod.ts";
import { GUESTS_BUILD_DIR } from "../../../tests/guests/build.ts";

/** Threads that the runtime starts and ends as it likes, for file operations. */
const POOL_THREAD = "tokio-";

/** What a process holds. */
export interface Held {
  /** What its descriptors refer to, sorted; numbers in names left out. */
  readonly descriptors: readonly string[];
  /** Names of threads, sorted; those of the runtime's pool left out. */
  readonly threads: readonly string[];
  /** Names in the directory for temporary files. */
  readonly files: readonly string[];
}

/** How the containers of one round are left. */
const ROUNDS: readonly ((sandboxer: Sandboxer) => Promise<void>)[] = [
  // Read to the end.
  (sandboxer) =>
    inSandbox(sandboxer, guest("hello"), async (run) => void await (await run()).output()),
  // Never read, ended by itself.
  (sandboxer) => inSandbox(sandboxer, guest("hello"), async (run) => void await (await run()).exit),
  // Never read, waits on a full pipe.
  (sandboxer) => inSandbox(sandboxer, { ...guest("lines"), args: ["100000"] }, readALittle),
  // Waits for input that never comes; computes; sleeps.
  (sandboxer) =>
    inSandbox(sandboxer, { ...guest("cat"), stdin: "piped" }, async (run) => void await run()),
  (sandboxer) => inSandbox(sandboxer, guest("spin"), async (run) => void await run()),
  (sandboxer) => inSandbox(sandboxer, guest("sleep"), async (run) => void await run()),
  // Could not be started.
  (sandboxer) =>
    inSandbox(
      sandboxer,
      { module: new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]) },
      async (run) => {
        await run().catch(() => undefined);
      },
    ),
];

function guest(name: string): RunOptions {
  return { module: `${GUESTS_BUILD_DIR}/${name}.wasm`, env: { ID: "a" } };
}

type Run = () => ReturnType<Awaited<ReturnType<Sandboxer["createSandbox"]>>["run"]>;

async function inSandbox(
  sandboxer: Sandboxer,
  options: RunOptions,
  use: (run: Run) => Promise<void>,
): Promise<void> {
  await using sandbox = await sandboxer.createSandbox();
  await use(() => sandbox.run(options));
}

async function readALittle(run: Run): Promise<void> {
  const container = await run();
  const reader = container.stdout.getReader();
  await reader.read();
  reader.releaseLock();
}

async function everyRound(temporaryDirectory: string): Promise<void> {
  await using sandboxer = await open("wasm", { temporaryDirectory });
  for (const round of ROUNDS) await round(sandboxer);
}

async function held(temporaryDirectory: string): Promise<Held> {
  const files = await Array.fromAsync(Deno.readDir(temporaryDirectory), ({ name }) => name);
  return { ...heldNow(), files };
}

/** At one moment: without asking another thread, which would be one more. */
function heldNow(): Omit<Held, "files"> {
  const descriptors: string[] = [];
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    const target = linkTarget(`/proc/self/fd/${name}`);
    if (target !== undefined) descriptors.push(target.replace(/\d+/g, "N"));
  }
  const names = [...Deno.readDirSync("/proc/self/task")].map(({ name }) => threadName(name));
  const threads = names.filter((name) => !name.startsWith(POOL_THREAD)).sort();
  return { descriptors: descriptors.sort(), threads };
}

function threadName(id: string): string {
  return Deno.readTextFileSync(`/proc/self/task/${id}/comm`).trim();
}

/** Undefined for the descriptor that reads the list itself. */
function linkTarget(path: string): string | undefined {
  try {
    const target = Deno.readLinkSync(path);
    return target.startsWith("/proc/") ? undefined : target;
  } catch {
    return undefined;
  }
}

/** Until two looks in a row are the same: threads that were told to end take a moment to do so. */
async function settled(temporaryDirectory: string): Promise<Held> {
  let before = await held(temporaryDirectory);
  for (let look = 0; look < 50; look++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const now = await held(temporaryDirectory);
    if (JSON.stringify(now) === JSON.stringify(before)) return now;
    before = now;
  }
  return before;
}

if (import.meta.main) {
  const [directory = "", rounds = "3"] = Deno.args;
  // The runtime starts its thread for signals when it first needs one, which is hard to foretell.
  const ignore = (): void => undefined;
  Deno.addSignalListener("SIGUSR2", ignore);
  Deno.removeSignalListener("SIGUSR2", ignore);
  // What is loaded once and stays (the engine, worker threads of the runtime) is there after one go.
  await everyRound(directory);
  const before = await settled(directory);
  for (let i = 0; i < Number(rounds); i++) await everyRound(directory);
  const after = await settled(directory);
  await Deno.stdout.write(new TextEncoder().encode(JSON.stringify({ before, after })));
}
