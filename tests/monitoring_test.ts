/**
 * The dashboard and the alert rules in deploy/: their queries are PromQL, by Prometheus' own grammar,
 * and ask for metrics and labels that there are.
 *
 * @module
 */

import assert from "node:assert/strict";
import { parser } from "@prometheus-io/lezer-promql";
import { parse as parseYaml } from "yaml";
import { type MetricDefinition, METRICS } from "../sandboxers/telemetry/definitions.ts";

/** Metrics that Prometheus makes. */
const FOREIGN: ReadonlySet<string> = new Set(["up"]);

/** Labels that Prometheus adds, and those of parts of a histogram. */
const ADDED_LABELS = ["instance", "job", "kind", "le"];

/** What a query asks for. */
interface Query {
  /** Names of metrics. */
  readonly metrics: ReadonlySet<string>;
  /** Names of labels, wherever they stand. */
  readonly labels: ReadonlySet<string>;
}

/** Reads a query; what Grafana puts in is there already. */
function readQuery(text: string): Query {
  const query = text.replaceAll("$__rate_interval", "5m");
  const metrics = new Set<string>();
  const labels = new Set<string>();
  const cursor = parser.parse(query).cursor();
  do {
    const found = query.slice(cursor.from, cursor.to);
    assert.ok(!cursor.type.isError, `not PromQL at ${cursor.from}: ${query}`);
    if (cursor.name === "Identifier") metrics.add(found);
    else if (cursor.name === "LabelName") labels.add(found);
  } while (cursor.next());
  return { metrics, labels };
}

/** The definition of a metric, also by the name of a part of a histogram. */
function definitionOf(name: string): MetricDefinition | undefined {
  const family = name.replace(/_(bucket|sum|count)$/, "");
  const definitions: Readonly<Record<string, MetricDefinition>> = METRICS;
  const histogram = definitions[family];
  return histogram?.type === "histogram" && family !== name ? histogram : definitions[name];
}

function checkQuery(text: string): Query {
  const query = readQuery(text);
  assert.ok(query.metrics.size > 0, `no metric in ${text}`);
  const known = new Set(ADDED_LABELS);
  for (const name of query.metrics) {
    const definition = definitionOf(name);
    assert.ok(definition !== undefined || FOREIGN.has(name), `unknown metric ${name} in ${text}`);
    for (const label of definition?.labels ?? []) known.add(label);
  }
  for (const label of query.labels) {
    assert.ok(known.has(label), `unknown label ${label} in ${text}`);
  }
  return query;
}

async function textOf(path: string): Promise<string> {
  return await Deno.readTextFile(new URL(`../deploy/${path}`, import.meta.url));
}

Deno.test("every query of the dashboard can be asked", async () => {
  const dashboard: {
    readonly panels: readonly {
      readonly id: number;
      readonly type: string;
      readonly gridPos: { readonly x: number; readonly w: number };
      readonly targets?: readonly { readonly expr: string }[];
    }[];
  } = JSON.parse(await textOf("grafana/quasaur.json"));
  const { panels } = dashboard;
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const shown = new Set<string>();
  for (const { type, gridPos, targets = [] } of panels) {
    assert.ok(gridPos.x + gridPos.w <= 24);
    assert.equal(targets.length === 0, type === "row");
    for (const { expr } of targets) {
      for (const name of checkQuery(expr).metrics) shown.add(name);
    }
  }
  assert.ok(shown.size > 20, `only ${shown.size} metrics are shown`);
});

Deno.test("a number that is zero is shown as zero, not as no data", async () => {
  const dashboard: {
    readonly panels: readonly {
      readonly title: string;
      readonly type: string;
      readonly targets?: readonly { readonly expr: string }[];
    }[];
  } = JSON.parse(await textOf("grafana/quasaur.json"));
  // There is no series of failures before the first one.
  const ofSomeCodes = dashboard.panels.filter(({ type, targets = [] }) =>
    type === "stat" && targets.some(({ expr }) => expr.includes("code!"))
  );
  assert.deepEqual(ofSomeCodes.map(({ title }) => title), ["Operations that fail"]);
  for (const { expr } of ofSomeCodes.flatMap(({ targets = [] }) => targets)) {
    assert.match(expr, /^\(sum\(.+\) or vector\(0\)\) \/ clamp_min\(/);
  }
});

Deno.test("every alert asks for metrics that there are, and says what to do", async () => {
  const { groups }: {
    readonly groups: readonly {
      readonly rules: readonly {
        readonly alert: string;
        readonly expr: string;
        readonly labels: { readonly severity: string };
        readonly annotations: Readonly<Record<string, string>>;
      }[];
    }[];
  } = parseYaml(await textOf("prometheus/quasaur.rules.yaml"));
  const rules = groups.flatMap((group) => group.rules);
  assert.ok(rules.length >= 8);
  for (const { alert, expr, labels, annotations } of rules) {
    checkQuery(expr);
    assert.match(alert, /^Quasaur[A-Z]/);
    assert.ok(["info", "warning", "critical"].includes(labels.severity), alert);
    for (const key of ["summary", "description"]) assert.ok(annotations[key], `${alert}: ${key}`);
  }
});

Deno.test("a query that is wrong is noticed", () => {
  assert.throws(() => checkQuery("sum(rate(quasaur_rpcs_total[5m])"), /not PromQL/);
  assert.throws(() => checkQuery("quasaur_rpcs"), /unknown metric/);
  assert.throws(() => checkQuery("quasaur_sandboxes_bucket"), /unknown metric/);
  assert.throws(() => checkQuery("sum by (pod) (quasaur_sandboxes)"), /unknown label pod/);
});

Deno.test("Prometheus is told to scrape the ports that the socket units open", async () => {
  const config: {
    readonly scrape_configs: readonly {
      readonly static_configs: readonly { readonly targets: readonly string[] }[];
    }[];
  } = parseYaml(await textOf("prometheus/scrape.yaml"));
  const targets = config.scrape_configs.flatMap((scrape) =>
    scrape.static_configs.flatMap((one) => one.targets)
  );
  const listens = await Promise.all(["wasm", "vmm", "quark"].map(async (kind) => {
    const unit = await textOf(`prometheus/quasaur-metrics@${kind}.socket`);
    return /^ListenStream=(.+)$/m.exec(unit)?.[1];
  }));
  assert.deepEqual(targets, listens);
});
