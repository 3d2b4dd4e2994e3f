/**
 * `quasaur top --once` and `--json`: one look, as plain text or as JSON.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { header } from "./header.ts";
import { firstScreen } from "./interaction.ts";
import { fitLine, plainLine } from "./line.ts";
import { listFrame } from "./list_frame.ts";
import { TopModel } from "./model.ts";
import { places } from "./places.ts";
import type { PodRow } from "./pod_row.ts";
import type { Scene } from "./scene.ts";
import { select, type Selection } from "./selection.ts";
import { Source } from "./source.ts";
import type { Quantiles } from "./starts.ts";

/** What is looked at. */
export interface LookOptions {
  /** Sockets of sandboxers; those that are found where it is empty. */
  readonly addresses: readonly string[];
  /** Which pods are shown, and in which order. */
  readonly selection: Selection;
  /** How wide the text may be, in cells. */
  readonly columns: number;
}

/** How long the look takes: CPU is what was used between two measurements, in milliseconds. */
const SPAN_MS = 500;
/** How long sandboxers may take to answer, in milliseconds. */
const ANSWER_MS = 10_000;
/** How often it is looked whether they have, in milliseconds. */
const POLL_MS = 20;

/**
 * Looks once.
 *
 * @returns What there is.
 * @throws {SandboxError} `Unavailable` where no sandboxer answers.
 */
export async function look({ addresses, selection, columns }: LookOptions): Promise<Scene> {
  const model = new TopModel();
  await using source = new Source({ model, addresses, intervalMs: SPAN_MS });
  const end = performance.now() + ANSWER_MS;
  while (!model.isMeasured() && performance.now() < end) {
    const isIdle = addresses.length === 0 && source.hasSearched && model.sandboxers(0).length === 0;
    if (isIdle) break;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  const nowMs = Date.now();
  const sandboxers = model.sandboxers(nowMs);
  if (!sandboxers.some(({ state }) => state === "up")) {
    const found = sandboxers.map(({ address, problem }) => problem || `${address} does not answer`);
    throw new SandboxError(
      "Unavailable",
      found.length > 0 ? `cannot look at any sandboxer: ${found.join("; ")}` : source.problems[0] ??
        `no sandboxer is running: nobody listens at ${places(addresses, []).join(", ")}: start ` +
          "one, such as with `systemctl start quasaur-wasm`, or name its socket with --address",
    );
  }
  const pods = model.pods();
  const screen = { ...firstScreen(selection.sort), selection };
  const events = model.events();
  const scene = { nowMs, intervalMs: SPAN_MS, sandboxers, pods, events, screen, logs: [] };
  const size = { columns, rows: 0 };
  return { ...scene, size, places: places(addresses, source.problems) };
}

/** What was seen as text: the list as on the screen, with all pods and without what is for keys. */
export function asText(scene: Scene): string {
  const { sandboxers, pods, size: { columns } } = scene;
  const layout = {
    sandboxerRows: Math.max(1, sandboxers.length),
    pageRows: Math.max(1, pods.length),
    eventRows: 0,
  };
  return [...header(scene, layout), ...listFrame(scene, layout)]
    .map((line) => plainLine(fitLine(line, columns)))
    .join("\n").trimEnd().concat("\n");
}

/** What was seen as JSON: an object with `sandboxers` and `pods`. */
export function asJson({ sandboxers, pods, screen: { selection } }: Scene): string {
  const seen = {
    sandboxers: sandboxers.map((row) => ({
      kind: row.kind,
      address: row.address,
      version: row.version,
      state: row.state,
      ...(row.problem === "" ? {} : { problem: row.problem }),
      pods: row.pods,
      containers: row.containers,
      cpus: row.cpus ?? null,
      memoryBytes: row.memoryBytes ?? null,
      startsPerSecond: row.startsPerSecond,
      podStartMs: quantilesAsJson(row.podStart),
      containerStartMs: quantilesAsJson(row.containerStart),
      callMs: row.callMs ?? null,
    })),
    pods: select(pods, selection).map(podAsJson),
  };
  return `${JSON.stringify(seen, null, 2)}\n`;
}

function quantilesAsJson(quantiles: Quantiles | undefined) {
  return quantiles === undefined ? null : { p50: quantiles.p50Ms, p99: quantiles.p99Ms };
}

function podAsJson(pod: PodRow) {
  const { id, name, namespace, kind, state, createdAtMs, managed, usage, containers } = pod;
  return {
    ...{ id, name, namespace, kind, state: state.word, managed },
    createdAt: new Date(createdAtMs).toISOString(),
    ...usageAsJson(usage),
    containers: containers.map((container) => ({
      ...{ id: container.id, name: container.name, image: container.image },
      ...{ state: container.state.word, pid: container.pid },
      ...usageAsJson(container.usage),
    })),
  };
}

function usageAsJson(usage: PodRow["usage"]) {
  return {
    cpus: usage?.cpus ?? null,
    memoryBytes: usage?.memoryBytes ?? null,
    memoryLimitBytes: usage?.memoryLimitBytes ?? null,
    pids: usage?.pids ?? null,
  };
}
