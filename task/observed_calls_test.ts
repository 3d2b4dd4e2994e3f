import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { KillRequestSchema } from "../proto/gen/containerd/task/v3/shim_pb.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { fixture } from "../sandboxers/lifecycle/testing/fixture.ts";
import { createLog } from "../sandboxers/log.ts";
import { LiveTelemetry } from "../sandboxers/telemetry/telemetry.ts";
import type { RpcCall } from "../sandboxers/telemetry/rpc_call.ts";
import { taskCalls } from "./observed_calls.ts";
import type { Call } from "./ttrpc/call.ts";

/** A call with one piece of metadata. */
const call: Call = {
  method: "containerd.task.v3.Task/Kill",
  signal: new AbortController().signal,
  metadata: (key) => key === "traceparent" ? "00-a" : undefined,
};

/** What stands around calls, what it writes, and what it tells. */
async function world() {
  const lifecycle = fixture();
  await lifecycle.created("pod", "c1");
  const { sandboxer } = lifecycle;
  const records: Record<string, unknown>[] = [];
  const log = createLog({
    level: "debug",
    format: "json",
    write: (line) => records.push(JSON.parse(line)),
  });
  const heard: RpcCall[] = [];
  const telemetry = new LiveTelemetry({ kind: "wasm" });
  const around = taskCalls({
    sandboxer,
    log,
    observer: {
      rpc(rpc, run) {
        heard.push(rpc);
        return telemetry.rpc(rpc, run);
      },
    },
  });
  const request = create(KillRequestSchema, { id: "c1", execId: "e" });
  return { around, records, heard, request, sandboxer };
}

Deno.test("a call is told with its container and sandbox, and answered as it is", async () => {
  const { around, records, heard, request } = await world();
  assert.equal(around(request, call, () => 5), 5);
  assert.equal(await around(request, call, () => Promise.resolve(6)), 6);
  for (const { level, message, method, sandbox, container, exec } of records) {
    assert.deepEqual({ level, message, method, sandbox, container, exec }, {
      level: "debug",
      message: "call",
      method: "Kill",
      sandbox: "pod",
      container: "c1",
      exec: "e",
    });
  }
  assert.equal(records.length, 2);
  assert.equal(heard[0]?.header("traceparent"), "00-a");
  assert.equal(heard[0]?.sandboxId, "pod");
});

Deno.test("a call that fails, now or later, is told with its error and fails as before", async () => {
  const { around, records, request } = await world();
  const error = new SandboxError("NotFound", "gone");
  const fail = () => {
    throw error;
  };
  assert.throws(() => around(request, call, fail), error);
  await assert.rejects(async () => await around(request, call, () => Promise.reject(error)), error);
  assert.deepEqual(records.map((record) => [record["message"], record["error"]]), [
    ["call failed", "NotFound: gone"],
    ["call failed", "NotFound: gone"],
  ]);
});

Deno.test("a call that deletes a container is told with the sandbox that it was in", async () => {
  const { around, records, request, sandboxer } = await world();
  await around(request, call, async () => {
    await sandboxer.killProcess("c1", "", 9);
    await sandboxer.deleteProcess("c1", "");
  });
  assert.equal(records[0]?.["sandbox"], "pod");
});
