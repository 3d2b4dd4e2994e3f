import assert from "node:assert/strict";
import { METRICS } from "./definitions.ts";
import { metricNames, Registry } from "./registry.ts";

/** The lines about one metric, without its help. */
function linesOf(registry: Registry, name: string): string[] {
  return registry.text().split("\n").filter((line) =>
    line.startsWith(name) && !line.startsWith("#")
  );
}

Deno.test("a counter adds up by its labels, which stand in the order of their definition", () => {
  const registry = new Registry({ kind: "wasm" });
  registry.add("quasaur_rpcs_total", { code: "OK", method: "Create", service: "Task" });
  registry.add("quasaur_rpcs_total", { service: "Task", method: "Create", code: "OK" }, 2);
  registry.add("quasaur_rpcs_total", { service: "Task", method: "Kill", code: "NotFound" });
  assert.deepEqual(linesOf(registry, "quasaur_rpcs_total"), [
    `quasaur_rpcs_total{kind="wasm",service="Task",method="Create",code="OK"} 3`,
    `quasaur_rpcs_total{kind="wasm",service="Task",method="Kill",code="NotFound"} 1`,
  ]);
});

Deno.test("the buckets of a histogram count all values up to their bound", () => {
  const registry = new Registry();
  for (const value of [0.0001, 0.001, 0.0011, 5, 100]) {
    registry.observe("quasaur_event_loop_delay_seconds", {}, value);
  }
  const lines = linesOf(registry, "quasaur_event_loop_delay_seconds");
  assert.equal(lines[0], `quasaur_event_loop_delay_seconds_bucket{le="0.001"} 2`);
  assert.equal(lines[1], `quasaur_event_loop_delay_seconds_bucket{le="0.0025"} 3`);
  assert.equal(lines.at(-3), `quasaur_event_loop_delay_seconds_bucket{le="+Inf"} 5`);
  assert.match(lines.at(-2) ?? "", /_sum 105\.002/);
  assert.equal(lines.at(-1), "quasaur_event_loop_delay_seconds_count 5");
});

Deno.test("replace() takes away the series that are no more", () => {
  const registry = new Registry();
  const labels = (sandbox: string) => ({ namespace: "a", pod: "b", sandbox });
  registry.replace("quasaur_pod_memory_bytes", [
    { labels: labels("1"), value: 1 },
    { labels: labels("2"), value: 2 },
  ]);
  registry.replace("quasaur_pod_memory_bytes", [{ labels: labels("2"), value: 3 }]);
  assert.deepEqual(linesOf(registry, "quasaur_pod_memory_bytes"), [
    `quasaur_pod_memory_bytes{namespace="a",pod="b",sandbox="2"} 3`,
  ]);
});

Deno.test("whatever is in a label stays in it", () => {
  const registry = new Registry();
  const pod = `a"} 1\nquasaur_waiters 7\\`;
  registry.set("quasaur_pod_processes", { namespace: "n", pod, sandbox: "x".repeat(999) }, 1);
  const [line = "", ...others] = linesOf(registry, "quasaur_");
  assert.deepEqual(others, []);
  assert.ok(line.includes(String.raw`pod="a\"} 1\nquasaur_waiters 7\\"`), line);
  assert.ok(line.length < 500);
});

Deno.test("labels cannot fill the memory", () => {
  const registry = new Registry();
  for (let i = 0; i < 5_000; i++) {
    registry.add("quasaur_exits_total", { reason: `r${i}` });
    registry.observe("quasaur_operation_duration_seconds", { operation: `o${i}` }, 1);
  }
  registry.add("quasaur_exits_total", { reason: "r0" });
  const lines = linesOf(registry, "quasaur_exits_total");
  assert.equal(lines.length, 2_000);
  assert.equal(lines[0], `quasaur_exits_total{reason="r0"} 2`);
});

Deno.test("what has no value is not written, and what has says its type and its help once", () => {
  const registry = new Registry();
  assert.equal(registry.text(), "");
  registry.set("quasaur_waiters", {}, 0);
  assert.equal(
    registry.text(),
    `# HELP quasaur_waiters ${METRICS.quasaur_waiters.help}\n# TYPE quasaur_waiters gauge\n` +
      "quasaur_waiters 0\n",
  );
});

Deno.test("names follow Prometheus' conventions", () => {
  for (const name of metricNames()) {
    const { type, help, labels } = METRICS[name];
    assert.match(name, /^(quasaur|process)_[a-z0-9_]+$/);
    assert.equal(name.endsWith("_total"), type === "counter", name);
    assert.ok(!/_(ms|milliseconds|kb|mb|percent)(_|$)/.test(name), name);
    assert.match(help, /^[A-Z].*[^.]$/, name);
    for (const label of labels) assert.match(label, /^[a-z][a-z0-9_]*$/);
    if (type === "histogram") assert.ok("buckets" in METRICS[name], name);
  }
});
