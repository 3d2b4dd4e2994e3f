/**
 * Runs the compiler: a process of the launcher's for each module, which confines itself before it
 * reads the module (see native/launcher_compile.c), and which is killed when it takes too long.
 *
 * @module
 */

import { DEFAULT_LAUNCHER_PATH } from "../native/launcher_file.ts";
import type { CompileOptions } from "../wasmedge/compile_options.ts";

/** Bounds of one compile. */
export interface CompileLimits {
  /** Longest time on the clock, in milliseconds. */
  readonly wallMs: number;
  /** Most CPU time in seconds. */
  readonly cpuSeconds: number;
  /** Most memory of the compiler in bytes. */
  readonly memoryBytes: number;
  /** Largest module in bytes. */
  readonly moduleBytes: number;
  /** Largest library in bytes. */
  readonly libraryBytes: number;
}

/** The bounds that hold where nothing else is said. */
export const COMPILE_LIMITS: CompileLimits = {
  // Its CPU time is what is left over by all others, so the clock may run for longer.
  wallMs: 900_000,
  cpuSeconds: 300,
  memoryBytes: 2_147_483_648,
  moduleBytes: 268_435_456,
  libraryBytes: 536_870_912,
};

/** How a compile ended. */
export type CompileOutcome =
  /** The sink has got the library. */
  | { readonly kind: "compiled" }
  /** It would end like this again; the reason is for people. */
  | { readonly kind: "failed"; readonly reason: string }
  /** It is not the module's fault. */
  | { readonly kind: "unavailable"; readonly reason: string };

/** Takes the library piece by piece. */
export interface LibrarySink {
  /** Takes the next piece. */
  write(chunk: Uint8Array): Promise<void>;
}

/** Compiles modules. */
export interface Compiler {
  /**
   * Compiles a module; rejects only with what the sink throws.
   *
   * @param module Its bytes.
   * @param sink Gets the library. Without the outcome `compiled` it is worth nothing.
   * @param signal Aborting it kills the compiler; the outcome is `unavailable` then.
   */
  compile(
    module: Uint8Array<ArrayBuffer>,
    sink: LibrarySink,
    signal: AbortSignal,
  ): Promise<CompileOutcome>;
}

/** Options of {@link LauncherCompiler}. */
export interface LauncherCompilerOptions {
  /** How to compile. */
  readonly options: CompileOptions;
  /** Bounds that differ from {@link COMPILE_LIMITS}. */
  readonly limits?: Partial<CompileLimits>;
  /** The launcher; default: beside the source. */
  readonly launcher?: string;
}

/** Exit statuses that are the module's fault: 4 to 8, see launcher.h. */
const MODULE_STATUS_MIN = 4;
const MODULE_STATUS_MAX = 8;
/** How much of what it says is kept, in bytes. */
const WORDS_BYTES_MAX = 8_192;
/** Longest reason, in characters. */
const REASON_LENGTH_MAX = 300;

/** Compiles with the launcher. */
export class LauncherCompiler implements Compiler {
  readonly #launcher: string;
  readonly #limits: CompileLimits;
  readonly #args: readonly string[];

  /** Nothing runs yet. */
  constructor({ options, limits, launcher = DEFAULT_LAUNCHER_PATH }: LauncherCompilerOptions) {
    this.#launcher = launcher;
    this.#limits = { ...COMPILE_LIMITS, ...limits };
    const { cpuSeconds, memoryBytes, moduleBytes, libraryBytes } = this.#limits;
    this.#args = [
      "compile",
      `--optimize=${options.optimizationLevel}`,
      `--interruptible=${options.interruptible ? 1 : 0}`,
      `--cpu-seconds-max=${cpuSeconds}`,
      `--memory-bytes-max=${memoryBytes}`,
      `--module-bytes-max=${moduleBytes}`,
      `--library-bytes-max=${libraryBytes}`,
    ];
  }

  /** See {@link Compiler.compile}. */
  async compile(
    module: Uint8Array<ArrayBuffer>,
    sink: LibrarySink,
    signal: AbortSignal,
  ): Promise<CompileOutcome> {
    const { wallMs, moduleBytes } = this.#limits;
    if (module.length > moduleBytes) {
      return failed(`it has ${module.length} bytes: most are ${moduleBytes}`);
    }
    let child: Deno.ChildProcess;
    try {
      child = this.#spawn();
    } catch (error) {
      const words = error instanceof Error ? error.message : String(error);
      return { kind: "unavailable", reason: `cannot start "${this.#launcher}": ${words}` };
    }
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      kill(child);
    }, wallMs);
    const onAbort = () => kill(child);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      const { status, words, isWhole } = await this.#follow(child, module, sink);
      if (signal.aborted) return { kind: "unavailable", reason: "it was given up" };
      if (isLate) return failed(`it takes more than ${wallMs} ms to compile`);
      return isWhole ? outcome(status, words) : failed("its code is larger than allowed");
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Feeds and reads a compiler until nothing of it is left. */
  async #follow(child: Deno.ChildProcess, module: Uint8Array<ArrayBuffer>, sink: LibrarySink) {
    const taken = take(child.stdout, sink, this.#limits.libraryBytes)
      .then((isWhole) => ({ isWhole }), (error: unknown) => ({ error }))
      .then((end) => {
        if (!("isWhole" in end && end.isWhole)) kill(child);
        return end;
      });
    const [, words, end, status] = await Promise.all([
      feed(child.stdin, module),
      tail(child.stderr),
      taken,
      child.status,
    ]);
    if ("error" in end) throw end.error;
    return { status, words, isWhole: end.isWhole };
  }

  #spawn(): Deno.ChildProcess {
    return new Deno.Command(this.#launcher, {
      args: [...this.#args],
      clearEnv: true,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }
}

function kill(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

function failed(reason: string): CompileOutcome {
  return { kind: "failed", reason };
}

function outcome({ code, success }: Deno.CommandStatus, words: string): CompileOutcome {
  if (success) return { kind: "compiled" };
  const last = words.trim().split("\n").at(-1) ?? "";
  const reason = plain(last.replace(/^quasaur-launcher: /, "")) || `exit status ${code}`;
  const isModules = code >= MODULE_STATUS_MIN && code <= MODULE_STATUS_MAX;
  return { kind: isModules ? "failed" : "unavailable", reason };
}

/** Words of a process that has read a hostile module, fit for a log. */
function plain(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, " ").slice(0, REASON_LENGTH_MAX);
}

/** Gives the module; a compiler that has seen enough reads no further. */
async function feed(
  stdin: WritableStream<Uint8Array<ArrayBuffer>>,
  module: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const writer = stdin.getWriter();
  try {
    await writer.write(module);
    await writer.close();
  } catch {
    await writer.abort().catch(() => undefined);
  }
}

/** Takes the library; false when it was more than allowed. */
async function take(
  stdout: ReadableStream<Uint8Array<ArrayBuffer>>,
  sink: LibrarySink,
  bytesMax: number,
): Promise<boolean> {
  let bytes = 0;
  for await (const chunk of stdout) {
    bytes += chunk.length;
    if (bytes > bytesMax) return false;
    await sink.write(chunk);
  }
  return true;
}

/** The end of what a process says. */
async function tail(stderr: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stderr) {
    text = (text + decoder.decode(chunk, { stream: true })).slice(-WORDS_BYTES_MAX);
  }
  return text;
}
