/**
 * What is V8's own: its WASI without a confined thread around it, its stack, its compiled modules.
 *
 * @module
 */

import assert from "node:assert/strict";
import { refused } from "../../lifecycle/testing/refused.ts";
import { OPEN } from "../native/syscalls.ts";
import {
  guestBytes,
  guestDirectory,
  moduleOf,
  nameOf,
  nullDevice,
  runGuest,
  threadState,
  until,
} from "../testing/engine_harness.ts";
import { V8Engine } from "./engine.ts";

const engine = new V8Engine();
const { system } = engine;

/** Paths that lead out of a directory, with links that do. */
const WAYS_OUT = [
  "../secret",
  "../made",
  "../../../../../../../../etc/passwd",
  "/etc/passwd",
  "a/../../secret",
  "./../secret",
  "a/b/../../../made",
  "link-relative",
  "link-absolute",
  "link-directory/secret",
  "link-directory/made",
  "link-proc/etc/passwd",
  "link-dangling",
  "//..//secret",
  "..",
  "../",
];

Deno.test("v8: every function on paths refuses every way out by itself", async () => {
  await using base = await guestDirectory(system);
  const inside = `${base.path}/inside`;
  await Deno.mkdir(`${inside}/a/b`, { recursive: true });
  await Deno.writeTextFile(`${base.path}/secret`, "SECRET");
  await Deno.writeTextFile(`${inside}/victim`, "mine");
  await Deno.writeFile(`${inside}/escape.wasm`, await guestBytes("escape"));
  await Deno.symlink("../secret", `${inside}/link-relative`);
  await Deno.symlink(`${base.path}/secret`, `${inside}/link-absolute`);
  await Deno.symlink("..", `${inside}/link-directory`);
  await Deno.symlink("/proc/self/root", `${inside}/link-proc`);
  await Deno.symlink("../made", `${inside}/link-dangling`);
  const outside = async () => {
    const { mtime, nlink, mode } = await Deno.stat(`${base.path}/secret`);
    const names = await Array.fromAsync(Deno.readDir(base.path), ({ name }) => name);
    return [...names.sort(), mtime?.getTime(), nlink, mode];
  };
  const before = await outside();
  const fd = system.open(inside, OPEN.path | OPEN.directory, "the directory");
  const preopens = [{ guestPath: "/", fd, readonly: false }];
  const { end, stdout } = await runGuest(engine, await guestBytes("escape"), {
    args: ["escape", "change", ...WAYS_OUT],
    preopens,
  });
  system.close(fd);
  assert.deepEqual(end, { kind: "exit", code: 0 });
  assert.match(stdout, /tried everything\n$/);
  assert.doesNotMatch(stdout, /SECRET|root:/);
  assert.deepEqual(await outside(), before);
  assert.equal(await Deno.readTextFile(`${base.path}/secret`), "SECRET");
});

Deno.test("v8: a recursion without an end is a trap, in C and in WebAssembly", async () => {
  const { end } = await runGuest(engine, await guestBytes("recurse"), { args: ["x", "deep"] });
  assert.equal(end.kind, "trap");
  // _start calls itself, then returns.
  const bytes = moduleOf(
    [1, 1, 0x60, 0, 0],
    [3, 1, 0],
    [7, 1, ...nameOf("_start"), 0, 0],
    [10, 1, 4, 0, 0x10, 0, 0x0b],
  );
  const endless = await runGuest(engine, bytes);
  assert.deepEqual(endless.end, { kind: "trap", message: "call stack exhausted" });
});

Deno.test("v8: a guest that calls itself again and again without a loop is killed", async () => {
  using none = nullDevice(system);
  // return_call of itself: runs for ever in one frame.
  const bytes = moduleOf(
    [1, 1, 0x60, 0, 0],
    [3, 1, 0],
    [7, 1, ...nameOf("_start"), 0, 0],
    [10, 1, 4, 0, 0x12, 0, 0x0b],
  );
  using module = await engine.load(bytes);
  const streams = { stdin: none.fd, stdout: none.fd, stderr: none.fd };
  using guest = await engine.instantiate(module, { args: [], env: [], preopens: [], ...streams });
  const tid = await guest.start({ name: "tail", steps: [] });
  await until("it runs", () => threadState(tid) === "R");
  assert.equal(guest.kill(), true);
  assert.deepEqual(await guest.ended, { kind: "killed" });
});

Deno.test("v8: a directory of many entries is listed whole", async () => {
  await using root = await guestDirectory(system);
  const names = Array.from({ length: 95 }, (_, i) => `${"n".repeat(100)}-${i + 100}`);
  for (const name of names) await Deno.writeTextFile(`${root.path}/${name}`, "");
  const preopens = [{ guestPath: "/", fd: root.fd, readonly: false }];
  const { stdout } = await runGuest(engine, await guestBytes("fs"), {
    args: ["fs", "l:/"],
    preopens,
  });
  assert.equal(stdout, `list /: ${names.join(" ")}\n`);
});

Deno.test("v8: guests with different memory limits share one module", async () => {
  const bytes = await guestBytes("memory");
  using module = await engine.load(bytes);
  const { modules } = engine.stats();
  for (const pages of [40, 50, 60, 70, 80, 40]) {
    const { stdout } = await runGuest(engine, bytes, {
      args: ["memory", "64"],
      memoryLimitBytes: pages * 65_536,
    });
    const taken = Number(/took (\d+) MiB/.exec(stdout)?.[1]);
    assert.ok(taken >= pages / 16 - 2 && taken < pages / 16, `${pages}: ${stdout}`);
  }
  assert.equal(engine.stats().modules, modules);
  assert.equal(module.compiled, true);
});

Deno.test("v8: a guest library that is not there is said at once", async () => {
  await refused(
    Promise.resolve().then(() => new V8Engine({ libraryPath: "/nowhere/lib.so" })),
    "FailedPrecondition",
    /not built/,
  );
});
