import assert from "node:assert/strict";
import { assertFails, launcher, run, until } from "./testing/fixture.ts";

/** Runs a shell script by the launcher's `bounded`. */
async function bounded(ms: number, script: string) {
  const args = ["bounded", `${ms}`, "--", "/bin/sh", "-c", script];
  const { code, stdout, stderr } = await new Deno.Command(launcher.path, { args }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** The number of processes with a word in their command line. */
async function count(word: string): Promise<number> {
  return (await run("ps", "-eo", "args")).split("\n").filter((line) =>
    line.includes(word) && !line.includes("bounded")
  ).length;
}

/** An argument that no other process has. */
function unique(): string {
  return `9${crypto.getRandomValues(new Uint32Array(1))[0]}`;
}

Deno.test("a program that ends in time tells its status and its words, and what it left goes on", async () => {
  const word = unique();
  const script = `setsid sleep ${word} >/dev/null 2>&1 & echo out; echo err >&2; exit 7`;
  const { code, stdout, stderr } = await bounded(10_000, script);
  assert.deepEqual({ code, stdout, stderr }, { code: 7, stdout: "out\n", stderr: "err\n" });
  const [pid] = (await run("pgrep", "-f", `^sleep ${word}`)).trim().split("\n");
  assert.equal(await count(`sleep ${word}`), 1);
  Deno.kill(Number(pid), "SIGKILL");
});

Deno.test("a program that was killed tells by what", async () => {
  assert.equal((await bounded(10_000, "kill -9 $$")).code, 128 + 9);
});

Deno.test("a program that does not end in time is killed with all that it started, also what has detached itself", async () => {
  const word = unique();
  const nested = `setsid sh -c "sleep ${word}1 & exec sleep ${word}2" &`;
  const script = `(setsid sleep ${word}3 &); ${nested} sleep ${word}4`;
  const { code, stderr } = await bounded(300, script);
  assert.equal(code, 64 + 4);
  assert.match(stderr, /^DeadlineExceeded: "\/bin\/sh" did not end within 300 ms\n$/);
  assert.equal(await count(word), 0);
});

Deno.test("it is told to end, and does so with all that was started", async () => {
  const word = unique();
  const args = [
    "bounded",
    "60000",
    "--",
    "/bin/sh",
    "-c",
    `(setsid sleep ${word} &); sleep ${word}5`,
  ];
  const child = new Deno.Command(launcher.path, { args, stderr: "null" }).spawn();
  await until("both run", async () => await count(`sleep ${word}`) >= 2);
  child.kill("SIGTERM");
  assert.equal((await child.status).code, 64 + 4);
  assert.equal(await count(word), 0);
});

Deno.test("wrong words are refused", async () => {
  const refused = /expected: bounded MILLISECONDS -- PROGRAM ARGS/;
  for (
    const args of [["1"], ["x", "--", "/bin/true"], ["1", "-", "/bin/true"], ["1", "--", "true"]]
  ) {
    await assertFails(launcher.run("cannot x", ["bounded", ...args]), "InvalidArgument", refused);
  }
});

Deno.test("behind the mask a program sees no network settings, and everybody else does", async () => {
  const listing = "ls /proc/sys/net; ls /proc/sys | head -1";
  const args = ["netns-mask", "--", "/bin/sh", "-c", listing];
  assert.doesNotMatch(await launcher.run("cannot x", args), /core|ipv4/);
  assert.match(await launcher.run("cannot x", args), /\w+\n$/);
  assert.ok(await Deno.stat("/proc/sys/net/core"));
  const mounts = await Deno.readTextFile("/proc/self/mounts");
  assert.doesNotMatch(mounts, /\/proc\/sys\/net /);
  await assertFails(
    launcher.run("cannot x", ["netns-mask", "--", "true"]),
    "InvalidArgument",
    /expected: netns-mask/,
  );
});
