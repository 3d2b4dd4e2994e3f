/**
 * `quasaur run wasm`: runs a WebAssembly module, by itself or of an image.
 *
 * @module
 */

import { Command } from "commander";
import {
  type DirectoryMount,
  type ImageOptions,
  open,
  type OpenOptions,
  type RunOptions,
  type Sandboxer,
  type WasmEngine,
} from "../mod.ts";
import {
  addNetOption,
  addRunOptions,
  entrypointOf,
  environmentOf,
  type RunCommandOptions,
} from "./run_options.ts";
import { checkHostPorts } from "./run_publish.ts";
import { findSubject, imageOptions, type Subject } from "./run_subject.ts";
import { chooseSandboxer, runThrough, THROUGH_PORTS, type ThroughPorts } from "./run_through.ts";
import {
  parseDirectory,
  parseEngine,
  parseIsolation,
  parseWasmNet,
  type WasmNet,
} from "./run_values.ts";
import { type RunContext, type RunEnd, runWithin } from "./run_within.ts";
import { complain } from "./terminal.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
WHAT is a module, an OCI image layout (a directory), an archive of one (.tar, .tar.gz), or an image in
containerd; containerd://NAME where a file has the same name. With --rootfs it is the path of the
module in there. All that follows belongs to the guest. Its exit code is the command's; 134 after a
trap, 128 + n after signal n, 124 after --timeout, 127 for a missing module, 126 for one that cannot
be run, 125 for any other failure, 2 for a bad command line. Ctrl-C ends the guest; pressed again it
kills it.

A guest listens at the host's own ports: --publish can only name a port twice, as 8080:8080.

Examples:
  quasaur run wasm hello.wasm
  quasaur run wasm --env LANG=C sort.wasm -- --reverse < words.txt
  quasaur run wasm --dir ./site:/www:ro --memory 64Mi server.wasm -- --port 8080
  quasaur run wasm -d --isolation process --name shop registry.example/shop/cart:1.4`;

/** Asks for a process of its own; see sandboxers/wasm/isolation.ts. */
const ISOLATION_ANNOTATION = "quasaur.dev/isolation";

/** The options as commander gathers them. */
interface WasmOptions extends RunCommandOptions {
  readonly cacheDir?: string;
  readonly dir?: readonly DirectoryMount[];
  readonly engine?: WasmEngine;
  readonly isolation?: "thread" | "process";
  readonly net?: WasmNet;
}

/** What the command works with; tests have their own. */
export interface RunWasmPorts {
  /** Opens a sandboxer in this process. */
  readonly open: (options: OpenOptions) => Promise<Sandboxer>;
  /** Reaches those that run. */
  readonly through: ThroughPorts;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function runWasmCommand(
  end: (code: number) => void,
  ports: RunWasmPorts = { open: (options) => open("wasm", options), through: THROUGH_PORTS },
): Command {
  const command = new Command("wasm")
    .description("Run a WebAssembly module (WASI preview 1).")
    .usage("[options] WHAT [-- args...]")
    .argument("[words...]", "what to run, and its arguments")
    .passThroughOptions()
    .option(
      "--cache-dir <PATH>",
      "compile in the background and keep it there; default: only use what is in the system's; " +
        "embedded only",
    )
    .option(
      "--dir <HOST:GUEST[:ro]>",
      "show a directory to the guest; may be repeated",
      (text: string, before: readonly DirectoryMount[] = []) => [...before, parseDirectory(text)],
    )
    .option(
      "--engine <NAME>",
      "wasmedge or v8; default wasmedge where it is installed; embedded only",
      parseEngine,
    )
    .option(
      "--isolation <LEVEL>",
      "thread or process: of a sandboxer, beside its others or by itself",
      parseIsolation,
    );
  addNetOption(command, "host, or the path of a network namespace, default host", parseWasmNet);
  return addRunOptions(command)
    .addHelpText("after", EXAMPLES)
    .action(async (words: string[], options: WasmOptions) => {
      end(await runModule(command, words, options, ports));
    });
}

/** Runs a module; the answer is the exit code. */
async function runModule(
  command: Command,
  words: readonly string[],
  options: WasmOptions,
  ports: RunWasmPorts,
): Promise<number> {
  const { net = { kind: "host" }, publish = [], timeout, engine, cacheDir } = options;
  if (options.tty === true) throw new UsageError("Cannot use -t: modules have no terminals");
  checkHostPorts(publish, net.kind === "namespace" ? net.path : net.kind);
  const embeddedOnly = engine !== undefined
    ? "--engine"
    : cacheDir !== undefined
    ? "--cache-dir"
    : undefined;
  const subject = await findSubject(words, options, "wasm");
  if (options.rootfs !== undefined && subject.words.length === 0) {
    throw new UsageError(
      "missing required argument 'WHAT': expected the path of a module in --rootfs",
    );
  }
  using client = await chooseSandboxer(
    { kind: "wasm", command, options, embeddedOnly },
    ports.through,
  );
  const telling = { label: subject.name, patience: "starting ...", ...(timeout && { timeout }) };
  return await runWithin(telling, async (context) => {
    if (client === undefined) return await runEmbedded(subject, options, context, ports);
    const { isolation, dir = [], volume = [] } = options;
    const request = {
      kind: "wasm",
      subject,
      // Ports are the host's own already.
      options: { ...options, volume: [...dir, ...volume], publish: [] },
      network: net.kind === "namespace" ? net.path : "",
      annotations: isolation === undefined ? {} : { [ISOLATION_ANNOTATION]: isolation },
    } as const;
    return await runThrough(client, request, undefined, context, ports.through);
  });
}

async function runEmbedded(
  subject: Subject,
  options: WasmOptions,
  context: RunContext,
  ports: RunWasmPorts,
): Promise<RunEnd> {
  const { engine, cacheDir, net, isolation } = options;
  if (isolation === "process") {
    throw new UsageError(
      "Cannot use --isolation process without a sandboxer: in this process there is no other guest",
    );
  }
  const { signal } = context;
  const images: ImageOptions = {
    ...ports.through.images,
    ...imageOptions(options),
    onProgress: (progress) => context.progress.image(progress),
  };
  await using sandboxer = await ports.open({
    onWarning: (message) => complain(message),
    images,
    ...(engine && { engine }),
    ...(cacheDir && { cacheDirectory: cacheDir }),
  });
  await using sandbox = await sandboxer.createSandbox({
    signal,
    ...(net && { network: net }),
    ...(options.name === undefined ? {} : { id: options.name }),
  });
  await using container = await sandbox.run({ ...runOptions(subject, options), signal });
  context.progress.over();
  context.signals.forwardTo(container);
  return await container.exit;
}

function runOptions(subject: Subject, options: WasmOptions): RunOptions {
  const { dir = [], volume = [], memory, cpus, workdir, user } = options;
  const { source, words, name } = subject;
  const isImage = source.kind === "image";
  const [path = "", ...rest] = options.rootfs === undefined ? [name, ...words] : words;
  return {
    ...(isImage ? { image: name } : { module: path }),
    ...(options.rootfs === undefined ? {} : { rootfs: options.rootfs }),
    // An image has arguments of its own, where none are given.
    ...(isImage && rest.length === 0 ? {} : { args: rest }),
    ...entrypointOf(options),
    env: environmentOf(options),
    mounts: [...dir, ...volume],
    readonlyRootfs: options.readOnly === true,
    ...(memory === undefined ? {} : { memoryBytes: memory }),
    ...(cpus === undefined ? {} : { cpus }),
    ...(user === undefined ? {} : { user }),
    ...(workdir === undefined ? {} : { workdir }),
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
  };
}
