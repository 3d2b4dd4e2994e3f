/**
 * What tests of any engine share: pipes that are read to their end, and guests that are run to
 * theirs. Unlike fixture.ts it opens no engine by itself.
 *
 * @module
 */

import { Socket } from "node:net";
import { buildGuests, type GuestName, GUESTS_BUILD_DIR } from "../../../tests/guests/build.ts";
import type { Engine, GuestEnd, GuestOptions, GuestThreadOptions } from "../engine.ts";
import { OPEN } from "../native/syscalls.ts";
import type { System } from "../native/system.ts";

/** An engine with the system calls that go with it. */
export type TestedEngine = Engine & { readonly system: System };

/** Rounds that {@link until} looks, 5 ms apart. */
const LOOKS_MAX = 4_000;

/** The bytes of a guest, built where it is missing. */
export async function guestBytes(name: GuestName): Promise<Uint8Array<ArrayBuffer>> {
  const path = `${GUESTS_BUILD_DIR}/${name}.wasm`;
  const bytes = await Deno.readFile(path).catch(() => undefined);
  if (bytes !== undefined) return bytes;
  await buildGuests();
  return await Deno.readFile(path);
}

/** A pipe whose text is collected. */
export interface CollectedPipe extends Disposable {
  /** The end to write to; closed by disposal. */
  readonly fd: number;
  /** All that was written, once every write end is closed. */
  readonly text: Promise<string>;
}

/** Makes a pipe whose text is collected. */
export function collectedPipe(system: System): CollectedPipe {
  const [readFd, fd] = system.pipe();
  const socket = new Socket({ fd: readFd, readable: true, writable: false });
  const decoder = new TextDecoder();
  let all = "";
  const text = new Promise<string>((resolve, reject) => {
    socket.on("data", (chunk: Uint8Array) => all += decoder.decode(chunk, { stream: true }));
    socket.on("error", reject);
    socket.on("close", () => resolve(all));
  });
  let open = true;
  const close = (): void => {
    if (open) system.close(fd);
    open = false;
  };
  return { fd, text, [Symbol.dispose]: close };
}

/** The null device, open for both. */
export function nullDevice(system: System): Disposable & { readonly fd: number } {
  const fd = system.open("/dev/null", OPEN.readWrite, "the null device");
  return { fd, [Symbol.dispose]: () => system.close(fd) };
}

/** A directory for a guest; removed when disposed of. */
export async function guestDirectory(
  system: System,
): Promise<AsyncDisposable & { readonly path: string; readonly fd: number }> {
  const path = await Deno.makeTempDir({ prefix: "quasaur-engine-" });
  const fd = system.open(path, OPEN.path | OPEN.directory, "the directory");
  return {
    path,
    fd,
    async [Symbol.asyncDispose]() {
      system.close(fd);
      await Deno.remove(path, { recursive: true });
    },
  };
}

/** How a guest ended, and what it wrote. */
export interface GuestRun {
  /** How it ended. */
  readonly end: GuestEnd;
  /** What it wrote to standard output. */
  readonly stdout: string;
  /** What it wrote to standard error. */
  readonly stderr: string;
}

/** Runs a guest to its end, with an empty stdin unless `options` say otherwise. */
export async function runGuest(
  engine: TestedEngine,
  bytes: Uint8Array<ArrayBuffer>,
  options: Partial<GuestOptions> = {},
  thread: Partial<GuestThreadOptions> = {},
): Promise<GuestRun> {
  const { system } = engine;
  using empty = nullDevice(system);
  using out = collectedPipe(system);
  using err = collectedPipe(system);
  try {
    using module = await engine.load(bytes);
    using guest = await engine.instantiate(module, {
      args: ["guest"],
      env: [],
      preopens: [],
      stdin: empty.fd,
      stdout: out.fd,
      stderr: err.fd,
      ...options,
    });
    await guest.start({ name: "test", steps: [], ...thread });
    const end = await guest.ended;
    out[Symbol.dispose]();
    err[Symbol.dispose]();
    return { end, stdout: await out.text, stderr: await err.text };
  } finally {
    out[Symbol.dispose]();
    err[Symbol.dispose]();
    await Promise.all([out.text, err.text]);
  }
}

/** Waits until a condition holds; fails after 20 seconds. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  for (let i = 0; i < LOOKS_MAX; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`Still not: ${what}`);
}

/** What a thread of this process does: `R` runs, `S` waits; undefined when it is gone. */
export function threadState(tid: number): string | undefined {
  try {
    return Deno.readTextFileSync(`/proc/self/task/${tid}/stat`).split(") ")[1]?.[0];
  } catch {
    return undefined;
  }
}

/** A module from its sections, each `[id, ...content]` with fewer than 128 bytes. */
export function moduleOf(...sections: readonly (readonly number[])[]): Uint8Array<ArrayBuffer> {
  const bytes = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
  for (const [id = 0, ...content] of sections) bytes.push(id, content.length, ...content);
  return new Uint8Array(bytes);
}

/** Bytes of a name with its length, as modules hold them. */
export function nameOf(text: string): number[] {
  const bytes = new TextEncoder().encode(text);
  return [bytes.length, ...bytes];
}

/** Sections of the smallest module that runs: one function `_start` that does nothing. */
export const SECTIONS = {
  /** One type: no parameters, no results. */
  type: [1, 1, 0x60, 0, 0],
  /** One function of that type. */
  function: [3, 1, 0],
  /** It is exported as `_start`. */
  export: [7, 1, ...nameOf("_start"), 0, 0],
  /** It returns. */
  code: [10, 1, 2, 0, 0x0b],
} as const;
