/**
 * What the tests of the wasm sandboxer share: one engine, built guests, specs, and pipes that are
 * read by the event loop.
 *
 * @module
 */

import { Socket, type SocketConstructorOpts } from "node:net";
import { buildGuests, type GuestName, GUESTS, GUESTS_BUILD_DIR } from "../../tests/guests/build.ts";
import { concat } from "../bytes.ts";
import type { ContainerSpec, SandboxSpec, StdioSpec, StreamSpec } from "../lifecycle/spec.ts";
import { sandboxSpec as plainSandboxSpec } from "../lifecycle/testing/specs.ts";
import type { GuestEnd, GuestOptions } from "./engine.ts";
import { buildNative } from "./native/build.ts";
import { DEFAULT_LIBRARY_PATH } from "./native/library.ts";
import { OPEN } from "./native/syscalls.ts";
import type { System } from "./native/system.ts";
import { WasmEdgeEngine } from "./wasmedge/engine.ts";

await ensureBuilt();

/** The engine of all tests in a file: opened once, outside of every test. */
export const engine: WasmEdgeEngine = new WasmEdgeEngine();
/** System calls. */
export const system: System = engine.system;
/** A signal that nobody aborts. */
export const signal: AbortSignal = new AbortController().signal;

/** Builds what `set-up` builds, where it has not run. */
async function ensureBuilt(): Promise<void> {
  if (!(await exists(DEFAULT_LIBRARY_PATH))) {
    await buildNative({ outDir: DEFAULT_LIBRARY_PATH.replace(/\/[^/]*$/, "") });
  }
  const built = await Promise.all(GUESTS.map((name) => exists(`${GUESTS_BUILD_DIR}/${name}.wasm`)));
  if (built.includes(false)) await buildGuests();
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** The bytes of a built guest. */
export async function guestBytes(name: GuestName): Promise<Uint8Array<ArrayBuffer>> {
  return await Deno.readFile(`${GUESTS_BUILD_DIR}/${name}.wasm`);
}

/** Collects what arrives at the read end of a pipe or FIFO until its end; then it is closed. */
export function collect(fd: number): Promise<string> {
  const options: SocketConstructorOpts = { fd, readable: true, writable: false };
  const socket = new Socket(options);
  const chunks: Uint8Array[] = [];
  return new Promise((resolve, reject) => {
    socket.on("data", (chunk: Uint8Array) => chunks.push(chunk));
    socket.on("error", reject);
    socket.on("close", () => resolve(new TextDecoder().decode(concat(chunks))));
  });
}

/** A pipe whose text is collected; `close` is for the writer's side. */
export interface CollectedPipe {
  /** The end to write to. */
  readonly writeFd: number;
  /** All that was written, once every write end is closed. */
  readonly text: Promise<string>;
  /** Closes the write end. */
  close(): void;
}

/** Makes a pipe whose text is collected. */
export function collectedPipe(): CollectedPipe {
  const [readFd, writeFd] = system.pipe();
  return { writeFd, text: collect(readFd), close: () => system.close(writeFd) };
}

/** How a guest that was run by {@link runGuest} ended, with its output. */
export interface GuestRun {
  /** How it ended. */
  readonly end: GuestEnd;
  /** What it wrote to standard output. */
  readonly stdout: string;
  /** What it wrote to standard error. */
  readonly stderr: string;
}

/** Runs a guest to its end on the engine, with empty stdin unless `options` says otherwise. */
export async function runGuest(
  bytes: Uint8Array<ArrayBuffer>,
  options: Partial<GuestOptions> = {},
): Promise<GuestRun> {
  const out = collectedPipe();
  const err = collectedPipe();
  const empty = system.open("/dev/null", OPEN.readOnly, "stdin");
  try {
    using module = await engine.load(bytes);
    using guest = await engine.instantiate(module, {
      args: ["guest"],
      env: [],
      preopens: [],
      stdin: empty,
      stdout: out.writeFd,
      stderr: err.writeFd,
      ...options,
    });
    await guest.start({ name: "test", steps: [] });
    const end = await guest.ended;
    out.close();
    err.close();
    return { end, stdout: await out.text, stderr: await err.text };
  } catch (error) {
    out.close();
    err.close();
    await Promise.all([out.text, err.text]);
    throw error;
  } finally {
    system.close(empty);
  }
}

/** A sandbox with the host's network. */
export function sandboxSpec(more: Partial<SandboxSpec> = {}): SandboxSpec {
  return plainSandboxSpec("pod", { namespace: "test", ...more });
}

/** Standard streams that go nowhere, but for those given. */
export function stdioSpec(
  more: { readonly [name in "stdin" | "stdout" | "stderr"]?: StreamSpec } = {},
): StdioSpec {
  const nowhere: StreamSpec = { kind: "null" };
  return { stdin: nowhere, stdout: nowhere, stderr: nowhere, terminal: false, ...more };
}

/** A container that runs `args` from a directory. */
export function containerSpec(
  rootfs: string,
  args: readonly string[],
  more: Partial<ContainerSpec> = {},
): ContainerSpec {
  return {
    id: "container",
    sandboxId: "pod",
    bundle: "",
    rootfs: { kind: "directory", path: rootfs },
    readonlyRootfs: false,
    process: {
      args,
      env: [],
      cwd: "/",
      user: { uid: 0, gid: 0, additionalGids: [] },
    },
    mounts: [],
    stdio: stdioSpec(),
    resources: {},
    annotations: {},
    ...more,
  };
}

/** A directory with the built guests in it as `/<name>.wasm`; removed when disposed of. */
export async function guestRootfs(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await Deno.makeTempDir({ prefix: "quasaur-rootfs-" });
  for (const name of GUESTS) {
    await Deno.copyFile(`${GUESTS_BUILD_DIR}/${name}.wasm`, `${path}/${name}.wasm`);
  }
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** Makes a FIFO by mkfifo(1). */
export async function makeFifo(path: string): Promise<void> {
  const { success } = await new Deno.Command("mkfifo", { args: [path] }).output();
  if (!success) throw new Error(`cannot make the FIFO "${path}"`);
}

/** Opens the read end of a FIFO without waiting for a writer. */
export function openFifoReader(path: string): number {
  return system.open(path, OPEN.readOnly | OPEN.nonblocking, "the FIFO");
}

/** How many descriptors and threads this process has. */
export function usage(): { readonly fds: number; readonly threads: number } {
  return {
    fds: [...Deno.readDirSync("/proc/self/fd")].length,
    threads: [...Deno.readDirSync("/proc/self/task")].filter(({ name }) => !isStarter(name)).length,
  };
}

/** Whether a thread starts others: a bounded number of these are made as they are needed, and stay. */
function isStarter(tid: string): boolean {
  try {
    return Deno.readTextFileSync(`/proc/self/task/${tid}/comm`).trim() === "quasaur-starter";
  } catch {
    return false;
  }
}

/** Waits until a condition holds; fails after 20 seconds. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  for (let i = 0; i < 4_000; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`Still not: ${what}`);
}
