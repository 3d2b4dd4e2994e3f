import assert from "node:assert/strict";
import { imageArchive, wasmImage } from "../tests/support/oci_image.ts";
import { guest, Workplace } from "./testing/command.ts";

/** Rows as `--json` prints them. */
interface Row {
  readonly module: string;
  readonly digest: string;
  readonly bytes: number;
  readonly result: string;
  readonly reason?: string;
}

/** What `--json` printed. */
function rows(stdout: string): Row[] {
  const value: unknown = JSON.parse(stdout);
  assert.ok(Array.isArray(value));
  return value;
}

Deno.test("images precompile compiles a module once, says so, and tells its digest", async () => {
  await using place = await Workplace.make();
  const args = ["images", "precompile", "--cache-dir", "cache", guest("hello")];
  const first = await place.run(args);
  assert.equal(first.code, 0, first.stderr);
  const bytes = await Deno.readFile(guest("hello"));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  for (const words of [guest("hello"), `sha256:${digest.slice(0, 12)}`, "compiled"]) {
    assert.ok(first.stdout.includes(words), first.stdout);
  }
  assert.match(
    first.stderr,
    /^\[1\/1\] \S*hello.wasm \(\d+\.\d KiB\): compiling\n.*compiled after/,
  );
  const second = await place.run([...args, "--json"]);
  assert.equal(second.code, 0);
  const [row] = rows(second.stdout);
  assert.equal(row?.digest, `sha256:${digest}`);
  assert.equal(row?.result, "present");
  assert.equal(row?.bytes, bytes.length);
  const entries = await Array.fromAsync(Deno.readDir(`${place.path}/cache`), ({ name }) => name);
  // The other one is what a process needs to run any compiled code.
  assert.equal(entries.length, 2);
  assert.equal(entries.filter((name) => name.startsWith(digest)).length, 1);
});

Deno.test("images precompile finds the module of an image archive", async () => {
  await using place = await Workplace.make();
  const module = await Deno.readFile(guest("spin"));
  const more = {
    files: [{ kind: "file", path: "x/cat.wasm", data: await Deno.readFile(guest("cat")) }],
  } as const;
  await Deno.writeFile(
    `${place.path}/image.tar`,
    await imageArchive(wasmImage("quasaur.test/app:1", module, more)),
  );
  const args = ["images", "precompile", "--json", "--cache-dir", "cache", "./image.tar"];
  const named = await place.run(args);
  assert.deepEqual(rows(named.stdout).map(({ module, result }) => [module, result]), [
    ["/app.wasm", "compiled"],
  ]);
  const all = await place.run([...args, "--all"]);
  assert.deepEqual(rows(all.stdout).map(({ module, result }) => [module, result]), [
    ["/app.wasm", "present"],
    ["/x/cat.wasm", "compiled"],
  ]);
});

Deno.test("images precompile tells why a module cannot be compiled, and ends with 1", async () => {
  await using place = await Workplace.make();
  const text = (name: string, content: Uint8Array) =>
    Deno.writeFile(`${place.path}/${name}`, content);
  await text("text.wasm", new TextEncoder().encode("#!/bin/sh\n"));
  await text("library.wasm", new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]));
  const cases = [
    ["text.wasm", /cannot: it does not start like one.*found bytes 23 21 2f 62/],
    ["library.wasm", /cannot: it does not export "_start"/],
  ] as const;
  for (const [file, words] of cases) {
    const { code, stdout } = await place.run([
      "images",
      "precompile",
      "--cache-dir",
      "cache",
      file,
    ]);
    assert.equal(code, 1);
    assert.match(stdout.replaceAll(/\s*│\n│[\s│]*/g, " "), words);
  }
});

Deno.test("images precompile ends with 125 or 127 and one line where nothing can be done", async () => {
  await using place = await Workplace.make();
  await Deno.mkdir(`${place.path}/open`);
  await Deno.chmod(`${place.path}/open`, 0o777);
  const cases: [string[], number, RegExp][] = [
    [["./none.wasm"], 127, /cannot read "\.\/none\.wasm": there is no such file/],
    [["none.tar"], 127, /there is no such file/],
    [
      ["--address", "/nowhere.sock", "some/image"],
      125,
      /no containerd answers at "\/nowhere.sock"/,
    ],
    [
      ["--cache-dir", "open", guest("spin")],
      125,
      /others may write to it[^]*cannot compile into "open"/,
    ],
    [[""], 2, /Invalid REF ""/],
    [[], 2, /missing required argument 'REF'/],
  ];
  for (const [args, expected, words] of cases) {
    const { code, stdout, stderr } = await place.run(["images", "precompile", ...args]);
    assert.equal(code, expected, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, words);
  }
});

Deno.test("run wasm with --cache-dir uses what precompile has compiled there", async () => {
  await using place = await Workplace.make();
  const cached = ["--cache-dir", "cache"];
  assert.equal((await place.run(["images", "precompile", ...cached, guest("hello")])).code, 0);
  const entries = await Array.fromAsync(Deno.readDir(`${place.path}/cache`), ({ name }) => name);
  for (const name of entries) await Deno.utime(`${place.path}/cache/${name}`, 1, 1);
  const ended = await place.run(["run", "wasm", ...cached, guest("hello")]);
  assert.deepEqual(ended, { code: 0, stdout: "hello from wasm\n", stderr: "" });
  assert.equal(entries.length, 2);
  for (const name of entries) {
    const { mtime } = await Deno.stat(`${place.path}/cache/${name}`);
    assert.ok((mtime?.getTime() ?? 0) > 1_000, `${name} was not looked at`);
  }
});
