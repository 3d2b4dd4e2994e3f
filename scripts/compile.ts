// deno-lint-ignore-file no-console -- a script talks to a person
/**
 * `deno task compile:wasm`, `compile:vmm`, `compile:quark`: a binary of a sandboxer with its
 * permission set baked in, in `build/`. `deno compile` downloads the runtime part of the binary from
 * Deno's own site; without access to it this fails and says so.
 *
 * @module
 */

/** Kinds that can be compiled. */
const KINDS = ["wasm", "vmm", "quark"];

/** The helper library and the launchers: beside the source, and where a compiled program looks. */
const SOURCE_DIRECTORIES = /\.\/sandboxers\/(wasm|host)\/native\/build\//g;
const INSTALLED_DIRECTORY = "/usr/lib/quasaur/";

/** Writes deno.json anew with the installed files in its permission sets. Answers the path. */
async function configuration(): Promise<string> {
  const path = "build/compile.json";
  const source = await Deno.readTextFile("deno.json");
  await Deno.mkdir("build", { recursive: true });
  await Deno.writeTextFile(path, source.replaceAll(SOURCE_DIRECTORIES, INSTALLED_DIRECTORY));
  return path;
}

/** Compiles the sandboxer of a kind. Answers the exit code. */
async function compile(kind: string): Promise<number> {
  if (!KINDS.includes(kind)) {
    console.error(`cannot compile "${kind}": expected one of ${KINDS.join(", ")}`);
    return 2;
  }
  const output = `build/quasaur-${kind}`;
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["compile", "--config", await configuration(), `-P=${kind}`, "--output", output],
      `sandboxers/${kind}/main.ts`,
    ],
    env: { NO_COLOR: "1" },
  }).output();
  if (code === 0) {
    console.log(
      `${output}: it looks for its launcher, and the library of wasm, in ${INSTALLED_DIRECTORY}`,
    );
    return 0;
  }
  const text = new TextDecoder().decode(stderr).trim();
  console.error(text);
  if (/denort|dl\.deno\.land/.test(text)) {
    console.error(
      `\ncannot compile "${kind}": the runtime part of the binary (denort) could not be downloaded. ` +
        "Run this where Deno's site can be reached, or use `deno task bundle` and the deno binary",
    );
  }
  return code;
}

if (import.meta.main) Deno.exit(await compile(Deno.args[0] ?? ""));
