/**
 * How long it takes from the wish for a container to its guest's first byte, without containerd: our
 * driver, in this process, against a process of the engine's own command line for each guest. Both
 * interpret the same module; ours has loaded it before, as a node has that runs many of an image.
 *
 * @module
 */

import { type BenchContext, takeSamples } from "../benchmark.ts";
import { type Measurement, OURS } from "../result.ts";
import { GuestHost } from "../support/guest_host.ts";
import { processToFirstByte, several, WASMEDGE } from "../support/wasmedge_process.ts";

/**
 * Measures from create to the first byte.
 *
 * @param context See {@link BenchContext}.
 */
export async function engineStart(context: BenchContext): Promise<Measurement[]> {
  const { signal } = context;
  await using host = await GuestHost.open({ guests: ["hello"], engine: "interpreted", signal });
  const contenders = [
    { name: OURS, sample: () => several(() => host.timeToFirstByte({ guest: "hello" })) },
    { name: WASMEDGE, sample: () => several(() => processToFirstByte("hello")) },
  ];
  const rounds = { count: 60, warmUps: 10, budgetMs: 30_000 };
  const samples = await takeSamples(context, contenders, rounds);
  return [{
    name: "engine start to first byte",
    unit: "ms",
    series: new Map([...samples].map(([name, blocks]) => [name, blocks.flat()])),
    peer: WASMEDGE,
    goals: [
      { kind: "value", atMost: 0.6 },
      { kind: "ratio", peer: WASMEDGE, atMost: 1 / 30, written: "1/30" },
    ],
  }];
}
