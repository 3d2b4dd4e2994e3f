import assert from "node:assert/strict";
import { SandboxError } from "./lifecycle/errors.ts";
import { createLog, isLogLevel, type Log, type LogOptions, noLog } from "./log.ts";

/** What a log writes at a time that stands still. */
function written(options: LogOptions, write: (log: Log) => void): string[] {
  const lines: string[] = [];
  write(createLog({ write: (line) => lines.push(line), now: () => 0, ...options }));
  return lines;
}

Deno.test("a text record is one line with its fields", () => {
  const [line] = written({}, (log) => log.info("ready", { path: "/a.sock", n: 1, on: true }));
  assert.equal(line, "1970-01-01T00:00:00.000Z INFO  ready path=/a.sock n=1 on=true\n");
});

Deno.test("a JSON record is one line of JSON that fields cannot disguise", () => {
  const [line = ""] = written(
    { format: "json" },
    (log) => log.warn("gone", { id: "a1", level: "info", missing: undefined }),
  );
  assert.ok(line.endsWith("}\n"));
  assert.deepEqual(JSON.parse(line), {
    id: "a1",
    time: "1970-01-01T00:00:00.000Z",
    level: "warn",
    message: "gone",
  });
});

Deno.test("records below the level are dropped", () => {
  const all = (log: Log) => {
    log.trace("1");
    log.debug("2");
    log.info("3");
    log.warn("4");
    log.error("5");
  };
  assert.equal(written({ level: "trace" }, all).length, 5);
  assert.equal(written({}, all).length, 3);
  assert.equal(written({ level: "error" }, all).length, 1);
});

Deno.test("a child log adds its fields, and nearer ones win", () => {
  const [line] = written({}, (log) => log.child({ kind: "wasm", id: 1 }).info("x", { id: 2 }));
  assert.equal(line, "1970-01-01T00:00:00.000Z INFO  x kind=wasm id=2\n");
});

Deno.test("a record stays one record whatever is in it", () => {
  for (const format of ["text", "json"] as const) {
    const [line = ""] = written({ format }, (log) => {
      log.info("a\nb\u2028c", { "k\n": "v\n2026 ERROR fake\u001b[31m" });
    });
    assert.equal(line.indexOf("\n"), line.length - 1, line);
    assert.ok(!line.includes("\u001b"));
  }
});

Deno.test("values with secret names stay inside, at any depth", () => {
  for (const format of ["text", "json"] as const) {
    const [line = ""] = written({ format }, (log) => {
      const nested = { registry: { Authorization: "Basic hunter2" }, env: ["P=hunter2"] };
      log.error("x", { password: "hunter2", apiKey: "hunter2", access_token: "hunter2", nested });
    });
    assert.ok(!line.includes("hunter2"), line);
    assert.equal(line.match(/redacted/g)?.length, 5);
  }
});

Deno.test("secrets in headers and addresses stay inside, and what is around them does not", () => {
  const [line = ""] = written({}, (log) => {
    const error = new Error("GET https://me:hunter2@example.com/v2/ with Bearer hunter2.hunter2");
    log.warn("x", { error, plain: "the basic idea: https://example.com:443/a@b" });
  });
  assert.ok(!line.includes("hunter2"), line);
  assert.match(line, /https:\/\/me:\[redacted\]@example\.com\/v2\/ with Bearer \[redacted\]/);
  assert.match(line, /the basic idea: https:\/\/example\.com:443\/a@b/);
});

Deno.test("a planned error is told by its code, a foreign one with its stack, both with causes", () => {
  const foreign = new TypeError("x is not a function");
  const [planned = "", other = ""] = written({}, (log) => {
    log.warn("a", { error: new SandboxError("NotFound", "no such thing", { cause: foreign }) });
    log.warn("b", { error: foreign });
  });
  assert.match(planned, /NotFound: no such thing; caused by TypeError: x is not a function/);
  assert.match(other, /TypeError: x is not a function.*log_test\.ts/);
});

Deno.test("an error that is its own cause comes to an end", () => {
  const error = new Error("round");
  error.cause = error;
  const [line = ""] = written({}, (log) => log.warn("x", { error }));
  assert.match(line, /round/);
});

Deno.test("what cannot be written does not stop the rest", () => {
  const round: Record<string, unknown> = {};
  round["self"] = round;
  const [line = ""] = written(
    {},
    (log) => log.info("x", { round, big: 7n, long: "y".repeat(9999) }),
  );
  assert.match(line, /big=7/);
  assert.match(line, /9999 characters/);
  assert.ok(line.length < 6000);
});

Deno.test("a level that changes counts for children too, those made before and after", () => {
  const lines: string[] = [];
  const root = createLog({ write: (line) => lines.push(line), now: () => 0 });
  const before = root.child({ pod: 1 });
  before.debug("not yet");
  root.level = "debug";
  assert.equal(root.level, "debug");
  before.debug("now");
  root.child({ pod: 2 }).debug("and now");
  root.level = "error";
  before.warn("no more");
  assert.deepEqual(lines.map((line) => line.slice(25).trim()), [
    "DEBUG now pod=1",
    "DEBUG and now pod=2",
  ]);
});

Deno.test("who wants to know hears of each change of the level, until it does not want to any more", () => {
  const root = createLog({ write: () => undefined });
  const heard: string[] = [];
  const first = root.onLevel((level) => void heard.push(`first ${level}`));
  root.onLevel((level) => void heard.push(`second ${level}`));
  root.level = "debug";
  root.level = "debug";
  first[Symbol.dispose]();
  root.level = "warn";
  assert.deepEqual(heard, ["first debug", "second debug", "second warn"]);
});

Deno.test("what runs now adds its fields to records that are written, and to no others", () => {
  const lines: string[] = [];
  const root = createLog({ write: (line) => lines.push(line), now: () => 0 });
  let asked = 0;
  root.context = () => ({ trace: `t${++asked}`, pod: 9 });
  const child = root.child({ pod: 1 });
  child.debug("dropped");
  child.info("x");
  root.context = undefined;
  child.info("y");
  assert.deepEqual(lines.map((line) => line.slice(25).trim()), [
    "INFO  x trace=t1 pod=1",
    "INFO  y pod=1",
  ]);
  assert.equal(asked, 1);
});

Deno.test("names of levels are known", () => {
  assert.ok(isLogLevel("trace"));
  assert.ok(!isLogLevel("loud"));
});

Deno.test("noLog takes everything", () => {
  noLog.child({ a: 1 }).error("x");
});
