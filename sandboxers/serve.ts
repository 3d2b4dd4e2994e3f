/**
 * The life of a sandboxer process, the same for every kind: take over what an earlier process left,
 * listen, say "ready", serve until a signal comes, and leave so that the next process can take over.
 *
 * @module
 */

import { Task } from "../proto/gen/containerd/task/v3/shim_pb.ts";
import { EventPublisher } from "../task/events.ts";
import { taskService } from "../task/service.ts";
import { TtrpcServer } from "../task/ttrpc/server.ts";
import { claimSocketPath } from "../task/ttrpc/unix_socket.ts";
import { ControllerServer } from "./controller/server.ts";
import { SandboxError } from "./lifecycle/errors.ts";
import { collectWhenIdle } from "./idle_collection.ts";
import type { Sandboxer } from "./lifecycle/sandboxer.ts";
import type { Log } from "./log.ts";
import { lockDirectory } from "./serve_lock.ts";
import { notifySystemd } from "./serve_notify.ts";

/** What a sandboxer process is made of. */
export interface ServeOptions {
  /**
   * The lifecycle, with the driver of the kind; or what makes it, which is called when no other
   * process has the state directory and the sockets.
   */
  readonly sandboxer: Sandboxer | (() => Sandboxer | Promise<Sandboxer>);
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
  /** Where the process tells what it does. */
  readonly log: Log;
}

/** How long calls may take to end by themselves when the process leaves, in milliseconds. */
const GRACE_MS = 1000;

/** The longest the process may take to leave, in milliseconds. */
const LEAVE_MS = 5000;

/**
 * Runs a sandboxer until SIGTERM or SIGINT, then exits the process: with 0, or with 1 where it could
 * not start, with the reason in the log.
 *
 * @param options See {@link ServeOptions}.
 */
export async function serve(options: ServeOptions): Promise<never> {
  const { log } = options;
  const signal = terminationSignal();
  surviveStrayErrors(log);
  try {
    const started = start(options);
    // A signal does not wait for a start that takes long; what it leaves, the next start cleans up.
    const serving = await Promise.race([started, signal]);
    if (typeof serving !== "string") {
      await sayReady(serving, options);
      log.info("stopping", { signal: await signal });
      await withinLeaveTime(leave(serving, options), log);
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
  /**
   * Stops serving: nothing new is taken on, open waits are answered with `Unavailable`, sockets are
   * closed and removed. What runs in the sandboxes is left to the next process.
   */
  stop(): Promise<void>;
}

/**
 * Starts serving, without signals and exits: the part of {@link serve} that other programs may want.
 *
 * @param options See {@link ServeOptions}.
 * @throws SandboxError `AlreadyExists` when another sandboxer has the directory or a socket.
 */
export async function start(options: ServeOptions): Promise<Serving> {
  const { listen, taskListen, dir, containerdEvents, log } = options;
  await using resources = new AsyncDisposableStack();
  resources.use(await lockDirectory(dir));
  // Recovery cleans up, so whoever still serves must be noticed before it.
  await claim(listen);
  await claim(taskListen);
  const sandboxer = typeof options.sandboxer === "function"
    ? await options.sandboxer()
    : options.sandboxer;
  if (containerdEvents !== undefined) {
    const publisher = resources.use(new EventPublisher({ address: containerdEvents, log }));
    resources.use(sandboxer.subscribe(publisher.publish));
  }
  log.info("recovered", { ...await sandboxer.recover() });
  resources.use(expireUnstarted(sandboxer, options));
  resources.use(collectWhenIdle(sandboxer));

  const taskServer = resources.use(new TtrpcServer({ log }));
  taskServer.add(Task, taskService(sandboxer));
  await taskServer.listen(taskListen);
  const controllerServer = resources.use(
    await ControllerServer.listen({ sandboxer, path: listen, taskAddress: taskListen, log }),
  );
  const owned = resources.move();
  return {
    kind: sandboxer.driver.kind,
    async stop() {
      await sandboxer.close();
      await Promise.all([controllerServer.close(GRACE_MS), taskServer.close(GRACE_MS)]);
      await owned.disposeAsync();
    },
  };
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
  { kind }: Serving,
  { listen, taskListen, dir, log }: ServeOptions,
): Promise<void> {
  try {
    await Deno.stdout.write(new TextEncoder().encode("ready\n"));
  } catch (error) {
    log.debug("nobody reads standard output", { error });
  }
  await notifySystemd("READY=1", dir, log);
  log.info("ready", { kind, listen, taskListen, dir });
}

async function leave(serving: Serving, { dir, log }: ServeOptions): Promise<void> {
  await notifySystemd("STOPPING=1", dir, log);
  await serving.stop();
}

/** Resolves with the name of the first signal that asks this process to end. */
function terminationSignal(): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    Deno.addSignalListener(name, () => resolve(name));
  }
  return promise;
}

/** Waits for the end of a stop, but not for ever: a process that hangs blocks the next one. */
async function withinLeaveTime(stopped: Promise<void>, log: Log): Promise<void> {
  const { promise: timeout, resolve } = Promise.withResolvers<"late">();
  const timer = setTimeout(() => resolve("late"), LEAVE_MS);
  const outcome = await Promise.race([stopped.catch((error: unknown) => ({ error })), timeout]);
  clearTimeout(timer);
  if (outcome === "late") log.warn("leaving with work unfinished", { afterMs: LEAVE_MS });
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
