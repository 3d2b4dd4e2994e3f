/**
 * Compiling, up to the runtime part that Deno's own site has: a stand-in takes its place, and what
 * was baked in is read back.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import config from "../deno.json" with { type: "json" };
import { compileArguments, installedConfiguration, missingRuntime, v8FlagsOf } from "./compile.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

Deno.test("each program is compiled with its own permission set and flags, into its own file", () => {
  for (const program of ["wasm", "vmm", "quark", "cli"]) {
    const args = compileArguments(program, "c.json", config.tasks);
    assert.ok(args.includes(`-P=${program}`));
    const tasks: Readonly<Record<string, string>> = config.tasks;
    for (const flag of v8FlagsOf(tasks[program] ?? "")) assert.ok(args.includes(flag), flag);
    assert.equal(tasks[`compile:${program}`], `deno run -A scripts/compile.ts ${program}`);
  }
  assert.throws(
    () => compileArguments("xen", "c.json", {}),
    /cannot compile "xen": expected one of/,
  );
});

Deno.test("a compiled program has its helpers where they are installed, and nothing of the sources", () => {
  const text = installedConfiguration(JSON.stringify(config.permissions));
  assert.ok(text.includes("/usr/lib/quasaur/quasaur-host-launcher"));
  assert.ok(!text.includes("./sandboxers/"));
});

Deno.test("what cannot be fetched is named, with what to do", () => {
  const text = "error: Could not download denort from https://dl.deno.land/release";
  assert.match(missingRuntime("vmm", text, undefined) ?? "", /set DENORT_BIN to the file denort/);
  assert.equal(missingRuntime("vmm", text, "/denort"), undefined);
  assert.equal(missingRuntime("vmm", "error: Module not found", undefined), undefined);
});

Deno.test("compiling works up to the runtime part: the permission set is baked in", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-compile-" });
  try {
    // Any program of the machine's own format does: the code is put behind it.
    const output = `${directory}/quasaur-wasm`;
    const file = `${directory}/deno.json`;
    const source = await Deno.readTextFile(`${ROOT}deno.json`);
    await Deno.writeTextFile(file, installedConfiguration(source));
    const args = compileArguments("wasm", file, config.tasks)
      .map((arg) => arg === "build/quasaur-wasm" ? output : arg);
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args,
      cwd: ROOT,
      env: { NO_COLOR: "1", DENORT_BIN: await Deno.realPath("/bin/true") },
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    const binary = new TextDecoder("latin1").decode(await Deno.readFile(output));
    const [, baked = ""] = /"permissions":(\{[^{}]*\})/.exec(binary) ?? [];
    const permissions: Readonly<Record<string, unknown>> = JSON.parse(baked);
    assert.deepEqual(permissions["allow_ffi"], ["/usr/lib/quasaur/libquasaur-guest.so"]);
    assert.deepEqual(permissions["allow_run"], ["/usr/lib/quasaur/quasaur-launcher"]);
    assert.ok(binary.includes("--optimize-for-size"));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
