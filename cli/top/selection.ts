/**
 * Which pods are shown, and in which order.
 *
 * @module
 */

import type { PodRow } from "./pod_row.ts";

/** What pods can be sorted by; the key that is pressed for each walks through them in this order. */
export const SORTS = ["cpu", "memory", "age", "name"] as const;

/** What pods are sorted by. */
export type Sort = typeof SORTS[number];

/** Which pods are shown, and in which order. */
export interface Selection {
  /** What they are sorted by. */
  readonly sort: Sort;
  /** Whether the order is turned round. */
  readonly reversed: boolean;
  /** Only those with this text in a name, id, image, label or state; empty for all. */
  readonly filter: string;
  /** Only of this kind. */
  readonly kind: string | undefined;
  /** Only of this containerd namespace. */
  readonly namespace: string | undefined;
}

/** All pods, the busiest first. */
export const ALL: Selection = {
  sort: "cpu",
  reversed: false,
  filter: "",
  kind: undefined,
  namespace: undefined,
};

/** Whether something is a {@link Sort}. */
export function isSort(text: string): text is Sort {
  return SORTS.some((sort) => sort === text);
}

/**
 * The pods that are shown.
 *
 * @param pods All pods.
 * @param selection What was asked for.
 */
export function select(pods: readonly PodRow[], selection: Selection): PodRow[] {
  const { kind, namespace, filter, sort, reversed } = selection;
  const wanted = filter.toLowerCase();
  const shown = pods.filter((pod) =>
    (kind === undefined || pod.kind === kind) &&
    (namespace === undefined || pod.namespace === namespace) &&
    (wanted === "" || says(pod, wanted))
  );
  const turn = reversed ? -1 : 1;
  return shown.sort((a, b) => turn * ORDERS[sort](a, b) || byName(a, b));
}

/** Whether a pod says something somewhere. */
function says({ id, name, state, containers, sandbox }: PodRow, wanted: string): boolean {
  const has = (text: string): boolean => text.toLowerCase().includes(wanted);
  return has(name) || id.startsWith(wanted) || has(state.word) ||
    Object.entries(sandbox.labels).some(([key, value]) => has(`${key}=${value}`)) ||
    containers.some((container) =>
      has(container.name) || has(container.image) || container.id.startsWith(wanted)
    );
}

const ORDERS: Readonly<Record<Sort, (a: PodRow, b: PodRow) => number>> = {
  cpu: (a, b) => (b.usage?.cpus ?? -1) - (a.usage?.cpus ?? -1),
  memory: (a, b) => (b.usage?.memoryBytes ?? -1) - (a.usage?.memoryBytes ?? -1),
  age: (a, b) => b.createdAtMs - a.createdAtMs,
  name: byName,
};

/** Orders by name, then by what is unique, so that rows without a difference keep their places. */
function byName(a: PodRow, b: PodRow): number {
  return compare(a.name, b.name) || compare(a.key, b.key);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
