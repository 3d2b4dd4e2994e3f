/**
 * The last events of a sandboxer, in memory, for those who ask what happens. Every reader has a place
 * in the one ring and nothing else, so a slow one costs nothing: what it has missed is told it as a
 * number.
 *
 * @module
 */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { EventSchema } from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import type { LifecycleEvent } from "../lifecycle/events.ts";
import type { EventListener } from "../lifecycle/events.ts";
import type { Exit } from "../lifecycle/spec.ts";
import { Bell } from "./bell.ts";
import { exitMessage } from "./messages.ts";

/** An event as it is sent. */
export type EventMessage = MessageInitShape<typeof EventSchema>;

/** How many events are remembered. */
export const EVENTS_MAX = 1024;

/** How long it may take until followers hear of an event, in milliseconds. */
const DELAY_MS = 10;

/** Longest text of an event, in characters. */
const MESSAGE_LENGTH_MAX = 256;

/** What is remembered of an event: never a specification, which holds the environment. */
interface Remembered {
  readonly at: number;
  readonly type: LifecycleEvent["kind"];
  readonly namespace: string;
  readonly sandboxId: string;
  readonly containerId: string;
  readonly execId: string;
  readonly pid: number;
  readonly exit: Exit | undefined;
  readonly message: string;
}

/** Which events are wanted. */
export interface EventsWanted {
  /** Also those since then, in milliseconds since the epoch; missing for only those to come. */
  readonly sinceMs?: number;
  /** Whether to end after those that are remembered. */
  readonly noFollow: boolean;
  /** Only of this sandbox; empty for all. */
  readonly sandboxId: string;
}

/** The last events. Give {@link EventHistory.add} to the lifecycle. */
export class EventHistory {
  readonly #ring: (Remembered | undefined)[];
  readonly #capacity: number;
  readonly #bell = new Bell(DELAY_MS);
  /** The number of the next event; counts from 0. */
  #next = 0;

  /**
   * A history without events.
   *
   * @param capacity How many events are remembered.
   */
  constructor(capacity: number = EVENTS_MAX) {
    this.#capacity = capacity;
    this.#ring = new Array<Remembered | undefined>(capacity);
  }

  /** How many events there have been. */
  get total(): number {
    return this.#next;
  }

  /** Takes an event; bound, so that it can be given away. */
  readonly add: EventListener = (event) => {
    this.#ring[this.#next % this.#capacity] = remembered(event);
    this.#next += 1;
    this.#bell.ring();
  };

  /**
   * The events that are wanted, as they come.
   *
   * @param wanted Which ones.
   * @param signal Ends it.
   */
  async *follow(wanted: EventsWanted, signal: AbortSignal): AsyncGenerator<EventMessage> {
    let place = wanted.sinceMs === undefined ? this.#next : this.#oldest;
    let lost = 0;
    for (;;) {
      while (place < this.#next) {
        if (place < this.#oldest) {
          lost += this.#oldest - place;
          place = this.#oldest;
        }
        const event = this.#ring[place % this.#capacity];
        place += 1;
        if (event === undefined || !isWanted(event, wanted)) continue;
        yield { ...messageOf(event), lostBefore: BigInt(lost) };
        lost = 0;
      }
      if (wanted.noFollow) return;
      await this.#bell.rung(signal);
    }
  }

  get #oldest(): number {
    return Math.max(0, this.#next - this.#capacity);
  }
}

function isWanted(event: Remembered, { sinceMs = 0, sandboxId }: EventsWanted): boolean {
  return event.at >= sinceMs && (sandboxId === "" || event.sandboxId === sandboxId);
}

function remembered(event: LifecycleEvent): Remembered {
  return {
    at: event.at,
    type: event.kind,
    namespace: event.namespace,
    sandboxId: event.sandboxId,
    containerId: "containerId" in event ? event.containerId : "",
    execId: "execId" in event ? event.execId : event.kind === "exec-added" ? event.spec.id : "",
    pid: "pid" in event ? event.pid : 0,
    exit: "exit" in event ? event.exit : undefined,
    message: textOf(event).slice(0, MESSAGE_LENGTH_MAX),
  };
}

/** What else is worth telling of an event. */
function textOf(event: LifecycleEvent): string {
  switch (event.kind) {
    case "sandbox-failed":
      return event.message;
    case "container-created":
    case "exec-added":
      return event.spec.process.args.join(" ");
    default:
      return "exit" in event ? event.exit.message ?? "" : "";
  }
}

function messageOf(event: Remembered): EventMessage {
  const { at, exit, ...rest } = event;
  return {
    ...rest,
    at: timestampFromMs(at),
    ...(exit === undefined ? {} : { exit: exitMessage(exit) }),
  };
}
