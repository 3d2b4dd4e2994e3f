/**
 * `poll_oneoff`: waits for clocks and descriptors.
 *
 * @module
 */

import { RIGHT, WASI_ERRNO, WasiError } from "./abi.ts";
import type { WasiContext, WasiFunctions } from "./context.ts";
import { hostClock } from "./process_functions.ts";

const SUBSCRIPTION_BYTES = 48;
const EVENT_BYTES = 32;
const POLL_BYTES = 8;
/** Most subscriptions of one call. */
const SUBSCRIPTIONS_MAX = 4_096;

const EVENT_CLOCK = 0;
const EVENT_READ = 1;
const EVENT_WRITE = 2;
const CLOCK_ABSOLUTE = 1;
const EVENT_HANGUP = 1;

const POLLIN = 1;
const POLLOUT = 4;
const POLLERR = 8;
const POLLHUP = 16;
const POLLNVAL = 32;

/** A subscription; `deadlineNs` on its clock, `host` where there is a descriptor. */
type Subscription =
  & { readonly userdata: bigint; readonly type: number }
  & (
    | { readonly kind: "clock"; readonly clock: number; readonly deadlineNs: bigint }
    | { readonly kind: "descriptor"; readonly host: number }
    | { readonly kind: "failed"; readonly errno: number }
  );

/** What became of a subscription. */
interface Happened {
  readonly subscription: Subscription;
  readonly errno: number;
  readonly bytes: bigint;
  readonly hangup: boolean;
}

/** Makes the function. */
export function pollFunctions(context: WasiContext): WasiFunctions {
  return {
    poll_oneoff: (from: number, to: number, count: number, result: number) => {
      if (count >>> 0 === 0 || count >>> 0 > SUBSCRIPTIONS_MAX) {
        throw new WasiError(WASI_ERRNO.INVAL);
      }
      const { memory } = context;
      memory.view(to, count * EVENT_BYTES);
      const subscriptions = Array.from({ length: count }, (_, i) => {
        return readSubscription(context, memory.view(from + i * SUBSCRIPTION_BYTES, 48));
      });
      const happened = wait(context, subscriptions);
      happened.forEach((event, i) => {
        writeEvent(memory.view(to + i * EVENT_BYTES, EVENT_BYTES), event);
      });
      memory.setU32(result, happened.length);
    },
  };
}

function readSubscription(context: WasiContext, view: DataView): Subscription {
  const userdata = view.getBigUint64(0, true);
  const type = view.getUint8(8);
  const base = { userdata, type };
  if (type === EVENT_CLOCK) {
    const clock = hostClock(view.getUint32(16, true));
    const timeout = view.getBigUint64(24, true);
    const absolute = (view.getUint16(40, true) & CLOCK_ABSOLUTE) !== 0;
    const deadlineNs = absolute ? timeout : context.calls.now(clock) + timeout;
    return { ...base, kind: "clock", clock, deadlineNs };
  }
  if (type !== EVENT_READ && type !== EVENT_WRITE) throw new WasiError(WASI_ERRNO.INVAL);
  try {
    const { host } = context.descriptors.get(view.getUint32(16, true), RIGHT.POLL_FD_READWRITE);
    return { ...base, kind: "descriptor", host };
  } catch (error) {
    if (!(error instanceof WasiError)) throw error;
    return { ...base, kind: "failed", errno: error.errno };
  }
}

/** Waits until something has happened. */
function wait(context: WasiContext, subscriptions: readonly Subscription[]): Happened[] {
  const watched = subscriptions.filter((subscription) => subscription.kind === "descriptor");
  const polls = new Uint8Array(watched.length * POLL_BYTES);
  const view = new DataView(polls.buffer);
  watched.forEach(({ host, type }, i) => {
    view.setInt32(i * POLL_BYTES, host, true);
    view.setInt16(i * POLL_BYTES + 4, type === EVENT_READ ? POLLIN : POLLOUT, true);
  });
  for (;;) {
    const failed = subscriptions.flatMap((subscription): Happened[] =>
      subscription.kind === "failed"
        ? [{ subscription, errno: subscription.errno, bytes: 0n, hangup: false }]
        : []
    );
    const timeoutNs = failed.length > 0 ? 0n : timeLeft(context, subscriptions);
    context.calls.poll(polls, timeoutNs);
    const ready = watched.flatMap((subscription, i): Happened[] => {
      const events = view.getInt16(i * POLL_BYTES + 6, true);
      return events === 0 ? [] : [describe(context, subscription, subscription.host, events)];
    });
    const happened = [...failed, ...ready, ...expired(context, subscriptions)];
    if (happened.length > 0) return happened;
  }
}

/** Until the first clock; undefined where there is none. */
function timeLeft(
  { calls }: WasiContext,
  subscriptions: readonly Subscription[],
): bigint | undefined {
  let least: bigint | undefined;
  for (const subscription of subscriptions) {
    if (subscription.kind !== "clock") continue;
    const left = subscription.deadlineNs - calls.now(subscription.clock);
    if (least === undefined || left < least) least = left < 0n ? 0n : left;
  }
  return least;
}

function expired({ calls }: WasiContext, subscriptions: readonly Subscription[]): Happened[] {
  return subscriptions.flatMap((subscription): Happened[] =>
    subscription.kind === "clock" && calls.now(subscription.clock) >= subscription.deadlineNs
      ? [{ subscription, errno: 0, bytes: 0n, hangup: false }]
      : []
  );
}

function describe(
  { calls }: WasiContext,
  subscription: Subscription,
  host: number,
  events: number,
): Happened {
  const hangup = (events & (POLLHUP | POLLERR)) !== 0;
  if ((events & POLLNVAL) !== 0) return { subscription, errno: WASI_ERRNO.BADF, bytes: 0n, hangup };
  const bytes = subscription.type === EVENT_READ ? calls.readable(host) : 1n;
  return { subscription, errno: 0, bytes, hangup };
}

function writeEvent(view: DataView, { subscription, errno, bytes, hangup }: Happened): void {
  view.setBigUint64(0, subscription.userdata, true);
  view.setUint16(8, errno, true);
  view.setUint8(10, subscription.type);
  view.setBigUint64(16, bytes, true);
  view.setUint16(24, hangup ? EVENT_HANGUP : 0, true);
}
