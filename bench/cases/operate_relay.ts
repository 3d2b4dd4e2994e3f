/**
 * What it costs that restarts lose nothing: the time that the relay adds to a task call, with few and
 * with many containers, and the memory of the processes that outlive a sandboxer.
 *
 * @module
 */

import { create } from "@bufbuild/protobuf";
import {
  StateResponseSchema,
  Task,
  WaitResponseSchema,
} from "../../proto/gen/containerd/task/v3/shim_pb.ts";
import { Launcher } from "../../sandboxers/host/launcher.ts";
import { StandIn } from "../../sandboxers/host/stand_in.ts";
import { TaskRelay } from "../../sandboxers/host/task_relay.ts";
import { noLog } from "../../sandboxers/log.ts";
import { REFUSED_CALLS } from "../../task/testing/refused_calls.ts";
import { TtrpcClient } from "../../task/ttrpc/client.ts";
import { TtrpcServer } from "../../task/ttrpc/server.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { type Measurement, OURS } from "../result.ts";
import { processMemory } from "../support/process_memory.ts";

/** Containers beside the one that is asked for: each holds a connection with an open call. */
const CONTAINERS = [0, 1_000];
/** Calls of one sample. */
const CALLS = 500;
const ROUNDS = 9;
/** The peer: the same call without the relay in between. */
const DIRECT = "direct";

const { state, wait } = Task.method;

/**
 * Measures the relay and the stand-in.
 *
 * @param context See {@link BenchContext}.
 */
export async function operateRelay(context: BenchContext): Promise<Measurement[]> {
  await using resources = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir({ dir: "/run", prefix: "quasaur-bench-" });
  resources.defer(() => Deno.remove(directory, { recursive: true }));
  const own = `${directory}/own.sock`;
  const launcher = new Launcher();
  const relay = await TaskRelay.open({
    launcher,
    listen: `${directory}/task.sock`,
    server: own,
    dir: directory,
    log: noLog,
  });
  resources.defer(() => relay.stop());
  await resources.use(taskServer()).listen(own);
  const direct = resources.use(await TtrpcClient.connect(own));
  const relayed = resources.use(await TtrpcClient.connect(relay.socket));
  const measurements: Measurement[] = [];
  const held: TtrpcClient[] = [];
  for (const containers of CONTAINERS) {
    while (held.length < containers) {
      const client = resources.use(await TtrpcClient.connect(relay.socket));
      client.call(wait, { id: "c" }).catch(() => undefined);
      held.push(client);
    }
    const samples = await takeSamples(context, [
      { name: OURS, sample: () => medianCall(relayed) },
      { name: DIRECT, sample: () => medianCall(direct) },
    ], { count: ROUNDS, warmUps: 1, budgetMs: 20_000 });
    measurements.push({
      name: `Task.State through the relay, ${containers} containers`,
      unit: "ms",
      series: samples,
      peer: DIRECT,
    });
    measurements.push(await memory(`Relay, ${containers} containers`, relay.identity.pid));
  }
  measurements.push(await standInMemory(launcher, `${directory}/sandboxer.sock`));
  return measurements;
}

/** Answers State at once and Wait never. */
function taskServer(): TtrpcServer {
  return new TtrpcServer({ log: noLog }).add(Task, {
    ...REFUSED_CALLS,
    state: ({ id }) => create(StateResponseSchema, { id }),
    wait: (_, { signal }) =>
      new Promise((resolve) => {
        signal.addEventListener("abort", () => resolve(create(WaitResponseSchema)));
      }),
  });
}

/** The median of some calls, in milliseconds. */
async function medianCall(client: TtrpcClient): Promise<number> {
  const times: number[] = [];
  for (let calls = 0; calls < CALLS; calls++) {
    const begin = performance.now();
    await client.call(state, { id: "c" });
    times.push(performance.now() - begin);
  }
  return times.sort((a, b) => a - b)[CALLS / 2] ?? 0;
}

async function memory(name: string, pid: number): Promise<Measurement> {
  const { pssMiB } = await processMemory(pid);
  return { name: `${name}: memory (PSS)`, unit: "MiB", series: new Map([[OURS, [pssMiB]]]) };
}

async function standInMemory(launcher: Launcher, socket: string): Promise<Measurement> {
  using _listener = Deno.listen({ transport: "unix", path: socket });
  const standIn = await StandIn.start({ launcher: launcher.path, socket, holdMs: 1_000 });
  try {
    await standIn.listening();
    return await memory("Stand-in", standIn.pid);
  } finally {
    await standIn.dismiss();
  }
}
