/**
 * How long it takes from the wish for a microVM to the first output of a container in it, without
 * containerd, and where that time goes: for a machine that boots, for the clone of a template, and
 * for a clone that was kept ready. The peer is the same guest booted by QEMU alone.
 *
 * @module
 */

import { type BenchContext, takeSamples } from "../benchmark.ts";
import type { Goal, Measurement } from "../result.ts";
import { OURS } from "../result.ts";
import { slowRounds } from "../support/vmm_bed.ts";
import { bareBoot } from "../support/vmm_bare.ts";
import { type Origin, type StartTimes, VmmHost } from "../support/vmm_host.ts";

/** Names in the results. */
const BOOT = "ours, booted";
const CLONE = "ours, cloned";
const BARE = "bare QEMU";

/** The machines that we start, in the order of the steps' series. */
const ORIGINS: readonly Origin[] = ["pool", "clone", "boot"];

/** Who is who where all three are compared: the usual way is ours. */
const NAMES: Readonly<Record<Origin, string>> = { pool: OURS, clone: CLONE, boot: BOOT };

/** The steps: how each is told, and where it begins and ends. */
const STEPS: readonly {
  readonly name: string;
  readonly from?: keyof StartTimes;
  readonly to: keyof StartTimes;
}[] = [
  { name: "VMM runs", to: "spawned" },
  { name: "agent answers", from: "spawned", to: "answered" },
  { name: "identity set", from: "answered", to: "identified" },
  { name: "root file system attached", from: "identified", to: "attached" },
  { name: "container created", from: "attached", to: "created" },
  { name: "container started", from: "created", to: "started" },
  { name: "first output", from: "started", to: "printed" },
];

/**
 * Measures the start of machines.
 *
 * @param context See {@link BenchContext}.
 */
export async function vmmStart(context: BenchContext): Promise<Measurement[]> {
  await using host = await VmmHost.open(context.signal);
  const contenders = [
    ...ORIGINS.map((name) => ({ name, sample: async () => await host.start(name) })),
    { name: BARE, sample: () => bareBoot(host) },
  ];
  const rounds = slowRounds(context, { count: 30, budgetMs: 60_000 });
  const samples = await takeSamples<StartTimes | number>(context, contenders, rounds);
  const times = (origin: Origin) =>
    (samples.get(origin) ?? []).filter((one) => typeof one !== "number");
  const bare = (samples.get(BARE) ?? []).filter((one) => typeof one === "number");
  const answered = (origin: Origin) => times(origin).map((one) => one.answered);
  return [
    {
      ...measurement("vmm start, booted: agent answers", BARE, [
        { kind: "ratio", peer: BARE, atMost: 1.05, written: "1.05" },
      ]),
      series: new Map([[OURS, answered("boot")], [BARE, bare]]),
    },
    {
      ...measurement("vmm start, cloned: agent answers", BOOT, [
        { kind: "ratio", peer: BOOT, atMost: 0.06, written: "0.06" },
        { kind: "value", atMost: 110 },
      ]),
      series: new Map([[OURS, answered("clone")], [BOOT, answered("boot")]]),
    },
    {
      ...measurement("vmm start, from the pool: identity set", BOOT, [
        { kind: "value", atMost: 60 },
      ]),
      series: byOrigin((origin) => times(origin).map(({ identified }) => identified)),
    },
    {
      ...measurement("vmm start, from the pool: first output", BOOT),
      series: byOrigin((origin) => times(origin).map(({ printed }) => printed)),
    },
    ...STEPS.map(({ name, from, to }) => ({
      ...measurement(`vmm start: ${name}`, BOOT),
      series: byOrigin((origin) =>
        times(origin).map((one) => one[to] - (from === undefined ? 0 : one[from]))
      ),
    })),
  ];
}

function measurement(name: string, peer: string, goals: readonly Goal[] = []) {
  return { name, unit: "ms", peer, goals } as const;
}

/** A series of each way to start. */
function byOrigin(values: (origin: Origin) => number[]): Map<string, number[]> {
  return new Map(ORIGINS.map((origin) => [NAMES[origin], values(origin)]));
}
