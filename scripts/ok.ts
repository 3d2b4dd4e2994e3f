// deno-lint-ignore-file no-console -- a script talks to a person
/**
 * `deno task ok`: everything a change has to pass, in the order in which it fails fastest: format,
 * lint, types, documentation, tests.
 *
 * @module
 */

/** Folders whose TypeScript is ours. */
const ROOMS = ["sandboxers", "task", "guest", "cli", "bench", "scripts", "tests", "proto"];

async function sources(directory: string): Promise<string[]> {
  const files: string[] = [];
  for await (const entry of Deno.readDir(directory)) {
    const path = `${directory}/${entry.name}`;
    if (entry.isDirectory) {
      if (path !== "proto/gen" && entry.name !== "build") files.push(...await sources(path));
    } else if (entry.name.endsWith(".ts")) files.push(path);
  }
  return files.sort();
}

async function allSources(): Promise<string[]> {
  const files = ["mod.ts"];
  for (const room of ROOMS) {
    try {
      files.push(...await sources(room));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return files;
}

async function step(name: string, args: readonly string[]): Promise<void> {
  console.log(`\n== ${name}`);
  const command = new Deno.Command(Deno.execPath(), {
    args: [...args],
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  });
  const { success, code } = await command.spawn().status;
  if (success) return;
  console.error(`\n== ${name} failed`);
  Deno.exit(code);
}

/**
 * Every exported symbol has a docstring and a type. `private-type-ref` is left out here: it takes
 * every type of an npm package or of generated code for a private one.
 */
async function documentation(files: readonly string[]): Promise<void> {
  console.log("\n== documentation");
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["doc", "--lint", ...files],
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  const problems = text.split(/^(?=error\[)/m)
    .filter((part) => part.startsWith("error[") && !part.startsWith("error[private-type-ref]"));
  if (problems.length === 0) {
    console.log(`Checked ${files.length} files`);
    return;
  }
  console.error(problems.join("").trim());
  console.error(`\n== documentation failed: ${problems.length} problems`);
  Deno.exit(1);
}

if (import.meta.main) {
  const files = await allSources();
  const documented = files.filter((file) => !file.endsWith("_test.ts"));
  await step("format", ["fmt", "--check"]);
  await step("lint", ["lint"]);
  await step("types", ["check", ...files]);
  await step("documentation of the SDK", ["doc", "--lint", "mod.ts"]);
  await documentation(documented);
  if (!Deno.args.includes("--no-tests")) await step("tests", ["task", "test"]);
  console.log("\n== ok");
}
