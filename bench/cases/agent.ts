/**
 * How large the guest agent is: in the image that guests boot, and in the memory of a guest, where it
 * is PID 1.
 *
 * @module
 */

import { type BenchContext, takeSamples } from "../benchmark.ts";
import { type Goal, type Measurement, OURS } from "../result.ts";
import { agentBytes, type AgentMemory, agentMemory } from "../support/vmm_agent.ts";
import { VmmHost } from "../support/vmm_host.ts";

const MB = 1e6;
const KIB = 1024;

const GOALS: Readonly<Record<"disk" | "memory", readonly Goal[]>> = {
  disk: [{ kind: "value", atMost: 2.5 }],
  memory: [{ kind: "value", atMost: 3 }],
};

/**
 * Measures the agent.
 *
 * @param context See {@link BenchContext}.
 */
export async function agent(context: BenchContext): Promise<Measurement[]> {
  await using host = await VmmHost.open(context.signal);
  const contenders = [{ name: OURS, sample: () => agentMemory(host) }];
  const rounds = { count: 3, warmUps: 0, budgetMs: 15_000 };
  const samples = (await takeSamples(context, contenders, rounds)).get(OURS) ?? [];
  const measurement = (name: string, values: readonly number[], goals: readonly Goal[] = []) => ({
    name: `guest agent: ${name}`,
    unit: "MB" as const,
    goals,
    series: new Map([[OURS, values]]),
  });
  const memory = (pick: (sample: AgentMemory) => number) =>
    samples.map((sample) => pick(sample) * KIB / MB);
  return [
    measurement("on disk", [await agentBytes(host.spec.initrd) / MB], GOALS.disk),
    measurement("RSS, ready", memory(({ readyKiB }) => readyKiB)),
    measurement("RSS, with a container", memory(({ runningKiB }) => runningKiB), GOALS.memory),
  ];
}
