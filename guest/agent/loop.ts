/**
 * The agent's event loop: descriptors that are watched by epoll(7), and timers. The waiting itself
 * and the running of promise jobs are in the native part; here is who gets called. Everything runs
 * in one thread; a handler must never block.
 *
 * @module
 */

import * as sys from "./sys.js";
import { CLOCK_MONOTONIC } from "./linux.ts";
import { must } from "./errno.ts";

/** Called with the EPOLL* events that a descriptor has. */
export type ReadyHandler = (events: number) => void;

/** A descriptor that is watched. */
export interface Watch {
  /** The descriptor. */
  readonly fd: number;
  /**
   * Changes what it is watched for.
   *
   * @param events EPOLL* of `linux.ts`; 0 leaves only errors and hang-ups.
   */
  modify(events: number): void;
  /** Ends watching; the descriptor stays open. Call it BEFORE the descriptor is closed. */
  stop(): void;
}

/** A timer that was set. */
export interface Timer {
  /** Forgets it; does nothing where it has run. */
  cancel(): void;
}

const handlers: (FdWatch | undefined)[] = [];

/** See {@link Watch}. */
class FdWatch implements Watch {
  #events: number;

  constructor(readonly fd: number, events: number, readonly handler: ReadyHandler) {
    this.#events = events;
  }

  modify(events: number): void {
    if (this.#events === events || handlers[this.fd] !== this) return;
    must("cannot change a watch", sys.epollModify(this.fd, events));
    this.#events = events;
  }

  stop(): void {
    if (handlers[this.fd] !== this) return;
    handlers[this.fd] = undefined;
    sys.epollRemove(this.fd);
  }
}

/**
 * Watches a descriptor.
 *
 * @param fd The descriptor; the caller keeps owning it. One watch per descriptor.
 * @param events EPOLL* of `linux.ts`; level-triggered unless EPOLLET is among them.
 * @param handler Called for every event, also for EPOLLERR and EPOLLHUP.
 * @throws AgentError Where the kernel cannot watch it (`EPERM`: a plain file).
 */
export function watch(fd: number, events: number, handler: ReadyHandler): Watch {
  const made = new FdWatch(fd, events, handler);
  if (handlers[fd] !== undefined) throw new RangeError(`descriptor ${fd} is watched already`);
  must("cannot watch a descriptor", sys.epollAdd(fd, events));
  handlers[fd] = made;
  return made;
}

/** See {@link Timer}. */
class HeapTimer implements Timer {
  index = -1;

  constructor(readonly dueMs: number, readonly order: number, readonly action: () => void) {}

  cancel(): void {
    if (this.index >= 0) removeTimer(this);
  }
}

// A binary heap by time, then by the order of setting.
const heap: HeapTimer[] = [];
let timerOrder = 0;

/**
 * Calls a function once, later.
 *
 * @param delayMs How much later, in milliseconds; 0 for the next turn of the loop.
 * @param action What to call.
 */
export function after(delayMs: number, action: () => void): Timer {
  const timer = new HeapTimer(
    sys.clock(CLOCK_MONOTONIC) + Math.max(0, delayMs),
    timerOrder++,
    action,
  );
  timer.index = heap.length;
  heap.push(timer);
  moveUp(timer);
  return timer;
}

/**
 * Waits.
 *
 * @param delayMs How long, in milliseconds.
 */
export function sleep(delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    after(delayMs, resolve);
  });
}

/** Gives the native part what it calls; once, before anything is watched. */
export function startLoop(failed: (message: string) => void): void {
  sys.setLoop(dispatch, tick, failed);
}

function dispatch(fd: number, events: number): void {
  handlers[fd]?.handler(events);
}

/** Runs one timer that is due; answers how long the loop may wait for the next. */
function tick(): number {
  const first = heap[0];
  if (first === undefined) return -1;
  const waitMs = first.dueMs - sys.clock(CLOCK_MONOTONIC);
  if (waitMs > 0) return Math.ceil(waitMs);
  removeTimer(first);
  first.action();
  return 0;
}

function isBefore(a: HeapTimer, b: HeapTimer): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}

function put(timer: HeapTimer, index: number): void {
  heap[index] = timer;
  timer.index = index;
}

function moveUp(timer: HeapTimer): void {
  let index = timer.index;
  while (index > 0) {
    const parentIndex = (index - 1) >> 1;
    const parent = heap[parentIndex];
    if (parent === undefined || !isBefore(timer, parent)) break;
    put(parent, index);
    index = parentIndex;
  }
  put(timer, index);
}

function moveDown(timer: HeapTimer): void {
  let index = timer.index;
  for (;;) {
    let childIndex = 2 * index + 1;
    let child = heap[childIndex];
    if (child === undefined) break;
    const right = heap[childIndex + 1];
    if (right !== undefined && isBefore(right, child)) {
      child = right;
      childIndex++;
    }
    if (!isBefore(child, timer)) break;
    put(child, index);
    index = childIndex;
  }
  put(timer, index);
}

function removeTimer(timer: HeapTimer): void {
  const index = timer.index;
  timer.index = -1;
  const last = heap.pop();
  if (last === undefined || last === timer) return;
  last.index = index;
  heap[index] = last;
  moveUp(last);
  moveDown(last);
}
