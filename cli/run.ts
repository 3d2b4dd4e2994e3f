/**
 * `quasaur run`: runs one module or command in a sandbox of this process, on this command's own
 * standard streams, and ends as it ended.
 *
 * @module
 */

import { Command } from "commander";
import {
  type DirectoryMount,
  type Exit,
  open,
  type RunOptions,
  SandboxError,
  type WasmEngine,
} from "../mod.ts";
import { checkKind } from "../sandboxers/embedded/kind.ts";
import { codeOfExit, codeOfSignal } from "./exit_codes.ts";
import { ForwardedSignals } from "./forwarded_signals.ts";
import {
  parseDirectory,
  parseEngine,
  parseEnvironment,
  parseMemory,
  parseWorkdir,
} from "./run_values.ts";
import { runGvisorCommand } from "./run_gvisor.ts";
import { runVmmCommand } from "./run_vmm.ts";
import { complain } from "./terminal.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
Everything after FILE belongs to the guest. Its exit code is the command's; 134 after a trap,
128 + n after signal n, 127 for a missing module, 126 for one that cannot be run, 125 for any
other failure, 2 for a bad command line. Ctrl-C ends the guest; pressed again it kills it.

Examples:
  quasaur run wasm hello.wasm
  quasaur run wasm --env LANG=C sort.wasm -- --reverse < words.txt
  quasaur run wasm --dir ./site:/www:ro --memory 64Mi server.wasm -- --port 8080`;

/** The options as commander gathers them. */
interface WasmOptions {
  readonly cacheDir?: string;
  readonly dir?: readonly DirectoryMount[];
  readonly engine?: WasmEngine;
  readonly env?: Readonly<Record<string, string>>;
  readonly memory?: number;
  readonly workdir?: string;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 */
export function runCommand(end: (code: number) => void): Command {
  return new Command("run")
    .description("Run something in a sandbox of this process.")
    .usage("<kind> [options] ...")
    .argument("<kind>")
    .argument("[rest...]")
    .helpCommand(false)
    .allowUnknownOption()
    .enablePositionalOptions()
    .action(refuseKind)
    .addCommand(wasmCommand(end))
    .addCommand(runVmmCommand(end))
    .addCommand(runGvisorCommand(end));
}

/** Reached for any kind that has no command of its own. */
function refuseKind(kind: string): void {
  try {
    checkKind(kind);
  } catch (error) {
    throw new UsageError(SandboxError.from(error).message, { cause: error });
  }
}

function wasmCommand(end: (code: number) => void): Command {
  return new Command("wasm")
    .description("Run a WebAssembly module (WASI preview 1).")
    .usage("[options] FILE [-- args...]")
    .argument("<FILE>", "the module")
    .argument("[args...]", "arguments of the guest")
    .passThroughOptions()
    .option(
      "--cache-dir <PATH>",
      "compile in the background and keep it there; default: only use what is in the system's",
    )
    .option(
      "--dir <HOST:GUEST[:ro]>",
      "show a directory to the guest; may be repeated",
      (text: string, before: readonly DirectoryMount[] = []) => [...before, parseDirectory(text)],
    )
    .option(
      "--engine <NAME>",
      "wasmedge or v8; default wasmedge where it is installed",
      parseEngine,
    )
    .option(
      "--env <NAME=VALUE>",
      "set an environment variable; may be repeated",
      (text: string, before: Readonly<Record<string, string>> = {}) => {
        const [name, value] = parseEnvironment(text);
        return { ...before, [name]: value };
      },
    )
    .option("--memory <SIZE>", "most memory of the guest, such as 64Mi", parseMemory)
    .option("--workdir <PATH>", "working directory inside, default /", parseWorkdir)
    .addHelpText("after", EXAMPLES)
    .action(async (file: string, args: string[], options: WasmOptions) => {
      end(await runModule(file, args, options));
    });
}

/** Runs a module; the answer is the exit code. */
async function runModule(
  file: string,
  args: readonly string[],
  options: WasmOptions,
): Promise<number> {
  if (file === "") throw new UsageError(`Invalid FILE "": expected the path of a module`);
  using signals = new ForwardedSignals();
  try {
    const exit = await runToEnd(runOptions(file, args, options), options, signals);
    // A trap has been told already, on the guest's standard error.
    if (exit.reason === "oom" || exit.reason === "lost") {
      complain(`${file}: ${exit.message ?? exit.reason}`);
    }
    // A signal that came as the guest began has killed it: then it counts, not the kill.
    const { givenUpBy } = signals;
    if (givenUpBy !== undefined && exit.reason === "signaled") return codeOfSignal(givenUpBy);
    return codeOfExit(exit);
  } catch (error) {
    if (signals.givenUpBy !== undefined) return codeOfSignal(signals.givenUpBy);
    throw error;
  }
}

function runOptions(file: string, args: readonly string[], options: WasmOptions): RunOptions {
  const { dir = [], env = {}, memory, workdir } = options;
  return {
    module: file,
    // The marker that ends our own options is not the guest's.
    args: args[0] === "--" ? args.slice(1) : args,
    env,
    mounts: dir,
    ...(memory === undefined ? {} : { memoryBytes: memory }),
    ...(workdir === undefined ? {} : { workdir }),
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
  };
}

async function runToEnd(
  options: RunOptions,
  { engine, cacheDir }: WasmOptions,
  signals: ForwardedSignals,
): Promise<Exit> {
  const signal = signals.startSignal;
  await using sandboxer = await open("wasm", {
    onWarning: (message) => complain(message),
    ...(engine && { engine }),
    ...(cacheDir && { cacheDirectory: cacheDir }),
  });
  await using sandbox = await sandboxer.createSandbox({ signal });
  await using container = await sandbox.run({ ...options, signal });
  signals.forwardTo(container);
  return await container.exit;
}
