import assert from "node:assert/strict";
import { SandboxError } from "./lifecycle/errors.ts";
import { createLog, type Log, type LogOptions, noLog } from "./log.ts";

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

Deno.test("noLog takes everything", () => {
  noLog.child({ a: 1 }).error("x");
});
