/**
 * `quasaur images precompile`: compiles the modules of an image into the cache of compiled code, so
 * that already their first start runs compiled.
 *
 * @module
 */

import { resolve } from "node:path";
import Table from "cli-table3";
import { Command } from "commander";
import { SandboxError } from "../mod.ts";
import { createLog } from "../sandboxers/log.ts";
import { openEngineCache, SYSTEM_CACHE_DIRECTORY } from "../sandboxers/wasm/compiled/open.ts";
import { Precompiler } from "../sandboxers/wasm/compiled/precompile.ts";
import { WasmEdgeEngine } from "../sandboxers/wasm/wasmedge/engine.ts";
import { SOME_FAILED } from "./exit_codes.ts";
import { findModules, type FoundModule } from "./image/modules.ts";
import { findSource } from "../sandboxers/images/source.ts";
import { MODULE_BYTES_MAX } from "../sandboxers/wasm/module_bytes.ts";
import { print, printError } from "./terminal.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
REF is a module (a file), an OCI image layout (a directory, or the tar archive of one), or the name
of an image in containerd. Modules that are there already are not compiled again. The exit code is
0 when all modules are in the cache, ${SOME_FAILED} when some cannot be compiled: those are interpreted.

Examples:
  quasaur images precompile registry.example/shop/cart:1.4
  quasaur images precompile --all ./image.tar
  quasaur images precompile --json --cache-dir /tmp/cache app.wasm`;

/** The options as commander gathers them. */
interface PrecompileOptions {
  readonly address: string;
  readonly namespace: string;
  readonly cacheDir: string;
  readonly all?: boolean;
  readonly json?: boolean;
}

/** What became of a module. */
export interface PrecompileRow {
  /** Its path in the image, or on this machine. */
  readonly module: string;
  /** `sha256:` and hexadecimal digits. */
  readonly digest: string;
  /** Its size. */
  readonly bytes: number;
  /** `cannot` with a reason. */
  readonly result: "compiled" | "present" | "cannot";
  /** Why it cannot be compiled. */
  readonly reason?: string;
  /** How long it took. */
  readonly ms: number;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 */
export function precompileCommand(end: (code: number) => void): Command {
  return new Command("precompile")
    .description("Compile the modules of an image before they are run.")
    .usage("[options] REF")
    .argument("<REF>", "a module, an image on disk, or an image in containerd")
    .option("--all", "every .wasm file of the image, not only what it starts")
    .option("--cache-dir <PATH>", "directory of compiled code", SYSTEM_CACHE_DIRECTORY)
    .option("--address <PATH>", "containerd's socket", "/run/containerd/containerd.sock")
    .option("--namespace <NAME>", "containerd's namespace", "k8s.io")
    .option("--json", "print the result as JSON")
    .addHelpText("after", EXAMPLES)
    .action(async (reference: string, options: PrecompileOptions) => {
      const rows = await precompile(reference, options);
      print(options.json ? `${JSON.stringify(rows, null, 2)}\n` : `${tableOf(rows)}\n`);
      end(rows.some(({ result }) => result === "cannot") ? SOME_FAILED : 0);
    });
}

/** Compiles all modules; the answer is what became of each. */
async function precompile(name: string, options: PrecompileOptions): Promise<PrecompileRow[]> {
  if (name === "") throw new UsageError(`Invalid REF "": expected a file or an image`);
  await using resources = new AsyncDisposableStack();
  const modules = await modulesOf(name, options, options.all === true);
  const log = createLog({ level: "warn", write: printError });
  const cache = await openEngineCache(resolve(options.cacheDir), { log });
  resources.defer(() => cache.close());
  if (cache.isOff) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot compile into "${options.cacheDir}": see above, or choose another with --cache-dir`,
    );
  }
  const engine = new WasmEdgeEngine();
  resources.defer(() => engine.close());
  const precompiler = new Precompiler(cache, engine);
  const rows: PrecompileRow[] = [];
  for (const [at, module] of modules.entries()) {
    const label = `[${at + 1}/${modules.length}] ${module.path} (${sizeText(module.bytes.length)})`;
    printError(`${label}: compiling\n`);
    const row = await compileOne(precompiler, module);
    printError(`${label}: ${resultText(row)} after ${(row.ms / 1_000).toFixed(1)} s\n`);
    rows.push(row);
  }
  return rows;
}

async function modulesOf(
  name: string,
  { address, namespace }: Pick<PrecompileOptions, "address" | "namespace">,
  all: boolean,
): Promise<readonly FoundModule[]> {
  const source = await findSource(name, { containerd: { address, namespaces: [namespace] } });
  if (source.kind === "rootfs") {
    const reason = "it has no index.json: expected an OCI image layout";
    throw new SandboxError("InvalidArgument", `cannot read image "${name}": ${reason}`);
  }
  if (source.kind !== "image") return [{ path: name, bytes: await readModule(name) }];
  await using content = await source.open();
  return await findModules(content, all);
}

async function readModule(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const { size } = await Deno.stat(path);
  if (size <= MODULE_BYTES_MAX) return await Deno.readFile(path);
  throw new SandboxError("InvalidArgument", `cannot read "${path}": it has ${size} bytes`);
}

async function compileOne(
  precompiler: Precompiler,
  { path, bytes }: FoundModule,
): Promise<PrecompileRow> {
  const begin = performance.now();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  const outcome = await precompiler.compile(bytes, new AbortController().signal);
  return {
    module: path,
    digest: `sha256:${digest}`,
    bytes: bytes.length,
    ...("reason" in outcome
      ? { result: "cannot", reason: outcome.reason }
      : { result: outcome.kind }),
    ms: Math.round(performance.now() - begin),
  };
}

function tableOf(rows: readonly PrecompileRow[]): string {
  const table = new Table({
    head: ["module", "digest", "size", "result"],
    style: { head: [], border: [] },
  });
  for (const row of rows) {
    table.push([row.module, row.digest.slice(0, 19), sizeText(row.bytes), resultText(row)]);
  }
  return table.toString();
}

function resultText({ result, reason }: PrecompileRow): string {
  if (result === "present") return "already there";
  return reason === undefined ? result : `${result}: ${reason}`;
}

function sizeText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const kib = bytes / 1024;
  return kib < 1024 ? `${kib.toFixed(1)} KiB` : `${(kib / 1024).toFixed(1)} MiB`;
}
