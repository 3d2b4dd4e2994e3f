/**
 * The rows of the list: pods as they were asked for, and beneath those that are opened their
 * containers.
 *
 * @module
 */

import type { ContainerRow, PodRow } from "./pod_row.ts";
import { select, type Selection } from "./selection.ts";

/** A row of the list. */
export interface ListRow {
  /** Unique among all rows. */
  readonly key: string;
  /** The pod. */
  readonly pod: PodRow;
  /** The container, where the row is one's. */
  readonly container: ContainerRow | undefined;
}

/**
 * The rows of the list.
 *
 * @param pods All pods.
 * @param shown Which of them, in which order, and which are opened.
 */
export function listRows(
  pods: readonly PodRow[],
  shown: { readonly selection: Selection; readonly opened: ReadonlySet<string> },
): ListRow[] {
  return select(pods, shown.selection).flatMap((pod) => [
    { key: pod.key, pod, container: undefined },
    ...(shown.opened.has(pod.key)
      ? pod.containers.map((container) => ({ key: container.key, pod, container }))
      : []),
  ]);
}
