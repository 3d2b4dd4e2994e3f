import assert from "node:assert/strict";
import { fixture } from "../lifecycle/testing/fixture.ts";
import { lifecycleMetrics, recoveryMetrics } from "./lifecycle_metrics.ts";
import { LiveTelemetry } from "./telemetry.ts";

/** The values of all series, by what stands before them. */
async function values(telemetry: LiveTelemetry): Promise<Map<string, string>> {
  const lines = (await telemetry.text()).split("\n").filter((line) => /^[a-z]/.test(line));
  return new Map(lines.map((line) => {
    const at = line.lastIndexOf(" ");
    return [
      line.slice(0, at).replace(`kind="wasm",`, "").replace(`{kind="wasm"}`, ""),
      line.slice(at + 1),
    ];
  }));
}

Deno.test("everything that a lifecycle holds is counted by its state", async () => {
  const world = fixture();
  const telemetry = new LiveTelemetry({ kind: "wasm" });
  using _counted = lifecycleMetrics({ sandboxer: world.sandboxer, meter: telemetry, podsMax: 0 });
  await world.running("a", "a1");
  await world.executing("a1", "e1");
  await world.created("a", "a2");
  await world.created("b", "b1");
  await world.sandboxer.pauseContainer("a1");
  const now = await values(telemetry);
  assert.equal(now.get(`quasaur_sandboxes{state="ready"}`), "2");
  assert.equal(now.get(`quasaur_sandboxes{state="failed"}`), "0");
  assert.equal(now.get(`quasaur_containers{state="created"}`), "2");
  assert.equal(now.get(`quasaur_containers{state="paused"}`), "1");
  assert.equal(now.get(`quasaur_containers{state="running"}`), "0");
  assert.equal([...now.keys()].some((series) => series.startsWith("quasaur_pod")), false);
  await world.sandboxer.resumeContainer("a1");
  world.end("a1", "e1", 3);
  world.end("a1", "", 0);
  await world.rest();
  const later = await values(telemetry);
  assert.equal(later.get(`quasaur_execs{state="stopped"}`), "1");
  assert.equal(later.get(`quasaur_containers{state="stopped"}`), "1");
  assert.equal(later.get(`quasaur_exits_total{reason="exited"}`), "2");
});

Deno.test("pods have metrics of their own up to a number, and the rest is counted", async () => {
  const world = fixture();
  const telemetry = new LiveTelemetry({ kind: "wasm" });
  using _counted = lifecycleMetrics({ sandboxer: world.sandboxer, meter: telemetry, podsMax: 2 });
  for (const id of ["a", "b", "c"]) await world.ready(id);
  const now = [...await values(telemetry)];
  const pods = now.filter(([series]) => series.startsWith("quasaur_pod_memory_bytes"));
  assert.equal(pods.length, 2);
  assert.match(pods.join(), /sandbox="a".*sandbox="b"/);
  assert.deepEqual(now.find(([series]) => series === "quasaur_pods_left_out"), [
    "quasaur_pods_left_out",
    "1",
  ]);
  await world.sandboxer.deleteSandbox("a");
  const later = [...(await values(telemetry)).keys()];
  assert.ok(!later.some((series) => series.includes(`sandbox="a"`)));
  assert.ok(later.some((series) => series.includes(`sandbox="c"`)));
});

Deno.test("what recovery found is told for as long as the process runs", async () => {
  const telemetry = new LiveTelemetry({ kind: "wasm" });
  recoveryMetrics(telemetry, { adopted: 3, stopped: 1, removed: 0 }, 1.5);
  const now = await values(telemetry);
  assert.equal(now.get("quasaur_recovery_seconds"), "1.5");
  assert.equal(now.get(`quasaur_recovery_sandboxes{outcome="adopted"}`), "3");
  assert.equal(now.get(`quasaur_recovery_sandboxes{outcome="removed"}`), "0");
});
