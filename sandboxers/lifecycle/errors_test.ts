import assert from "node:assert/strict";
import {
  abortError,
  attempt,
  type ErrorCode,
  SandboxError,
  STATUS_NUMBER,
  throwIfAborted,
} from "./errors.ts";
import { refused } from "./testing/refused.ts";

Deno.test("a SandboxError comes back unchanged from from()", () => {
  const error = new SandboxError("NotFound", 'sandbox "a" not found', { context: { id: "a" } });
  assert.equal(SandboxError.from(error, "cannot stop"), error);
  assert.deepEqual(error.context, { id: "a" });
  assert.equal(error.name, "SandboxError");
});

Deno.test("foreign errors get the code of their kind and the action in front", () => {
  const cases: [unknown, ErrorCode][] = [
    [new Error("broken"), "Internal"],
    [new TypeError("x is not a function"), "Internal"],
    ["text", "Internal"],
    [undefined, "Internal"],
    [new Deno.errors.NotFound("no such file"), "NotFound"],
    [new Deno.errors.AlreadyExists("there"), "AlreadyExists"],
    [new Deno.errors.PermissionDenied("no"), "PermissionDenied"],
    [new Deno.errors.NotCapable("no"), "PermissionDenied"],
    [new Error("No space left on device (os error 28)"), "ResourceExhausted"],
    [new Error("Disk quota exceeded (os error 122)"), "ResourceExhausted"],
    [new Error("ENOSPC: no space left on device, write"), "ResourceExhausted"],
    [new Error("os error 281"), "Internal"],
    [new DOMException("aborted", "AbortError"), "Cancelled"],
    [new DOMException("late", "TimeoutError"), "DeadlineExceeded"],
  ];
  for (const [thrown, code] of cases) {
    const error = SandboxError.from(thrown, "cannot do it");
    assert.equal(error.code, code, String(thrown));
    assert.match(error.message, /^cannot do it: /);
    assert.equal(error.cause, thrown);
  }
});

Deno.test("from() takes the fallback only where the error does not tell", () => {
  assert.equal(SandboxError.from(new Error("x"), "a", "InvalidArgument").code, "InvalidArgument");
  const missing = new Deno.errors.NotFound("x");
  assert.equal(SandboxError.from(missing, "a", "InvalidArgument").code, "NotFound");
  assert.equal(SandboxError.from(new Error("x")).message, "x");
});

Deno.test("every code has its number on the wire", () => {
  const numbers = Object.values(STATUS_NUMBER).toSorted((a, b) => a - b);
  assert.deepEqual(numbers, Array.from({ length: 15 }, (_, index) => index + 1));
  assert.equal(STATUS_NUMBER.NotFound, 5);
  assert.equal(STATUS_NUMBER.Unavailable, 14);
});

Deno.test("an abort tells a deadline from a caller that gave up, and keeps a reason of ours", () => {
  assert.equal(abortError(AbortSignal.abort(), "stop").code, "Cancelled");
  const late = AbortSignal.abort(new DOMException("late", "TimeoutError"));
  assert.equal(abortError(late, "stop").code, "DeadlineExceeded");
  const reason = new SandboxError("FailedPrecondition", "the sandbox was stopped");
  assert.equal(abortError(AbortSignal.abort(reason), "stop"), reason);
});

Deno.test("throwIfAborted() throws for an aborted signal only", () => {
  throwIfAborted(undefined, "stop");
  throwIfAborted(new AbortController().signal, "stop");
  assert.throws(() => throwIfAborted(AbortSignal.abort(), "stop"), SandboxError);
});

Deno.test("attempt() hands on what the effect answers", async () => {
  assert.equal(await attempt("cannot do it", () => 1), 1);
  assert.equal(await attempt("cannot do it", () => Promise.resolve(2)), 2);
});

Deno.test("attempt() keeps SandboxErrors and names the action for all others", async () => {
  const ours = new SandboxError("Unimplemented", "no terminals");
  assert.equal(await attempt("x", () => Promise.reject(ours)).catch((error) => error), ours);
  await refused(
    attempt("cannot stop", () => Promise.reject("text")),
    "Internal",
    /^cannot stop: text/,
  );
  await refused(
    attempt("cannot stop", () => {
      throw new Error("at once");
    }),
    "Internal",
    /^cannot stop: at once/,
  );
});

Deno.test("attempt() does not let a missing file pass for a missing sandbox", async () => {
  const missing = () => Promise.reject(new Deno.errors.NotFound("no such file"));
  await refused(attempt("cannot stop", missing), "Internal", /no such file/);
  const there = () => Promise.reject(new Deno.errors.AlreadyExists("there"));
  await refused(attempt("cannot start", there), "Internal", /there/);
});

Deno.test("attempt() blames an aborted signal for what failed", async () => {
  const failing = () => Promise.reject(new Error("connection closed"));
  await refused(attempt("cannot start", failing, AbortSignal.abort()), "Cancelled");
  await refused(attempt("cannot start", failing, new AbortController().signal), "Internal");
});
