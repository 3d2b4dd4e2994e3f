import assert from "node:assert/strict";
import { DEFAULT_LIBRARY_PATH } from "../native/library.ts";
import { System } from "../native/system.ts";
import { parseStat, Processes } from "./live_process.ts";

const processes = new Processes(DEFAULT_LIBRARY_PATH, new System(DEFAULT_LIBRARY_PATH));

function sleeper(): Deno.ChildProcess {
  return new Deno.Command("sleep", { args: ["60"], stdin: "null", stdout: "null" }).spawn();
}

Deno.test("a process is found by its number and the time it was started", async () => {
  const child = sleeper();
  using found = await processes.find(child.pid);
  assert.ok(found !== undefined);
  const { startTime } = found.identity;
  using again = await processes.find(child.pid, startTime);
  assert.ok(again !== undefined);
  assert.equal(await processes.find(child.pid, `${Number(startTime) + 1}`), undefined);
  assert.ok(found.alive);
  assert.equal(await found.ended(10), false);
  await found.end(10_000);
  await child.status;
  assert.equal(found.alive, false);
  assert.equal(again.alive, false);
  assert.equal(await processes.find(child.pid, startTime), undefined);
});

Deno.test("a signal to a process that has ended, or that was let go of, does nothing", async () => {
  const child = sleeper();
  const found = await processes.find(child.pid);
  assert.ok(found !== undefined);
  found.kill(15);
  const { signal } = await child.status;
  assert.equal(signal, "SIGTERM");
  found.kill(9);
  assert.ok(await found.ended(10_000));
  found[Symbol.dispose]();
  found[Symbol.dispose]();
  found.kill(9);
});

Deno.test("there is no process of a number that no process can have", async () => {
  for (const pid of [0, -1, 2 ** 22 + 1]) assert.equal(await processes.find(pid), undefined);
});

Deno.test("threads are told from those of others", () => {
  assert.ok(processes.hasThread(Deno.pid, Deno.pid));
  assert.equal(processes.hasThread(Deno.pid, 1), false);
  assert.equal(processes.hasThread(1, Deno.pid), false);
});

Deno.test("the name of a process may hold anything", () => {
  const rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 98765 20";
  for (const name of ["sleep", "a b", ") S 1 1 (", "((", "))"]) {
    assert.deepEqual(parseStat(`42 (${name}) ${rest}\n`), { startTime: "98765" });
  }
  assert.equal(parseStat(`42 (x) Z${rest.slice(1)}`), undefined, "it has ended");
  assert.equal(parseStat(""), undefined);
});
