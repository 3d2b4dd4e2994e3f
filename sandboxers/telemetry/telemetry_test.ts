import assert from "node:assert/strict";
import { SandboxError } from "../lifecycle/errors.ts";
import type { RpcCall } from "./rpc_call.ts";
import { logIds } from "./log_ids.ts";
import { LiveTelemetry, noTelemetry } from "./telemetry.ts";

function call(service: string, method: string): RpcCall {
  return { service, method, header: () => undefined };
}

async function lines(telemetry: LiveTelemetry, part: string): Promise<string[]> {
  return (await telemetry.text()).split("\n").filter((line) =>
    line.includes(part) && !line.startsWith("#")
  );
}

Deno.test("a call that is answered at once stays one, and is counted", async () => {
  const telemetry = new LiveTelemetry({ kind: "wasm" });
  assert.equal(telemetry.rpc(call("Task", "State"), () => 7), 7);
  assert.deepEqual(await lines(telemetry, "quasaur_rpcs_total"), [
    `quasaur_rpcs_total{kind="wasm",service="Task",method="State",code="OK"} 1`,
  ]);
});

Deno.test("calls that fail, now or later, are counted by their code and fail as before", async () => {
  const telemetry = new LiveTelemetry({ kind: "wasm" });
  const error = new SandboxError("NotFound", "gone");
  const fail = () => {
    throw error;
  };
  assert.throws(() => telemetry.rpc(call("Task", "Kill"), fail), error);
  const later = () => telemetry.rpc(call("Task", "Kill"), () => Promise.reject(new TypeError("x")));
  await assert.rejects(async () => await later(), TypeError);
  assert.deepEqual(await lines(telemetry, "quasaur_rpcs_total"), [
    `quasaur_rpcs_total{kind="wasm",service="Task",method="Kill",code="NotFound"} 1`,
    `quasaur_rpcs_total{kind="wasm",service="Task",method="Kill",code="Internal"} 1`,
  ]);
  const [open] = await lines(telemetry, "quasaur_rpcs_open");
  assert.equal(open, `quasaur_rpcs_open{kind="wasm",service="Task"} 0`);
});

Deno.test("calls that wait are open and counted, and not measured", async () => {
  const telemetry = new LiveTelemetry({ kind: "vmm" });
  const { promise, resolve } = Promise.withResolvers<string>();
  const answer = telemetry.rpc(call("Task", "Wait"), () => promise);
  const [open] = await lines(telemetry, "quasaur_rpcs_open");
  assert.equal(open, `quasaur_rpcs_open{kind="vmm",service="Task"} 1`);
  resolve("exit");
  assert.equal(await answer, "exit");
  assert.equal((await lines(telemetry, `method="Wait"`)).length, 1);
});

Deno.test("operations are measured when they succeed, and counted by their code", async () => {
  const telemetry = new LiveTelemetry({ kind: "quark" });
  const operation = { name: "sandbox_start", sandboxId: "a" } as const;
  await telemetry.operation(operation, async () => {
    await Promise.resolve();
    telemetry.phase("sandbox_start", "create", performance.now() - 20);
  });
  const full = new SandboxError("ResourceExhausted", "full");
  await assert.rejects(telemetry.operation(operation, () => Promise.reject(full)), full);
  const text = (await lines(telemetry, `operation="sandbox_start"`)).join("\n");
  assert.match(text, /operations_total\{.*code="OK"\} 1/);
  assert.match(text, /operations_total\{.*code="ResourceExhausted"\} 1/);
  assert.match(text, /operation_duration_seconds_count\{.*\} 1/);
  assert.match(text, /phase_duration_seconds_sum\{.*phase="create"\} 0\.02/);
});

Deno.test("what is written in an operation knows its ids, also where telemetry is off", async () => {
  for (const telemetry of [new LiveTelemetry({ kind: "wasm" }), noTelemetry]) {
    const operation = { name: "exec_start", sandboxId: "a", containerId: "b", execId: "" } as const;
    const ids = await telemetry.operation(operation, async () => {
      await Promise.resolve();
      return logIds();
    });
    assert.deepEqual(ids, { sandbox: "a", container: "b" });
    assert.equal(logIds(), undefined);
  }
});

Deno.test("collectors bring gauges up to date whenever metrics are read", async () => {
  const telemetry = new LiveTelemetry({ kind: "wasm" });
  let value = 0;
  telemetry.onRead((registry) => registry.set("quasaur_waiters", {}, ++value));
  await telemetry.text();
  assert.deepEqual(await lines(telemetry, "quasaur_waiters"), [`quasaur_waiters{kind="wasm"} 2`]);
});

Deno.test("the first output of a container is measured from the call that starts it", async () => {
  const telemetry = new LiveTelemetry({ kind: "wasm" });
  const created = Date.now() - 1_000;
  let changed = created;
  telemetry.readOutputsWith(() => changed);
  const found = { sandboxId: "s", path: "/fifo" };
  using _outputs = telemetry.watchOutputs((id) => id === "c" ? found : undefined);
  const start = { name: "container_start", sandboxId: "s", containerId: "c" } as const;
  await telemetry.operation(start, () => Promise.resolve());
  assert.deepEqual(await lines(telemetry, "first_output"), []);
  changed = Date.now() + 3_000;
  for (let i = 0; i < 500 && (await lines(telemetry, "first_output")).length === 0; i++) {
    await new Promise((done) => setTimeout(done, 10));
  }
  const [seconds] = await lines(telemetry, "first_output_seconds_sum");
  assert.match(seconds ?? "", /\} 3\.\d+$/);
});

Deno.test("a container that cannot be started, or has no output, is not looked at", async () => {
  const telemetry = new LiveTelemetry({ kind: "wasm" });
  telemetry.readOutputsWith((path) => path === "/fifo" ? Date.now() : undefined);
  using _outputs = telemetry.watchOutputs((id) =>
    id === "none" ? undefined : { sandboxId: "s", path: id === "gone" ? "/gone" : "/fifo" }
  );
  const start = (containerId: string) =>
    ({ name: "container_start", sandboxId: "s", containerId }) as const;
  await telemetry.operation(start("none"), () => Promise.resolve());
  await telemetry.operation(start("gone"), () => Promise.resolve());
  const error = new SandboxError("Internal", "no");
  await assert.rejects(telemetry.operation(start("fails"), () => Promise.reject(error)), error);
  await new Promise((done) => setTimeout(done, 20));
  assert.deepEqual(await lines(telemetry, "first_output"), []);
});
