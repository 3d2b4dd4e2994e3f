import assert from "node:assert/strict";
import { checkArguments, checkEvent, checkFailure, checkResult, isRequestName } from "./checks.ts";
import { Violation } from "./violation.ts";

const EXIT = { container: "c", exec: "", status: 3, atMs: 5, oom: false, signaled: false };
const USAGE = { container: "c", cpuUs: 1, memoryBytes: 2, inactiveFileBytes: 0, pids: 1 };
const GUEST = {
  memoryTotalBytes: 3,
  memoryAvailableBytes: 2,
  load: 0.5,
  cpuUs: 9,
  containers: [USAGE],
};

Deno.test("checks: right results come through, and nothing besides what belongs there", () => {
  assert.deepEqual(checkResult("pids", { pids: [1, 2], more: "x" }), { pids: [1, 2] });
  assert.deepEqual(checkResult("kill", { more: 1 }), {});
  assert.deepEqual(checkResult("usage", GUEST), GUEST);
  const limited = { ...GUEST, containers: [{ ...USAGE, memoryLimitBytes: 7 }] };
  assert.deepEqual(checkResult("usage", limited), limited);
  const inventory = {
    containers: [{
      container: "c",
      state: "running",
      processes: [{ exec: "", pid: 7, stdio: { stdin: 1, terminal: { columns: 80, rows: 24 } } }],
    }],
    lastStream: 4,
  };
  assert.deepEqual(checkResult("inventory", inventory), inventory);
});

Deno.test("checks: a field that is wrong is named", () => {
  const cases: readonly [() => unknown, RegExp][] = [
    [() => checkResult("pids", { pids: [1, -2] }), /result of pids\.pids\[1\] is -2/],
    [() => checkResult("pids", { pids: "12" }), /pids\.pids is string, expected a list/],
    [() => checkResult("pids", null), /result of pids is null, expected an object/],
    [() => checkResult("pids", []), /is a list, expected an object/],
    [() => checkResult("exec", {}), /result of exec\.pid is missing/],
    [() => checkResult("exec", Object.create({ pid: 1 })), /pid is missing/],
    [() => checkResult("online", { cpus: 1.5 }), /cpus is 1\.5/],
    [() => checkResult("usage", { ...GUEST, load: Infinity }), /load is number/],
    [() => checkEvent({ kind: "exit", exit: { ...EXIT, status: 256 } }), /status is 256/],
    [() => checkEvent({ kind: "exit", exit: { ...EXIT, oom: 1 } }), /oom is number/],
    [() => checkEvent({ kind: "constructor" }), /event\.kind is string, expected one of ready/],
    [() => checkEvent({ kind: "oom", container: "x".repeat(257) }), /has 257 characters/],
    [() => checkFailure({ code: "NotFound" }), /failure\.message is missing/],
  ];
  for (const [check, expected] of cases) {
    assert.throws(check, (error) => error instanceof Violation && expected.test(error.message));
  }
});

Deno.test("checks: an error code that is not known becomes Internal", () => {
  const message = "cannot do it";
  assert.deepEqual(checkFailure({ code: "NotFound", message }), { code: "NotFound", message });
  assert.deepEqual(checkFailure({ code: "Weird", message }), { code: "Internal", message });
});

Deno.test("checks: arguments are checked as far as types go", () => {
  assert.equal(checkArguments("pause", { container: "c" }), undefined);
  assert.match(checkArguments("pause", { container: 1 }) ?? "", /args\.container is number/);
  assert.match(
    checkArguments("kill", { container: "c", exec: "", signal: 65 }) ?? "",
    /signal is 65/,
  );
  assert.match(checkArguments("setTime", undefined) ?? "", /args is undefined/);
  assert.equal(isRequestName("pause"), true);
  assert.equal(isRequestName("toString"), false);
});
