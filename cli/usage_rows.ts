/**
 * From samples of what sandboxes use to rows for people: with names, and with the share of CPU since
 * the sample before.
 *
 * @module
 */

import type {
  Sandbox,
  StatsResponse,
  Usage,
} from "../proto/gen/quasaur/management/v1/management_pb.ts";
import type { ManagementClient } from "../sandboxers/client/management_client.ts";
import { timeMs } from "./show/sandboxes.ts";

const NS_PER_MS = 1_000_000;

/** What a sandbox or a container uses. */
export interface UsageRow {
  /** When it was measured, as ISO 8601; null where that is not known. */
  readonly at: string | null;
  /** The id of the sandbox. */
  readonly sandbox: string;
  /** The id of the container, where the row is one's. */
  readonly container?: string;
  /** The name of the sandbox, or of the container; empty for none. */
  readonly name: string;
  /** The kind of the sandbox. */
  readonly kind: string;
  /** CPU time so far, in nanoseconds. */
  readonly cpuNs: number;
  /** CPUs in use since the sample before, 1 for one of them; null for the first sample. */
  readonly cpuShare: number | null;
  /** Memory in use. */
  readonly memoryBytes: number;
  /** The most memory that it may use; 0 for no limit. */
  readonly memoryLimitBytes: number;
  /** Processes and threads. */
  readonly pids: number;
}

/** What {@link UsageRows} works with. */
export interface UsageRowsOptions {
  /** Whether there is a row for each container in the place of its sandbox. */
  readonly byContainer: boolean;
  /** Asks what a sandboxer has, when a sample names a sandbox that is not known. */
  describe(client: ManagementClient): Promise<readonly Sandbox[]>;
}

/** Rows of the last samples of all sandboxers. */
export class UsageRows {
  readonly #options: UsageRowsOptions;
  readonly #rows = new Map<ManagementClient, readonly UsageRow[]>();
  readonly #known = new Map<ManagementClient, ReadonlyMap<string, Sandbox>>();

  /** Has no rows yet. */
  constructor(options: UsageRowsOptions) {
    this.#options = options;
  }

  /**
   * Takes a sample of a sandboxer.
   *
   * @returns Its rows.
   */
  async take(client: ManagementClient, { sandboxes }: StatsResponse): Promise<readonly UsageRow[]> {
    const known = await this.#describe(client, sandboxes.map(({ sandboxId }) => sandboxId));
    const before = new Map(this.#rows.get(client)?.map((row) => [keyOf(row), row]));
    const rows = sandboxes.flatMap(({ sandboxId, usage, containers }): UsageRow[] => {
      const sandbox = known.get(sandboxId);
      const { name = "", kind = "" } = sandbox ?? {};
      const common = { sandbox: sandboxId, kind };
      if (!this.#options.byContainer) {
        const whole = usage ?? sumOf(containers.flatMap((each) => each.usage ?? []));
        return whole === undefined ? [] : [{ ...common, name, ...numbersOf(whole) }];
      }
      return containers.flatMap(({ containerId, usage }) => {
        const found = sandbox?.containers.find(({ id }) => id === containerId);
        const names = { container: containerId, name: found?.name ?? "" };
        return usage === undefined ? [] : [{ ...common, ...names, ...numbersOf(usage) }];
      });
    }).map((row) => ({ ...row, cpuShare: shareOf(row, before.get(keyOf(row))) }));
    this.#rows.set(client, rows);
    return rows;
  }

  /** The rows of all, those that use most CPU first. */
  all(): UsageRow[] {
    return [...this.#rows.values()].flat().sort((a, b) =>
      (b.cpuShare ?? 0) - (a.cpuShare ?? 0) || b.memoryBytes - a.memoryBytes
    );
  }

  async #describe(
    client: ManagementClient,
    ids: readonly string[],
  ): Promise<ReadonlyMap<string, Sandbox>> {
    const known = this.#known.get(client);
    if (known !== undefined && ids.every((id) => known.has(id))) return known;
    const sandboxes = await this.#options.describe(client);
    const described = new Map(sandboxes.map((sandbox) => [sandbox.id, sandbox]));
    this.#known.set(client, described);
    return described;
  }
}

function keyOf({ sandbox, container = "" }: UsageRow): string {
  return `${sandbox}/${container}`;
}

function numbersOf(usage: Usage) {
  const { at, cpuNs, memoryBytes, memoryLimitBytes, pids } = usage;
  return {
    at: at === undefined ? null : new Date(timeMs(at)).toISOString(),
    cpuNs: Number(cpuNs),
    cpuShare: null,
    memoryBytes: Number(memoryBytes),
    memoryLimitBytes: Number(memoryLimitBytes),
    pids,
  };
}

/** What several use together; undefined for none. Limits do not add up. */
function sumOf(usages: readonly Usage[]): Usage | undefined {
  const [first, ...rest] = usages;
  if (first === undefined) return undefined;
  return rest.reduce((sum, usage) => ({
    ...sum,
    cpuNs: sum.cpuNs + usage.cpuNs,
    memoryBytes: sum.memoryBytes + usage.memoryBytes,
    memoryLimitBytes: 0n,
    pids: sum.pids + usage.pids,
  }), first);
}

/** CPUs in use between two samples; null where that cannot be said. */
function shareOf(now: UsageRow, before: UsageRow | undefined): number | null {
  if (before === undefined || now.at === null || before.at === null) return null;
  const passedMs = Date.parse(now.at) - Date.parse(before.at);
  if (passedMs <= 0 || now.cpuNs < before.cpuNs) return before.cpuShare;
  return (now.cpuNs - before.cpuNs) / (passedMs * NS_PER_MS);
}
