/**
 * The life of a sandboxer process, the same for every kind: take over what an earlier process left,
 * listen, say "ready", serve until a signal comes, and leave so that the next process can take over.
 *
 * @module
 */

import config from "../deno.json" with { type: "json" };
import { Task } from "../proto/gen/containerd/task/v3/shim_pb.ts";
import { EventPublisher } from "../task/events.ts";
import { taskCalls } from "../task/observed_calls.ts";
import { taskService } from "../task/service.ts";
import { TtrpcServer } from "../task/ttrpc/server.ts";
import { claimSocketPath } from "../task/ttrpc/unix_socket.ts";
import { ControllerServer } from "./controller/server.ts";
import { SandboxError } from "./lifecycle/errors.ts";
import { collectWhenIdle } from "./idle_collection.ts";
import { Sandboxer } from "./lifecycle/sandboxer.ts";
import type { Log } from "./log.ts";
import { type Composed, isManaged } from "./management/ports.ts";
import { runHandlers } from "./management/runs/handlers.ts";
import { ManagementService } from "./management/service.ts";
import { type MetricsAddress, metricsAddressText } from "./telemetry/address.ts";
import { recoveryMetrics } from "./telemetry/lifecycle_metrics.ts";
import { watchLifecycle } from "./telemetry/open.ts";
import { noTelemetry, type Telemetry } from "./telemetry/telemetry.ts";
import { lockDirectory } from "./serve_lock.ts";
import { hasStandIn, StandIn } from "./host/stand_in.ts";
import { drain } from "./serve_drain.ts";
import { endGivenUp } from "./serve_given_up.ts";
import { SystemdNotifier } from "./serve_notify.ts";

/** What a sandboxer process is made of. */
export interface ServeOptions {
  /**
   * The lifecycle, with the driver of the kind; or what makes it, which is called when no other
   * process has the state directory and the sockets.
   */
  readonly sandboxer:
    | Sandboxer
    | (() => Sandboxer | Composed | Promise<Sandboxer | Composed>);
  /** The Sandbox API's socket, an absolute path. */
  readonly listen: string;
  /** The Task API's socket, an absolute path. */
  readonly taskListen: string;
  /** The state directory, an absolute path; no other process may use it. */
  readonly dir: string;
  /** containerd's ttrpc socket for events, an absolute path; undefined where events are off. */
  readonly containerdEvents: string | undefined;
  /**
   * How long a sandbox may wait for its start after it was created, in seconds, before it is deleted;
   * 0 for ever.
   */
  readonly unstartedSecondsMax: number;
  /** How long calls under way may take to end when the process leaves, in seconds; default 10. */
  readonly drainSeconds?: number;
  /**
   * How long callers are kept waiting for the next process where this one goes while it has sandboxes,
   * in seconds; 0, or without a launcher: they are refused.
   */
  readonly holdSeconds?: number;
  /** The native launcher, for what outlives this process; missing where there is none. */
  readonly launcher?: string;
  /** Hears of everything; missing for nobody. */
  readonly telemetry?: Telemetry;
  /** Where metrics are read; missing where they are off. */
  readonly metrics?: MetricsAddress | undefined;
  /** Most pods with metrics of their own; missing for none. */
  readonly metricsPodsMax?: number;
  /** Where the process tells what it does. */
  readonly log: Log;
}

/** How long calls may take to end by themselves when the process leaves, in milliseconds. */
const GRACE_MS = 1000;

/** The longest the process may take to leave when it waits for no call any more, in milliseconds. */
const LEAVE_MS = 5000;

/** The longest it may take from the moment that it is told a second time, in milliseconds. */
const HURRY_MS = 2000;

/** How long what is given up may take to be undone, in milliseconds. */
const UNDO_MS = 4000;

/** How long a call may be on its way to here when its caller hears that it is to go elsewhere. */
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
 *
 * @param options See {@link ServeOptions}.
 * @throws SandboxError `AlreadyExists` when another sandboxer has the directory or a socket.
 */
export async function start(options: ServeOptions): Promise<Serving> {
  const { listen, taskListen, dir, containerdEvents, log, telemetry = noTelemetry } = options;
  const { metrics, metricsPodsMax = 0 } = options;
  await using resources = new AsyncDisposableStack();
  resources.use(await lockDirectory(dir));
  // Recovery cleans up, so whoever still serves must be noticed before it.
  const stoodIn = await hasStandIn(listen);
  if (!stoodIn) await claim(listen);
  await claim(taskListen);
  const standIn = await startStandIn(options);
  if (standIn !== undefined) resources.defer(() => standIn.dismiss());
  const { sandboxer, abilities } = await composed(options);
  if (containerdEvents !== undefined) {
    const publisher = resources.use(new EventPublisher({ address: containerdEvents, log }));
    resources.use(sandboxer.subscribe(publisher.publish));
  }
  const begin = performance.now();
  const summary = await sandboxer.recover();
  recoveryMetrics(telemetry, summary, (performance.now() - begin) / 1000);
  log.info("recovered", { ...summary });
  sandboxer.driver.onCallersLost?.(() =>
    void endGivenUp({ sandboxer, isContainerds: ({ spec }) => !isManaged(spec), log })
  );
  resources.use(expireUnstarted(sandboxer, options));
  resources.use(collectWhenIdle(sandboxer));

  const management = resources.use(
    new ManagementService({
      sandboxer,
      abilities,
      dir,
      log,
      version: config.version,
      startedAt: Date.now(),
      telemetry,
      ...(metrics === undefined ? {} : { metricsAddress: metricsAddressText(metrics) }),
    }, { runs: runHandlers }),
  );
  await management.recover();
  const taskServer = resources.use(new TtrpcServer({ log }));
  taskServer.add(Task, taskService(sandboxer), taskCalls({ observer: telemetry, sandboxer, log }));
  await taskServer.listen(taskListen);
  // Callers who wait there are sent here as soon as somebody listens.
  if (stoodIn) await removeIfThere(listen);
  const controllerServer = resources.use(
    await ControllerServer.listen({
      sandboxer,
      path: listen,
      taskAddress: taskListen,
      log,
      observer: telemetry,
      services: [management],
    }),
  );
  const podsMax = metricsPodsMax;
  resources.use(await watchLifecycle({ telemetry, sandboxer, metrics, podsMax, log }));
  await standIn?.listening().catch((error: unknown) => log.warn(REFUSED, { error }));
  const owned = resources.move();
  return {
    kind: sandboxer.driver.kind,
    get sandboxes() {
      return sandboxer.counts().sandboxes;
    },
    async drain({ hurry, tell = () => undefined } = {}) {
      if (standIn !== undefined && sandboxer.counts().sandboxes > 0) {
        await controllerServer.handOver(() => standIn.takePlace());
        // What is on its way is still taken; what comes after that goes to the next process.
        await new Promise((resolve) => setTimeout(resolve, ON_ITS_WAY_MS));
      }
      sandboxer.drain();
      const timeoutMs = (options.drainSeconds ?? DRAIN_SECONDS) * 1000;
      if (await drain({ sandboxer, timeoutMs, hurry, tell }) === 0) return;
      controllerServer.abort();
      await taskServer.close();
      const left = await drain({ sandboxer, timeoutMs: UNDO_MS, tell });
      if (left > 0) log.warn("leaving what could not be undone to the next", { operations: left });
    },
    async stop() {
      await sandboxer.close();
      await Promise.all([controllerServer.close(GRACE_MS), taskServer.close(GRACE_MS)]);
      await owned.disposeAsync();
    },
  };
}

/** What it means that nobody stands in. */
const REFUSED = "callers will be refused while this sandboxer is restarted";

/** Starts what takes the place of this process when it goes; it works without, too. */
async function startStandIn(
  { launcher, holdSeconds = 0, listen, log }: ServeOptions,
): Promise<StandIn | undefined> {
  if (launcher === undefined || holdSeconds === 0) return undefined;
  try {
    return await StandIn.start({ launcher, socket: listen, holdMs: holdSeconds * 1000 });
  } catch (error) {
    log.warn(REFUSED, { error });
    return undefined;
  }
}

async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** {@link start}, with systemd told that it may take long. */
async function startTold(options: ServeOptions, notifier: SystemdNotifier): Promise<Serving> {
  using _time = notifier.takeTime();
  void notifier.status("taking over the sandboxes of the process before this one");
  return await start(options);
}

/** The lifecycle, with what its kind adds to it. */
async function composed({ sandboxer }: ServeOptions): Promise<Composed> {
  const made = typeof sandboxer === "function" ? await sandboxer() : sandboxer;
  return made instanceof Sandboxer ? { sandboxer: made, abilities: {} } : made;
}

/** How often sandboxes that nobody starts are looked for, at the least, in milliseconds. */
const LOOK_MS_MAX = 60_000;

/** Deletes sandboxes that nobody starts, until it is disposed of. */
function expireUnstarted(
  sandboxer: Sandboxer,
  { unstartedSecondsMax, log }: ServeOptions,
): Disposable {
  const olderThanMs = unstartedSecondsMax * 1000;
  if (olderThanMs === 0) return { [Symbol.dispose]: () => undefined };
  const timer = setInterval(() => {
    sandboxer.deleteUnstarted(olderThanMs).catch((error: unknown) =>
      log.warn("cannot delete a sandbox that nobody started", { error })
    );
  }, Math.min(olderThanMs / 2, LOOK_MS_MAX));
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/** Makes a socket's path free. */
async function claim(path: string): Promise<void> {
  try {
    await claimSocketPath(path);
  } catch (error) {
    if (!(error instanceof SandboxError) || error.code !== "AlreadyExists") throw error;
    throw new SandboxError(
      "AlreadyExists",
      `cannot start: another sandboxer is already listening on "${path}"; stop that one or choose ` +
        "another path",
      { cause: error },
    );
  }
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
