/**
 * Counts and measures, and writes what it has in Prometheus' text format. Small on purpose: a series
 * is found by one look into a map, and nothing runs in the background.
 *
 * Source: Prometheus' text-based format, version 0.0.4.
 *
 * @module
 */

import {
  type LabelsOf,
  type MetricDefinition,
  type MetricName,
  type MetricNameOf,
  METRICS,
} from "./definitions.ts";

/** Most series of one metric: what is beyond is not counted, so that no caller can fill the memory. */
const SERIES_MAX = 2_000;

/** A value with the labels that it belongs to. */
export interface Sample<N extends MetricName = MetricName> {
  /** By the names of the metric's definition. */
  readonly labels: LabelsOf<N>;
  /** In the metric's unit. */
  readonly value: number;
}

/** A series of a counter or a gauge. */
interface Series {
  /** Its labels as they are written. */
  readonly labels: string;
  value: number;
}

/** A series of a histogram. */
interface Distribution {
  /** Its labels as they are written. */
  readonly labels: string;
  /** How many values fell into each bucket, the one above all bounds last. */
  readonly counts: number[];
  sum: number;
}

/** A metric with its series, by the values of their labels. */
interface Metric {
  readonly name: MetricName;
  readonly definition: MetricDefinition;
  readonly values: Map<string, Series>;
  readonly distributions: Map<string, Distribution>;
}

/** All metrics of a process. */
export class Registry {
  readonly #metrics = new Map<MetricName, Metric>();
  readonly #fixed: string;

  /**
   * Makes metrics without any value.
   *
   * @param fixed Labels that every metric of ours has, such as the kind.
   */
  constructor(fixed: Readonly<Record<string, string>> = {}) {
    this.#fixed = Object.entries(fixed).map(([name, value]) => labelText(name, value)).join(",");
    for (const name of metricNames()) {
      const definition = METRICS[name];
      this.#metrics.set(name, {
        name,
        definition,
        values: new Map(),
        distributions: new Map(),
      });
    }
  }

  /**
   * Adds to a counter.
   *
   * @param name The counter.
   * @param labels Which of its series.
   * @param by How much, not less than 0.
   */
  add<N extends MetricNameOf<"counter">>(name: N, labels: LabelsOf<N>, by = 1): void {
    const series = this.#series(name, labels);
    if (series !== undefined) series.value += by;
  }

  /**
   * Sets a gauge, or a counter that somebody else counts.
   *
   * @param name The metric.
   * @param labels Which of its series.
   * @param value What it is now.
   */
  set<N extends MetricNameOf<"gauge" | "counter">>(
    name: N,
    labels: LabelsOf<N>,
    value: number,
  ): void {
    const series = this.#series(name, labels);
    if (series !== undefined) series.value = value;
  }

  /**
   * Sets all series of a metric: those that are not among the samples are gone.
   *
   * @param name The metric.
   * @param samples Its series.
   */
  replace<N extends MetricNameOf<"gauge" | "counter">>(
    name: N,
    samples: Iterable<Sample<N>>,
  ): void {
    this.#metric(name).values.clear();
    for (const { labels, value } of samples) this.set(name, labels, value);
  }

  /**
   * Adds a value to a histogram.
   *
   * @param name The histogram.
   * @param labels Which of its series.
   * @param value The value, in the metric's unit.
   */
  observe<N extends MetricNameOf<"histogram">>(name: N, labels: LabelsOf<N>, value: number): void {
    const { definition, distributions } = this.#metric(name);
    const key = keyOf(definition, labels);
    const bounds = definition.buckets ?? [];
    let distribution = distributions.get(key);
    if (distribution === undefined) {
      if (distributions.size >= SERIES_MAX) return;
      const counts = new Array<number>(bounds.length + 1).fill(0);
      distribution = { labels: labelsText(definition, labels), counts, sum: 0 };
      distributions.set(key, distribution);
    }
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] ?? Infinity)) bucket++;
    distribution.counts[bucket] = (distribution.counts[bucket] ?? 0) + 1;
    distribution.sum += value;
  }

  /** Everything that has a value, in Prometheus' text format. */
  text(): string {
    let text = "";
    for (const metric of this.#metrics.values()) text += this.#metricText(metric);
    return text;
  }

  #metricText({ name, definition, values, distributions }: Metric): string {
    if (values.size + distributions.size === 0) return "";
    const fixed = name.startsWith("quasaur_") ? this.#fixed : "";
    let text = `# HELP ${name} ${escapeHelp(definition.help)}\n# TYPE ${name} ${definition.type}\n`;
    for (const { labels, value } of values.values()) {
      text += `${name}${braces(fixed, labels)} ${numberText(value)}\n`;
    }
    for (const { labels, counts, sum } of distributions.values()) {
      let below = 0;
      counts.forEach((count, index) => {
        below += count;
        const bound = numberText(definition.buckets?.[index] ?? Infinity);
        text += `${name}_bucket${braces(fixed, labels, `le="${bound}"`)} ${below}\n`;
      });
      text += `${name}_sum${braces(fixed, labels)} ${numberText(sum)}\n`;
      text += `${name}_count${braces(fixed, labels)} ${below}\n`;
    }
    return text;
  }

  #metric(name: MetricName): Metric {
    const metric = this.#metrics.get(name);
    if (metric === undefined) throw new TypeError(`no metric "${name}"`);
    return metric;
  }

  /** The series with these labels; undefined where there are too many. */
  #series(name: MetricName, labels: Readonly<Record<string, string>>): Series | undefined {
    const { definition, values } = this.#metric(name);
    const key = keyOf(definition, labels);
    const known = values.get(key);
    if (known !== undefined || values.size >= SERIES_MAX) return known;
    const series = { labels: labelsText(definition, labels), value: 0 };
    values.set(key, series);
    return series;
  }
}

/** The names of all metrics, in the order of the table. */
export function metricNames(): MetricName[] {
  return Object.keys(METRICS).filter((name): name is MetricName => Object.hasOwn(METRICS, name));
}

/** What tells a series of a metric from the others. */
function keyOf(definition: MetricDefinition, labels: Readonly<Record<string, string>>): string {
  let key = "";
  for (const name of definition.labels) key += `${labels[name] ?? ""}\0`;
  return key;
}

/** The labels of a series as they are written. */
function labelsText(
  definition: MetricDefinition,
  labels: Readonly<Record<string, string>>,
): string {
  return definition.labels.map((name) => labelText(name, labels[name] ?? "")).join(",");
}

function labelText(name: string, value: string): string {
  return `${name}="${escapeLabel(value)}"`;
}

/** Longest value of a label, in characters. */
const LABEL_LENGTH_MAX = 256;

function escapeLabel(value: string): string {
  if (/^[\w.:/@ -]*$/.test(value) && value.length <= LABEL_LENGTH_MAX) return value;
  return value.slice(0, LABEL_LENGTH_MAX).toWellFormed()
    .replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
}

function escapeHelp(help: string): string {
  return help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

function braces(...parts: readonly string[]): string {
  const text = parts.filter((part) => part !== "").join(",");
  return text === "" ? "" : `{${text}}`;
}

function numberText(value: number): string {
  if (value === Infinity) return "+Inf";
  if (value === -Infinity) return "-Inf";
  return Number.isNaN(value) ? "NaN" : String(value);
}
