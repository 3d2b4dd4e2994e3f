/**
 * What parts of a sandboxer count and measure with. They know the names of metrics and nothing of how
 * these are kept or read; where metrics are off, nothing is kept.
 *
 * @module
 */

import type { LabelsOf, MetricNameOf } from "./definitions.ts";
import type { Registry } from "./registry.ts";

/** Brings gauges up to date when somebody reads metrics. */
export type Collector = (registry: Registry) => void | Promise<void>;

/** Counts and measures. */
export interface Meter {
  /**
   * Counts.
   *
   * @param name The counter.
   * @param labels Which of its series.
   * @param by How much.
   */
  count<N extends MetricNameOf<"counter">>(name: N, labels: LabelsOf<N>, by?: number): void;
  /**
   * Adds a value to a histogram.
   *
   * @param name The histogram.
   * @param labels Which of its series.
   * @param value In the unit of its name.
   */
  measure<N extends MetricNameOf<"histogram">>(name: N, labels: LabelsOf<N>, value: number): void;
  /**
   * Has something brought up to date whenever metrics are read.
   *
   * @param collector Does it; it does not take long.
   */
  onRead(collector: Collector): void;
}

/** A meter that keeps nothing. */
export const noMeter: Meter = {
  count: () => undefined,
  measure: () => undefined,
  onRead: () => undefined,
};
