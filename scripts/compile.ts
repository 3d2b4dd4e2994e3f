// deno-lint-ignore-file no-console -- a script talks to a person
/**
 * `deno task compile:wasm`, `compile:vmm`, `compile:quark`, `compile:cli`: a binary of a program with
 * its permission set baked in, in `build/`. `deno compile` downloads the runtime part of the binary
 * (denort) from Deno's own site, unless DENORT_BIN names a file that has it.
 *
 * @module
 */

/** What can be compiled: the main module, the permission set and the binary's name. */
const PROGRAMS: Readonly<Record<string, { main: string; set: string; name: string }>> = {
  wasm: { main: "sandboxers/wasm/main.ts", set: "wasm", name: "quasaur-wasm" },
  vmm: { main: "sandboxers/vmm/main.ts", set: "vmm", name: "quasaur-vmm" },
  quark: { main: "sandboxers/quark/main.ts", set: "quark", name: "quasaur-quark" },
  cli: { main: "cli/main.ts", set: "cli", name: "quasaur-cli" },
};

/** The helper library and the launchers: beside the source, and where a compiled program looks. */
const SOURCE_DIRECTORIES = /\.\/sandboxers\/(wasm|host)\/native\/build\//g;
const INSTALLED_DIRECTORY = "/usr/lib/quasaur/";

/** Where the binaries go. */
const OUT = "build";

/** Flags of V8 that the task of a program has. */
export function v8FlagsOf(task: string): string[] {
  return task.split(" ").filter((word) => word.startsWith("--v8-flags="));
}

/**
 * What deno is asked to do.
 *
 * @param program `wasm`, `vmm`, `quark` or `cli`.
 * @param config The configuration with the installed files in its permission sets.
 * @param tasks The tasks of deno.json.
 * @throws {RangeError} For another program.
 */
export function compileArguments(
  program: string,
  config: string,
  tasks: Readonly<Record<string, string>>,
): string[] {
  const known = PROGRAMS[program];
  if (known === undefined) {
    throw new RangeError(
      `cannot compile "${program}": expected one of ${Object.keys(PROGRAMS).join(", ")}`,
    );
  }
  return [
    ...["compile", "--no-prompt", "--no-check", "--config", config, `-P=${known.set}`],
    ...v8FlagsOf(tasks[program] ?? ""),
    ...["--output", `${OUT}/${known.name}`, known.main],
  ];
}

/**
 * The configuration that is compiled in: permission sets with the helpers where they are installed.
 *
 * @param source The text of deno.json.
 */
export function installedConfiguration(source: string): string {
  return source.replaceAll(SOURCE_DIRECTORIES, INSTALLED_DIRECTORY);
}

/**
 * What is missing, where deno says that it cannot get the runtime part.
 *
 * @param program What was to be compiled.
 * @param text What deno said.
 * @param denort The file that DENORT_BIN names; undefined where it names none.
 * @returns undefined where it is something else.
 */
export function missingRuntime(
  program: string,
  text: string,
  denort: string | undefined,
): string | undefined {
  if (denort !== undefined || !/denort|dl\.deno\.land/.test(text)) return undefined;
  return `cannot compile "${program}": the runtime part of the binary (denort) could not be ` +
    "downloaded: run this where Deno's site can be reached, or set DENORT_BIN to the file denort " +
    "of the same version and architecture, or use `deno task bundle`, which needs none";
}

async function compile(program: string): Promise<number> {
  const source = await Deno.readTextFile("deno.json");
  const { tasks }: { tasks: Readonly<Record<string, string>> } = JSON.parse(source);
  const config = `${OUT}/compile.json`;
  const args = compileArguments(program, config, tasks);
  const denort = Deno.env.get("DENORT_BIN");
  if (denort !== undefined && !await Deno.stat(denort).then(({ isFile }) => isFile, () => false)) {
    console.error(`cannot compile "${program}": DENORT_BIN names ${denort}: no such file`);
    return 1;
  }
  await Deno.mkdir(OUT, { recursive: true });
  await Deno.writeTextFile(config, installedConfiguration(source));
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    env: { NO_COLOR: "1" },
  }).output();
  if (code === 0) {
    console.log(
      `${OUT}/${PROGRAMS[program]?.name}: it looks for its helpers in ${INSTALLED_DIRECTORY}`,
    );
    return 0;
  }
  const text = new TextDecoder().decode(stderr).trim();
  console.error(text);
  const missing = missingRuntime(program, text, denort);
  if (missing !== undefined) console.error(`\n${missing}`);
  return code;
}

if (import.meta.main) {
  try {
    Deno.exit(await compile(Deno.args[0] ?? ""));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    console.error(error.message);
    Deno.exit(2);
  }
}
