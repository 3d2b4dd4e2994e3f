/**
 * The life of a sandboxer process, the same for every kind: take over what an earlier process left,
 * listen, say "ready", serve until a signal comes, and leave so that the next process can take over.
 *
 * @module
 */

import { SandboxError } from "./lifecycle/errors.ts";
import type { Sandboxer } from "./lifecycle/sandboxer.ts";
import type { Log } from "./log.ts";
import { drain } from "./serve_drain.ts";
import { SystemdNotifier } from "./serve_notify.ts";
import type { ServeOptions } from "./serve_options.ts";
import { ServePlaces } from "./serve_places.ts";
import { recoverLifecycle } from "./serve_recovery.ts";
import { listenAtAll, type Servers } from "./serve_servers.ts";

export type { ServeOptions } from "./serve_options.ts";

/** How long calls may take to end by themselves when the process leaves, in milliseconds. */
const GRACE_MS = 1000;

/** The longest the process may take to leave when it waits for no call any more, in milliseconds. */
const LEAVE_MS = 5000;

/** The longest it may take from the moment that it is told a second time, in milliseconds. */
const HURRY_MS = 2000;

/** How long what is given up may take to be undone, in milliseconds. */
const UNDO_MS = 4000;

/** How long a call that has come may take to be begun, in milliseconds. */
const ON_ITS_WAY_MS = 50;

/** How long calls under way may take to end, in seconds, unless the options say otherwise. */
const DRAIN_SECONDS = 10;

/**
 * Runs a sandboxer until SIGTERM or SIGINT, then exits the process: with 0, or with 1 where it could
 * not start, with the reason in the log.
 *
 * @param options See {@link ServeOptions}.
 */
export async function serve(options: ServeOptions): Promise<never> {
  const { log } = options;
  const signals = terminationSignals();
  surviveStrayErrors(log);
  const notifier = new SystemdNotifier(options.dir, log);
  try {
    const started = startTold(options, notifier);
    // A signal does not wait for a start that takes long; what it leaves, the next start cleans up.
    const serving = await Promise.race([started, signals.first]);
    if (typeof serving !== "string") {
      await sayReady(serving, options, notifier);
      log.info("stopping", { signal: await signals.first });
      await leave(serving, options, { notifier, hurry: signals.hurry });
    }
  } catch (error) {
    log.error("cannot start", { error: SandboxError.from(error) });
    Deno.exit(1);
  }
  Deno.exit(0);
}

/** A sandboxer that serves. */
export interface Serving {
  /** The kind of its sandboxes. */
  readonly kind: string;
  /** How many sandboxes there are. */
  readonly sandboxes: number;
  /**
   * Has calls that are under way end: nothing new is taken on, and what does not end in its time is
   * undone. Callers are sent to whoever stands in for this process. Waits stay open.
   *
   * @param progress How it goes.
   */
  drain(progress?: DrainProgress): Promise<void>;
  /**
   * Stops serving: nothing new is taken on, open waits are answered with `Unavailable`, sockets are
   * closed and removed. What runs in the sandboxes is left to the next process.
   */
  stop(): Promise<void>;
}

/** What {@link Serving.drain} tells, and is told. */
export interface DrainProgress {
  /** Aborted when somebody is in a hurry: what is under way is undone now. */
  readonly hurry?: AbortSignal;
  /** Hears now and then how many calls are still under way. */
  readonly tell?: (underWay: number) => void;
}

/**
 * Starts serving, without signals and exits: the part of {@link serve} that other programs may want.
 * From then on nobody but this user may write to what the process makes: see umask.ts.
 *
 * @param options See {@link ServeOptions}.
 * @throws SandboxError `AlreadyExists` when another sandboxer has the directory or a socket.
 */
export async function start(options: ServeOptions): Promise<Serving> {
  await using resources = new AsyncDisposableStack();
  const places = resources.use(await ServePlaces.claim(options));
  const composed = await recoverLifecycle(options, resources);
  const servers = await listenAtAll(options, composed, places, resources);
  await places.listening();
  const { sandboxer } = composed;
  const owned = resources.move();
  return {
    kind: sandboxer.driver.kind,
    get sandboxes() {
      return sandboxer.counts().sandboxes;
    },
    drain: (progress = {}) => drainServers(options, { sandboxer, servers, places }, progress),
    async stop() {
      await sandboxer.close();
      await Promise.all([servers.controller.close(GRACE_MS), servers.tasks.close(GRACE_MS)]);
      await owned.disposeAsync();
    },
  };
}

/** See {@link Serving.drain}. */
async function drainServers(
  { drainSeconds = DRAIN_SECONDS, log }: ServeOptions,
  { sandboxer, servers, places }: {
    readonly sandboxer: Sandboxer;
    readonly servers: Servers;
    readonly places: ServePlaces;
  },
  { hurry, tell = () => undefined }: DrainProgress,
): Promise<void> {
  const { takePlace } = places;
  if (takePlace !== undefined && sandboxer.counts().sandboxes > 0) {
    const leaveMs = drainSeconds * 1000 + LEAVE_MS;
    await servers.controller.handOver(() => takePlace(leaveMs));
    // What has come by then is still taken; what comes after that goes to the next process.
    await new Promise((resolve) => setTimeout(resolve, ON_ITS_WAY_MS));
  }
  sandboxer.drain();
  if (await drain({ sandboxer, timeoutMs: drainSeconds * 1000, hurry, tell }) === 0) return;
  servers.controller.abort();
  await servers.tasks.close();
  const left = await drain({ sandboxer, timeoutMs: UNDO_MS, tell });
  if (left > 0) log.warn("leaving what could not be undone to the next", { operations: left });
}

/** {@link start}, with systemd told that it may take long. */
async function startTold(options: ServeOptions, notifier: SystemdNotifier): Promise<Serving> {
  using _time = notifier.takeTime();
  void notifier.status("taking over the sandboxes of the process before this one");
  return await start(options);
}

/** For who started us: a line on standard output, and a message where systemd waits for one. */
async function sayReady(
  { kind, sandboxes }: Serving,
  { listen, taskListen, dir, log }: ServeOptions,
  notifier: SystemdNotifier,
): Promise<void> {
  try {
    await Deno.stdout.write(new TextEncoder().encode("ready\n"));
  } catch (error) {
    log.debug("nobody reads standard output", { error });
  }
  await notifier.ready(`ready; took over ${sandboxes} sandboxes`);
  notifier.watch();
  log.info("ready", { kind, listen, taskListen, dir });
}

async function leave(
  serving: Serving,
  { drainSeconds = DRAIN_SECONDS, log }: ServeOptions,
  { notifier, hurry }: { readonly notifier: SystemdNotifier; readonly hurry: AbortSignal },
): Promise<void> {
  await notifier.stopping("stopping");
  const tell = (operations: number) => {
    log.info("waiting for what is under way", { operations });
    void notifier.status(`stopping; waiting for ${operations} operations`);
  };
  using _time = notifier.takeTime();
  const leaving = serving.drain({ hurry, tell }).then(() => serving.stop());
  await withinLeaveTime(leaving, { timeoutMs: drainSeconds * 1000 + LEAVE_MS, hurry, log });
}

/** The signals that ask this process to end: the name of the first, and an abort at the second. */
function terminationSignals(): { readonly first: Promise<string>; readonly hurry: AbortSignal } {
  const { promise, resolve } = Promise.withResolvers<string>();
  const hurry = new AbortController();
  let count = 0;
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    Deno.addSignalListener(name, () => {
      resolve(name);
      if (++count > 1) hurry.abort();
    });
  }
  return { first: promise, hurry: hurry.signal };
}

/** Waits for the end of a stop, but not for ever: a process that hangs blocks the next one. */
async function withinLeaveTime(
  stopped: Promise<void>,
  { timeoutMs, hurry, log }: {
    readonly timeoutMs: number;
    readonly hurry: AbortSignal;
    readonly log: Log;
  },
): Promise<void> {
  const { promise: timeout, resolve } = Promise.withResolvers<"late">();
  let timer = setTimeout(() => resolve("late"), timeoutMs);
  hurry.addEventListener("abort", () => {
    clearTimeout(timer);
    timer = setTimeout(() => resolve("late"), HURRY_MS);
  });
  const outcome = await Promise.race([stopped.catch((error: unknown) => ({ error })), timeout]);
  clearTimeout(timer);
  if (outcome === "late") log.warn("leaving with work unfinished");
  else if (outcome !== undefined) log.error("cannot stop cleanly", outcome);
}

/**
 * An error that nobody caught ends a Deno process, and this one holds the sandboxes of a whole node:
 * it is logged as the fault it is, and the others go on.
 */
function surviveStrayErrors(log: Log): void {
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    log.error("error that nobody handled", { error: event.reason });
  });
  globalThis.addEventListener("error", (event) => {
    event.preventDefault();
    log.error("error that nobody handled", { error: event.error });
  });
}
