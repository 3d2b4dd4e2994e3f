/**
 * How long it takes from the wish to kill a guest until its end is known, whatever the guest does:
 * wait in a system call, or compute, interpreted or compiled.
 *
 * @module
 */

import type { GuestName } from "../../tests/guests/build.ts";
import { freePort } from "../../tests/support/http.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { type Goal, type Measurement, OURS } from "../result.ts";
import { GuestHost, type GuestRequest } from "../support/guest_host.ts";
import { within } from "../support/within.ts";

const SIGKILL = 9;

/** How long a guest may take to get to where it is killed, in milliseconds. */
const SETTLE_MS = 3;

/** How long an end may take, in milliseconds: far beyond any goal. */
const END_TIMEOUT_MS = 30_000;

const GOALS: readonly Goal[] = [{ kind: "value", atMost: 20, of: "p99" }];

/** What a guest does when it is killed. */
interface Activity {
  readonly name: string;
  readonly engine: "compiled" | "interpreted";
  readonly request: () => GuestRequest;
}

const GUESTS: readonly GuestName[] = ["block", "spin"];

const ACTIVITIES: readonly Activity[] = [
  { name: "sleeping", engine: "compiled", request: () => block("sleep") },
  {
    name: "reading stdin",
    engine: "compiled",
    request: () => ({ ...block("stdin"), stdin: true }),
  },
  { name: "writing to a full pipe", engine: "compiled", request: () => block("stdout") },
  {
    name: "accepting",
    engine: "compiled",
    request: () => ({ guest: "block", args: ["accept", `${freePort()}`] }),
  },
  { name: "computing, compiled", engine: "compiled", request: () => ({ guest: "spin" }) },
  { name: "computing, interpreted", engine: "interpreted", request: () => ({ guest: "spin" }) },
  { name: "sleeping, interpreted", engine: "interpreted", request: () => block("sleep") },
];

/**
 * Measures from the kill to the end.
 *
 * @param context See {@link BenchContext}.
 */
export async function kill(context: BenchContext): Promise<Measurement[]> {
  const { signal } = context;
  await using compiled = await GuestHost.open({ guests: GUESTS, engine: "compiled", signal });
  await using interpreted = await GuestHost.open({ guests: GUESTS, engine: "interpreted", signal });
  const hosts = { compiled, interpreted };
  const contenders = ACTIVITIES.map(({ name, engine, request }) => ({
    name,
    sample: () => killOnce(hosts[engine], request()),
  }));
  const rounds = { count: 200, warmUps: 5, budgetMs: 20_000 };
  const samples = await takeSamples(context, contenders, rounds);
  return [...samples].map(([name, values]) => ({
    name: `kill while ${name}`,
    unit: "ms",
    series: new Map([[OURS, values]]),
    goals: GOALS,
  }));
}

function block(kind: string): GuestRequest {
  return { guest: "block", args: [kind] };
}

/** Starts a guest, lets it get going, and kills it. Only the kill is timed. */
async function killOnce(host: GuestHost, request: GuestRequest): Promise<number> {
  await using guest = await host.start(request);
  host.waitForByte(guest);
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const begin = performance.now();
  await guest.process.kill(SIGKILL);
  const { status } = await within(END_TIMEOUT_MS, "the end of a guest", guest.process.exited);
  const elapsedMs = performance.now() - begin;
  if (status !== 128 + SIGKILL) throw new Error(`a killed guest ended with status ${status}`);
  return elapsedMs;
}
