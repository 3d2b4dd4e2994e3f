import assert from "node:assert/strict";
import { guest, Workplace } from "./testing/command.ts";

Deno.test("run wasm runs a module on the command's own output", async () => {
  await using place = await Workplace.make();
  const ended = await place.run(["run", "wasm", guest("hello")]);
  assert.deepEqual(ended, { code: 0, stdout: "hello from wasm\n", stderr: "" });
});

Deno.test("run wasm finds a module by a relative path", async () => {
  await using place = await Workplace.make();
  await Deno.copyFile(guest("hello"), `${place.path}/a module.wasm`);
  const ended = await place.run(["run", "wasm", "a module.wasm"]);
  assert.equal(ended.stdout, "hello from wasm\n");
});

Deno.test("run wasm gives arguments and environment to the guest, and nothing else", async () => {
  await using place = await Workplace.make();
  const args = ["--env", "A=b", "--env", "EMPTY=", "--env=C=d=e", guest("args")];
  const ended = await place.run(["run", "wasm", ...args, "--", "x", "--env", "y z", "--", ""]);
  assert.equal(ended.code, 0);
  const lines = ended.stdout.split("\n");
  assert.deepEqual(lines.filter((line) => line.startsWith("arg ")).slice(1), [
    "arg x",
    "arg --env",
    "arg y z",
    "arg --",
    "arg ",
  ]);
  assert.match(lines[0] ?? "", /^arg \/?args\.wasm$/);
  assert.deepEqual(
    lines.filter((line) => line.startsWith("env ") && !line.startsWith("env PWD=")).sort(),
    ["env A=b", "env C=d=e", "env EMPTY="],
  );
});

Deno.test("run wasm takes everything after the module as the guest's, also without --", async () => {
  await using place = await Workplace.make();
  const { stdout } = await place.run(["run", "wasm", guest("args"), "--help", "--dir", "x"]);
  assert.match(stdout, /\narg --help\narg --dir\narg x\n/);
});

Deno.test("run wasm ends with the guest's exit code", async () => {
  await using place = await Workplace.make();
  for (const code of [0, 1, 2, 42, 125, 255]) {
    const ended = await place.run(["run", "wasm", "--env", `EXIT_CODE=${code}`, guest("args")]);
    assert.equal(ended.code, code);
    assert.equal(ended.stderr, "");
  }
});

Deno.test("run wasm ends with 134 after a trap and says which", async () => {
  await using place = await Workplace.make();
  for (
    const [kind, words] of [["unreachable", /unreachable/], ["memory", /out of bounds/]] as const
  ) {
    const ended = await place.run(["run", "wasm", guest("trap"), kind]);
    assert.equal(ended.code, 134);
    assert.equal(ended.stdout, "before\n");
    assert.match(ended.stderr, /^wasm trap: .*\n$/);
    assert.match(ended.stderr, words);
  }
});

Deno.test("run wasm passes standard input through, from a pipe with an end", async () => {
  await using place = await Workplace.make();
  const ended = await place.run(["run", "wasm", guest("cat")], "one\ntwo\n");
  assert.deepEqual(ended, { code: 0, stdout: "one\ntwo\n", stderr: "" });
});

Deno.test("run wasm finds the end of an input that was closed before it began", async () => {
  await using place = await Workplace.make();
  assert.equal((await place.run(["run", "wasm", guest("cat")], "")).code, 0);
  assert.equal((await place.run(["run", "wasm", guest("cat")])).code, 0);
});

/** Bytes that tell when any of them is lost, doubled or moved. */
function pattern(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(length).map((_, i) => (i * 31 + (i >> 8) * 7 + (i >> 16)) & 0xff);
}

Deno.test("run wasm passes ten megabytes through pipes unchanged", async () => {
  await using place = await Workplace.make();
  const bytes = pattern(10_000_000);
  const child = place.start(["run", "wasm", guest("cat")], { stdin: "piped" });
  const written = new Blob([bytes]).stream().pipeTo(child.stdin);
  const { code, stdout } = await child.output();
  await written;
  assert.equal(code, 0);
  assert.deepEqual(stdout, bytes);
});

Deno.test("run wasm reads from a file and writes to a file", async () => {
  await using place = await Workplace.make();
  const bytes = pattern(1_000_000);
  await Deno.writeFile(`${place.path}/in`, bytes);
  const child = place.startShell(`"$@" < in > out`, ["run", "wasm", guest("cat")]);
  assert.deepEqual(await place.end(child), { code: 0, stdout: "", stderr: "" });
  assert.deepEqual(await Deno.readFile(`${place.path}/out`), bytes);
});

Deno.test("run wasm keeps standard output and standard error apart", async () => {
  await using place = await Workplace.make();
  const ended = await place.run(["run", "wasm", "--env", "ID=a", guest("lines"), "10000"]);
  assert.equal(ended.code, 0);
  const numbers = (text: string, pattern: RegExp): number[] =>
    text.trimEnd().split("\n").map((line) => Number(pattern.exec(line)?.[1] ?? NaN));
  const all = Array.from({ length: 10_000 }, (_, i) => i);
  assert.deepEqual(numbers(ended.stdout, /^a out (\d+) x{29}$/), all);
  assert.deepEqual(numbers(ended.stderr, /^a err (\d+)$/), all.filter((i) => i % 10 === 0));
});

Deno.test("run wasm whose reader goes away does not hang", async () => {
  await using place = await Workplace.make();
  const child = place.startShell(`"$@" 2> err | head -n 1; tail -c 200 err >&2`, [
    "run",
    "wasm",
    "--env",
    "ID=a",
    guest("lines"),
    "1000000",
  ]);
  const ended = await place.end(child);
  assert.match(ended.stdout, /^a out 0 x+\n$/);
});

Deno.test("run wasm with its output closed does not touch another file", async () => {
  await using place = await Workplace.make();
  const child = place.startShell(`"$@" >&- 2>&- <&-`, ["run", "wasm", guest("hello")]);
  const ended = await place.end(child);
  assert.equal(ended.stdout, "");
});

Deno.test("run wasm shows directories to the guest, writable or not", async () => {
  await using place = await Workplace.make();
  await Deno.mkdir(`${place.path}/data`);
  await Deno.mkdir(`${place.path}/fixed`);
  await Deno.writeTextFile(`${place.path}/data/in`, "content");
  await Deno.writeTextFile(`${place.path}/fixed/in`, "fixed content");
  const ended = await place.run([
    "run",
    "wasm",
    "--dir",
    "data:/data",
    "--dir",
    `${place.path}/fixed:/etc/fixed:ro`,
    guest("fs"),
    "r:/data/in",
    "w:/data/out",
    "r:/etc/fixed/in",
    "w:/etc/fixed/out",
    "r:/data/../../../../etc/passwd",
    "r:/etc/passwd",
  ]);
  assert.equal(ended.stderr, "");
  const lines = ended.stdout.trimEnd().split("\n");
  assert.equal(lines[0], "read /data/in: content");
  assert.equal(lines[1], "write /data/out: ok");
  assert.equal(lines[2], "read /etc/fixed/in: fixed content");
  assert.doesNotMatch(lines[3] ?? "", /: ok$/);
  for (const line of lines.slice(4)) assert.doesNotMatch(line, /root:/);
  assert.equal(await Deno.readTextFile(`${place.path}/data/out`), "written");
  await assert.rejects(Deno.stat(`${place.path}/fixed/out`), Deno.errors.NotFound);
});

Deno.test("run wasm sets the working directory", async () => {
  await using place = await Workplace.make();
  await Deno.mkdir(`${place.path}/data`);
  await Deno.writeTextFile(`${place.path}/data/in`, "content");
  const args = ["--dir", "data:/data", "--workdir", "/data", guest("cwd")];
  const ended = await place.run(["run", "wasm", ...args, "in"]);
  assert.match(ended.stdout, /^PWD \/data$/m);
});

Deno.test("run wasm keeps the guest within its memory", async () => {
  await using place = await Workplace.make();
  const limited = await place.run(["run", "wasm", "--memory", "16Mi", guest("memory"), "64"]);
  const taken = Number(/took (\d+) MiB/.exec(limited.stdout)?.[1] ?? NaN);
  assert.ok(taken > 0 && taken < 16, limited.stdout);
  const free = await place.run(["run", "wasm", guest("memory"), "64"]);
  assert.equal(free.stdout, "took 64 MiB\n");
});

Deno.test("run wasm ends with 127 where there is no such module", async () => {
  await using place = await Workplace.make();
  await Deno.writeTextFile(`${place.path}/file`, "");
  for (const file of ["missing.wasm", "no/such/dir.wasm", "file/x.wasm"]) {
    const { code, stdout, stderr } = await place.run(["run", "wasm", file]);
    assert.equal(code, 127);
    assert.equal(stdout, "");
    assert.equal(stderr, `quasaur: cannot run module "${file}": no such file\n`);
  }
});

Deno.test("run wasm ends with 126 for a file that is no module, and says why", async () => {
  await using place = await Workplace.make();
  const hello = await Deno.readFile(guest("hello"));
  const magic = [0x00, 0x61, 0x73, 0x6d];
  const files: [string, Uint8Array<ArrayBuffer>, RegExp][] = [
    ["empty", new Uint8Array(), /empty/],
    ["text", new TextEncoder().encode("#!/bin/sh\necho no\n"), /does not start like one/],
    ["native", await Deno.readFile("/bin/true"), /native Linux program/],
    ["component", new Uint8Array([...magic, 0x0d, 0, 1, 0]), /component/],
    ["future", new Uint8Array([...magic, 2, 0, 0, 0]), /version/],
    ["short", new Uint8Array(magic), /truncated/],
    ["cut", hello.slice(0, hello.length - 100), /Cannot|cannot/],
    ["hollow", new Uint8Array([...magic, 1, 0, 0, 0]), /_start/],
  ];
  for (const [name, bytes, words] of files) {
    await Deno.writeFile(`${place.path}/${name}`, bytes);
    const { code, stdout, stderr } = await place.run(["run", "wasm", name]);
    assert.equal(code, 126, `${name}: ${stderr}`);
    assert.equal(stdout, "");
    assert.match(stderr, words);
    assert.match(stderr, /^quasaur: .*\n$/, "one line");
  }
  assert.match((await place.run(["run", "wasm", "."])).stderr, /it is a directory/);
  assert.equal((await place.run(["run", "wasm", "/dev/null"])).code, 126);
});
