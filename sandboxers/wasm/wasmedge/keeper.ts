/**
 * Keeps the engine's fault handlers in place. WasmEdge puts handlers for SIGSEGV, SIGBUS and SIGFPE
 * into force when the first compiled guest enters and takes them away when the last one leaves, by a
 * counter that is not safe against both at once: then a guest's trap would end the process. So one
 * compiled guest of our own is inside for as long as any other may be: it waits for input that
 * never comes.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { checkModule } from "../module_sections.ts";
import { sha256Now } from "../digest.ts";
import type { CompiledCode } from "./compiled_code.ts";
import { type GuestContext, WasmEdgeGuest } from "./instance.ts";
import type { WasmEdgeModule } from "./module.ts";

/**
 * The keeper: says in its memory that it runs, and reads from standard input until the end of it.
 *
 * ```wat
 * (module
 *   (import "wasi_snapshot_preview1" "fd_read"
 *     (func $fd_read (param i32 i32 i32 i32) (result i32)))
 *   (memory (export "memory") 1)
 *   (func (export "_start")
 *     (i32.store (i32.const 16) (i32.const 32)) ;; one buffer at 32 ...
 *     (i32.store (i32.const 20) (i32.const 1))  ;; ... of one byte
 *     (i32.store (i32.const 0) (i32.const 1))   ;; it runs
 *     (loop
 *       (br_if 0 (i32.eq (i32.const 27) ;; interrupted
 *         (call $fd_read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 24)))))))
 * ```
 */
// deno-fmt-ignore
export const KEEPER_MODULE: Uint8Array<ArrayBuffer> = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,             // magic and version
  0x01, 0x0c, 0x02,                                           // two types:
  0x60, 0x04, 0x7f, 0x7f, 0x7f, 0x7f, 0x01, 0x7f,             //   (i32, i32, i32, i32) -> i32
  0x60, 0x00, 0x00,                                           //   () -> ()
  0x02, 0x22, 0x01,                                           // one import:
  0x16, ...ascii("wasi_snapshot_preview1"),
  0x07, ...ascii("fd_read"), 0x00, 0x00,
  0x03, 0x02, 0x01, 0x01,                                     // one function of the second type
  0x05, 0x03, 0x01, 0x00, 0x01,                               // a memory of one page
  0x07, 0x13, 0x02,                                           // two exports:
  0x06, ...ascii("memory"), 0x02, 0x00,
  0x06, ...ascii("_start"), 0x00, 0x01,
  0x0a, 0x2b, 0x01, 0x29, 0x00,                               // its body, without locals:
  0x41, 0x10, 0x41, 0x20, 0x36, 0x02, 0x00,                   //   i32.store 16 <- 32
  0x41, 0x14, 0x41, 0x01, 0x36, 0x02, 0x00,                   //   i32.store 20 <- 1
  0x41, 0x00, 0x41, 0x01, 0x36, 0x02, 0x00,                   //   i32.store 0 <- 1
  0x03, 0x40,                                                 //   loop
  0x41, 0x1b,                                                 //     27
  0x41, 0x00, 0x41, 0x10, 0x41, 0x01, 0x41, 0x18, 0x10, 0x00, //     fd_read(0, 16, 1, 24)
  0x46, 0x0d, 0x00,                                           //     br_if 0 where they are equal
  0x0b, 0x0b,                                                 //   end, end
]);

/** Where the keeper writes 1 when it runs. */
const RUNNING_OFFSET = 0n;
/** How long it may take to begin to run, which takes microseconds on an idle machine. */
const RUNNING_POLLS_MAX = 5_000;

/** The compiled guest that stays. One for an engine. */
export class Keeper {
  readonly #context: GuestContext;
  readonly #code: CompiledCode;
  readonly #checked = checkModule(KEEPER_MODULE);
  readonly #digest = sha256Now(KEEPER_MODULE);
  #running: AsyncDisposable | undefined;
  #starting: Promise<boolean> | undefined;
  /** Set when it is closed, and when it cannot be had on this machine. */
  #over = false;

  /**
   * Does nothing yet.
   *
   * @param context What guests share.
   * @param code Where the keeper's own compiled code comes from.
   */
  constructor(context: GuestContext, code: CompiledCode) {
    this.#context = context;
    this.#code = code;
  }

  /** Whether it runs. */
  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** Whether it runs, or may be brought to. Costs no access to the disk. */
  get isDue(): boolean {
    return this.isRunning || !this.#over && this.#code.isDue(this.#digest);
  }

  /**
   * Sees to it that the keeper runs; never fails.
   *
   * @returns Whether it does, so that other compiled guests may run. Where its own compiled code is
   *   not there yet, it was asked for, and this is to be asked again.
   */
  async ready(): Promise<boolean> {
    if (this.#running !== undefined) return true;
    if (!this.isDue) return false;
    this.#starting ??= this.#start().finally(() => this.#starting = undefined);
    return await this.#starting;
  }

  /** Ends the keeper. No compiled guest may be left. */
  async close(): Promise<void> {
    this.#over = true;
    await this.#starting;
    const running = this.#running;
    this.#running = undefined;
    await running?.[Symbol.asyncDispose]();
  }

  async #start(): Promise<boolean> {
    const module = await this.#code.load(this.#digest, this.#checked.shape);
    if (module === undefined) {
      this.#code.request(this.#digest, this.#checked.bytes);
      return false;
    }
    try {
      this.#running = await runKeeper(this.#context, module);
      return true;
    } catch (error) {
      if (!(error instanceof SandboxError)) throw error;
      // Without it guests are interpreted; trying again would fail again.
      this.#over = true;
      return false;
    }
  }
}

/**
 * Starts the keeper's guest and pins the handlers.
 *
 * @param module Owned by what is returned.
 */
async function runKeeper(context: GuestContext, module: WasmEdgeModule): Promise<AsyncDisposable> {
  const { system, threads } = context;
  await using release = new AsyncDisposableStack();
  release.use(module);
  const [readFd, writeFd] = system.pipe();
  release.defer(() => system.close(readFd));
  using input = new DisposableStack();
  input.defer(() => system.close(writeFd));
  const guest = release.use(
    await WasmEdgeGuest.create(context, module, {
      args: ["keeper"],
      env: [],
      preopens: [],
      stdin: readFd,
      stdout: readFd,
      stderr: readFd,
    }, () => undefined),
  );
  await guest.start({ name: "w-keeper", steps: [] });
  const stop = input.move();
  release.defer(async () => {
    stop.dispose();
    await guest.ended;
  });
  await untilRunning(guest);
  threads.pinFaultHandlers();
  return release.move();
}

/** The thread has begun; the engine's handlers are there when the guest's own code runs. */
async function untilRunning(guest: WasmEdgeGuest): Promise<void> {
  for (let i = 0; i < RUNNING_POLLS_MAX; i++) {
    if (guest.memoryByte(RUNNING_OFFSET) === 1) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new SandboxError("Internal", "cannot run compiled code: its keeper does not run");
}

function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
