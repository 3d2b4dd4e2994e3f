/**
 * Calls Task.State of one container again and again, as a process of its own so that the server has
 * no other work. Prints one line of JSON: {@link RpcReport}. `rpc_load.ts` runs it.
 *
 * Arguments: socket path, container id, calls in flight, calls that count.
 *
 * @module
 */

import { Task } from "../../proto/gen/containerd/task/v3/shim_pb.ts";
import { TtrpcClient } from "../../task/ttrpc/client.ts";

/** What a run of the client found. */
export interface RpcReport {
  /** The time of each call in milliseconds. */
  readonly latenciesMs: readonly number[];
  /** The time of all calls together in milliseconds. */
  readonly elapsedMs: number;
}

/** What to call, and how often. */
interface Load {
  readonly client: TtrpcClient;
  readonly containerId: string;
  readonly inFlight: number;
}

/** How long all of it may take, in milliseconds. */
const TIMEOUT_MS = 30_000;

/** Calls a number of times. */
async function callState({ client, containerId, inFlight }: Load, count: number) {
  const latenciesMs: number[] = [];
  let left = count;
  const caller = async (): Promise<void> => {
    while (left-- > 0) {
      const begin = performance.now();
      await client.call(Task.method.state, { id: containerId });
      latenciesMs.push(performance.now() - begin);
    }
  };
  const begin = performance.now();
  await Promise.all(Array.from({ length: inFlight }, caller));
  return { latenciesMs, elapsedMs: performance.now() - begin };
}

if (import.meta.main) {
  const [socketPath = "", containerId = "", inFlight = "1", calls = "1"] = Deno.args;
  Deno.unrefTimer(setTimeout(() => Deno.exit(1), TIMEOUT_MS));
  using client = await TtrpcClient.connect(socketPath, {
    metadata: { "containerd-namespace-ttrpc": "k8s.io" },
  });
  const load = { client, containerId, inFlight: Number(inFlight) };
  // Both sides compile their hot code first.
  await callState(load, Math.ceil(Number(calls) / 2));
  const report: RpcReport = await callState(load, Number(calls));
  await Deno.stdout.write(new TextEncoder().encode(`${JSON.stringify(report)}\n`));
}
