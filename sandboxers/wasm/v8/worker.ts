/// <reference lib="deno.worker" />
/**
 * The thread of one guest: makes its settings, makes an instance of the module, runs it to its end,
 * and tells. It does nothing else and serves one guest only.
 *
 * @module
 */

import type { GuestEnd } from "../engine.ts";
import type { RunMessage, ThreadMessage } from "./messages.ts";
import { STOP_MEMORY } from "./rewrite.ts";
import { SharedState, Stopped } from "./shared_state.ts";
import { applySettings } from "./thread_settings.ts";
import { WASI_MODULE } from "./wasi/abi.ts";
import { Calls } from "./wasi/calls.ts";
import { Descriptors } from "./wasi/descriptors.ts";
import { GuestMemory } from "./wasi/guest_memory.ts";
import { wasiImports } from "./wasi/imports.ts";
import { GuestExit } from "./wasi/process_functions.ts";

/** clock_gettime(2): CPU time of the calling thread. */
const CLOCK_THREAD_CPUTIME = 3;

self.onmessage = ({ data }: MessageEvent<RunMessage>) => run(data);

function tell(message: ThreadMessage): void {
  self.postMessage(message);
}

function run(request: RunMessage): void {
  const state = new SharedState(request.state);
  const calls = new Calls(request.libraryPath, () => {
    if (state.stopped) throw new Stopped();
  });
  const threadId = calls.threadId();
  state.threadId = threadId;
  const refused = applySettings(request.libraryPath, request);
  if (refused !== undefined) return tell({ kind: "refused", ...refused });
  const memory = new GuestMemory();
  const { args, env } = request;
  const { stdio, preopens, descriptorsMax } = request;
  const descriptors = new Descriptors(calls, stdio, preopens, descriptorsMax);
  const imports = wasiImports({ args, env, memory, descriptors, calls }, state);
  const instance = instantiate(request.module, imports, memory);
  if ("kind" in instance) return tell(instance);
  const { start, stop } = instance;
  state.linearBytes = memory.sizeBytes;
  state.cpuBeginNs = calls.now(CLOCK_THREAD_CPUTIME);
  tell({ kind: "running", threadId, stop });
  const end = runToEnd(start, state);
  descriptors.closeAll();
  state.cpuEndNs = calls.now(CLOCK_THREAD_CPUTIME);
  state.linearBytes = memory.sizeBytes;
  tell({ kind: "ended", end });
}

/** What is needed of an instance. */
interface Instance {
  /** Runs the guest. */
  readonly start: () => void;
  /** The memory that stops it. */
  readonly stop: SharedArrayBuffer;
}

/** Makes an instance, or says why there is none. */
function instantiate(
  module: WebAssembly.Module,
  imports: WebAssembly.ModuleImports,
  memory: GuestMemory,
): Instance | Extract<ThreadMessage, { kind: "invalid" }> {
  const invalid = (reason: string, outOfMemory = false) =>
    ({ kind: "invalid", reason, outOfMemory }) as const;
  try {
    const { exports } = new WebAssembly.Instance(module, { [WASI_MODULE]: imports });
    if (exports.memory instanceof WebAssembly.Memory) memory.attach(exports.memory);
    const { _start: start, [STOP_MEMORY]: stop } = exports;
    if (!(stop instanceof WebAssembly.Memory) || !(stop.buffer instanceof SharedArrayBuffer)) {
      return invalid("it cannot be stopped");
    }
    if (typeof start === "function" && start.length === 0) {
      return { start: () => void start(), stop: stop.buffer };
    }
    return invalid('its function "_start" has parameters: it must have none');
  } catch (error) {
    return invalid(words(error), error instanceof RangeError);
  }
}

function runToEnd(start: () => void, state: SharedState): GuestEnd {
  try {
    start();
    return state.stopped ? { kind: "killed" } : { kind: "exit", code: 0 };
  } catch (error) {
    if (error instanceof GuestExit) return { kind: "exit", code: error.code };
    if (error instanceof Stopped || state.stopped) return { kind: "killed" };
    return { kind: "trap", message: trapWords(error) };
  }
}

function trapWords(error: unknown): string {
  // V8's own stack, not the guest's linear memory.
  if (error instanceof RangeError && /call stack/i.test(error.message)) {
    return "call stack exhausted";
  }
  return words(error);
}

function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
