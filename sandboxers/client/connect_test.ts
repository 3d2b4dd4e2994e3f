import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { refusal } from "../lifecycle/testing/refused.ts";
import { Managed } from "../management/fixture.ts";
import { noRuns } from "../management/no_runs.ts";
import type { Runs } from "../management/ports.ts";

/** Runs that exec something which turns input into capitals, and have a log of two lines. */
function fakeRuns(): Runs {
  const runs = noRuns();
  const text = (value: string) => new TextEncoder().encode(value);
  return {
    ...runs,
    handlers: {
      ...runs.handlers,
      attach: async function* (requests) {
        let input = "";
        for await (const { message } of requests) {
          if (message.case === "exec") {
            const { target, process, inherit } = message.value;
            const words = [target, ...process?.args ?? [], ...process?.env ?? [], inherit];
            yield { message: { case: "stderr", value: text(words.join(" ")) } };
          }
          if (message.case === "stdin") input += new TextDecoder().decode(message.value);
        }
        yield { message: { case: "stdout", value: text(input.toUpperCase()) } };
        yield { message: { case: "exit", value: { status: 3, reason: "exited" } } };
      },
      logs: async function* ({ tail }) {
        const at = { seconds: 5n };
        if (tail !== 1) yield { at, stream: "stdout", content: text("one\n") };
        yield await Promise.resolve({ at, stream: "stderr", content: text("two\n") });
      },
    },
  };
}

Deno.test("a program sees a running sandboxer's sandboxes as plain values", async () => {
  await using managed = await Managed.serve();
  await managed.world.running("pod", "main");
  using sandboxer = await connect(managed.path);
  assert.equal(sandboxer.address, managed.path);
  const info = await sandboxer.info();
  assert.deepEqual([info.kind, info.startedAt, info.counts["sandboxes"]], ["fake", 1_000_000, 1]);
  const [sandbox] = await sandboxer.list();
  assert.equal(sandbox?.state, "ready");
  assert.equal(sandbox.containers[0]?.state, "running");
  assert.equal("exit" in sandbox, false);
  assert.deepEqual(await sandboxer.list({ no: "such" }), []);
  const found = await sandboxer.get("main");
  assert.equal(found.containerId, "main");
  assert.equal(found.sandbox.id, "pod");
  assert.deepEqual((await sandboxer.stats().next()).value?.[0]?.containers.length, 1);
  for await (const { complete, sandboxes } of sandboxer.watch()) {
    if (complete) break;
    assert.deepEqual(sandboxes.map(({ id }) => id), ["pod"]);
  }
});

Deno.test("a program ends what runs in a sandboxer and hears of it", async () => {
  await using managed = await Managed.serve();
  await managed.world.running("pod", "main");
  using sandboxer = await connect(managed.path);
  await sandboxer.pause("pod");
  await sandboxer.resume("main");
  await sandboxer.update("main", { cpus: 0.5, memoryBytes: 4096 });
  const { resources } = managed.world.sandboxer.container("main");
  assert.deepEqual(resources, { cpuPeriodUs: 100_000, cpuQuotaUs: 50_000, memoryBytes: 4096 });
  const waiting = sandboxer.wait("pod");
  await sandboxer.kill("main", 9);
  assert.equal((await waiting).status, 137);
  await sandboxer.stop("pod", 0);
  const events = await Array.fromAsync(sandboxer.events({ since: 0, noFollow: true }));
  const exited = events.find(({ type }) => type === "process-exited");
  assert.deepEqual([exited?.containerId, exited?.exit?.status], ["main", 137]);
  await assert.rejects(sandboxer.remove("pod"), refusal("FailedPrecondition", /crictl rmp/));
  await sandboxer.remove("pod", true);
  assert.deepEqual(await sandboxer.list(), []);
});

Deno.test("a program runs a process, collects its output, and reads logs", async () => {
  await using managed = await Managed.serve({ runs: fakeRuns });
  using sandboxer = await connect(managed.path);
  const stdin = "x".repeat(100_000);
  const output = await sandboxer.exec("pod", ["say", "it"], { env: ["A=b"], stdin });
  assert.equal(new TextDecoder().decode(output.stdout), stdin.toUpperCase());
  assert.equal(new TextDecoder().decode(output.stderr), "pod say it A=b true");
  assert.equal(output.exit.status, 3);
  await assert.rejects(
    sandboxer.exec("pod", ["say"], { stdin, bytesMax: 1000 }),
    refusal("ResourceExhausted", /longer than 1000 bytes/),
  );
  const lines = await Array.fromAsync(sandboxer.logs("pod"));
  assert.deepEqual(lines.map(({ at, stream }) => [at, stream]), [[5000, "stdout"], [
    5000,
    "stderr",
  ]]);
  assert.equal((await Array.fromAsync(sandboxer.logs("pod", { tail: 1 }))).length, 1);
});

Deno.test("a program that cannot reach a sandboxer is told why", async () => {
  await assert.rejects(connect("/nowhere/a.sock"), refusal("Unavailable", /no such socket/));
  await assert.rejects(connect("nonsense"), refusal("InvalidArgument", /absolute path/));
});
