/**
 * `quasaur run` on V8: asked for, and where WasmEdge is not installed.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { buildNative } from "../sandboxers/wasm/native/build.ts";
import { decode, guest, Workplace } from "./testing/command.ts";

const REPOSITORY = fileURLToPath(new URL("..", import.meta.url));
/** What the command is made of. */
const SOURCES = ["cli", "mod.ts", "proto", "sandboxers", "task", "deno.json", "deno.lock"];

Deno.test("run wasm --engine v8 runs a module and says nothing of its own", async () => {
  await using place = await Workplace.make();
  const ended = await place.run(["run", "wasm", "--engine", "v8", guest("hello")]);
  assert.deepEqual(ended, { code: 0, stdout: "hello from wasm\n", stderr: "" });
});

Deno.test("run wasm --engine v8 passes input, files and the exit code through", async () => {
  await using place = await Workplace.make();
  await Deno.mkdir(`${place.path}/data`);
  const options = ["--engine", "v8", "--dir", `${place.path}/data:/data`];
  const written = await place.run([
    "run",
    "wasm",
    ...options,
    guest("fs"),
    "w:/data/a",
    "r:/data/a",
  ]);
  assert.equal(written.stdout, "write /data/a: ok\nread /data/a: written\n");
  const read = await place.run(["run", "wasm", "--engine", "v8", guest("cat")], "one\ntwo\n");
  assert.deepEqual(read, { code: 0, stdout: "one\ntwo\n", stderr: "" });
  const env = ["--env", "EXIT_CODE=42"];
  assert.equal((await place.run(["run", "wasm", "--engine=v8", ...env, guest("args")])).code, 42);
});

Deno.test("run wasm --engine v8 tells a trap as WasmEdge does", async () => {
  await using place = await Workplace.make();
  const ended = await place.run(["run", "wasm", "--engine", "v8", guest("trap")]);
  assert.deepEqual(ended, { code: 134, stdout: "before\n", stderr: "wasm trap: unreachable\n" });
});

Deno.test("run wasm --engine v8 appends to the file that its output is", async () => {
  await using place = await Workplace.make();
  const script = 'echo first > out; "$@" >> out; "$@" >> out; cat out';
  const args = ["run", "wasm", "--engine", "v8", guest("hello")];
  const { stdout } = await place.end(place.startShell(script, args));
  assert.equal(stdout, "first\nhello from wasm\nhello from wasm\n");
});

Deno.test("a signal ends a guest of V8 that computes", async () => {
  await using place = await Workplace.make();
  const child = place.start(["run", "wasm", "--engine", "v8", guest("spin")]);
  const reader = child.stdout.getReader();
  assert.match(new TextDecoder().decode((await reader.read()).value), /^spinning/);
  child.kill("SIGTERM");
  assert.equal((await reader.read()).done, true);
  await child.stderr.cancel();
  assert.equal((await child.status).code, 128 + 15);
  await place.assertClean();
});

Deno.test("an engine that does not exist is a usage error", async () => {
  await using place = await Workplace.make();
  const ended = await place.run(["run", "wasm", "--engine", "jit", guest("hello")]);
  assert.equal(ended.code, 2);
  assert.equal(ended.stderr, 'quasaur: Invalid --engine "jit": expected wasmedge or v8\n');
});

/** The command with a guest library that was built where WasmEdge is not installed. */
async function withoutWasmEdge(directory: string): Promise<string> {
  const copy = `tar -C "$0" --exclude=build -cf - ${SOURCES.join(" ")} | tar -C "$1" -xf -`;
  const { success } = await new Deno.Command("sh", { args: ["-c", copy, REPOSITORY, directory] })
    .output();
  assert.ok(success);
  await buildNative({ outDir: `${directory}/sandboxers/wasm/native/build`, engine: "without" });
  return directory;
}

Deno.test("without WasmEdge run wasm uses V8 and says so in one line", async () => {
  await using place = await Workplace.make();
  const directory = await withoutWasmEdge(await Deno.makeTempDir({ dir: place.path }));
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-prompt",
        `--config=${directory}/deno.json`,
        "--permission-set=cli",
        `${directory}/cli/main.ts`,
        ...args,
      ],
      env: { TMPDIR: place.temporary, NO_COLOR: "1" },
    }).output();
    return { code, stdout: decode(stdout), stderr: decode(stderr) };
  };
  const ended = await run("run", "wasm", guest("hello"));
  assert.equal(ended.stdout, "hello from wasm\n", ended.stderr);
  assert.equal(ended.code, 0);
  assert.match(ended.stderr, /^quasaur: using V8 instead of WasmEdge: guests have no sockets.*\n$/);
  assert.match(ended.stderr, /install the Debian package libwasmedge0/);
  const asked = await run("run", "wasm", "--engine", "v8", guest("hello"));
  assert.deepEqual(asked, { code: 0, stdout: "hello from wasm\n", stderr: "" });
  const missing = await run("run", "wasm", "--engine", "wasmedge", guest("hello"));
  assert.equal(missing.code, 125);
  assert.match(missing.stderr, /^quasaur: cannot open the WebAssembly engine: .*\n$/);
  await expectNoSandboxer(directory);
});

/** The sandboxer for containerd's pods runs WasmEdge or nothing. */
async function expectNoSandboxer(directory: string): Promise<void> {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "-A",
      `--config=${directory}/deno.json`,
      `${directory}/sandboxers/wasm/main.ts`,
      `--listen=${directory}/a.sock`,
      `--task-listen=${directory}/t.sock`,
      `--dir=${directory}/state`,
      "--containerd-events=none",
    ],
    env: { NO_COLOR: "1" },
  }).output();
  assert.equal(code, 1);
  assert.match(decode(stderr), /cannot start .*the guest library was built without WasmEdge/);
}
