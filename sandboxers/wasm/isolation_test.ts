import assert from "node:assert/strict";
import { SandboxError } from "../lifecycle/errors.ts";
import { ISOLATION_ANNOTATION, isolationOf } from "./isolation.ts";

const THREAD_RUNTIME = "io.containerd.quasaur-wasm.v1";
const PROCESS_RUNTIME = "io.containerd.quasaur-wasm-process.v1";

function isolation(runtime: string | undefined, annotation?: string) {
  return isolationOf({
    id: "pod",
    ...(runtime === undefined ? {} : { runtime }),
    annotations: annotation === undefined ? {} : { [ISOLATION_ANNOTATION]: annotation },
  });
}

Deno.test("a pod that asks for nothing gets threads", () => {
  assert.equal(isolation(undefined), "thread");
  assert.equal(isolation(THREAD_RUNTIME), "thread");
});

Deno.test("runtime handler and annotation each can ask for a process", () => {
  assert.equal(isolation(PROCESS_RUNTIME), "process");
  assert.equal(isolation(THREAD_RUNTIME, "process"), "process");
  assert.equal(isolation(PROCESS_RUNTIME, "process"), "process");
  assert.equal(isolation(THREAD_RUNTIME, "thread"), "thread");
});

Deno.test("any other annotation is refused by its name, with the two values", () => {
  for (const value of ["", "Process", "vm", "thread ", "x".repeat(10_000)]) {
    assert.throws(() => isolation(THREAD_RUNTIME, value), (error) => {
      assert.ok(error instanceof SandboxError);
      assert.equal(error.code, "InvalidArgument");
      assert.match(error.message, /quasaur\.dev\/isolation.*expected "thread" or "process"/);
      assert.ok(error.message.length < 400);
      return true;
    });
  }
});

Deno.test("an annotation cannot take away what the runtime handler gives", () => {
  assert.throws(() => isolation(PROCESS_RUNTIME, "thread"), /gives every pod a process/);
});
