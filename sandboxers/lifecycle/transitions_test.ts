/**
 * The three state machines. That an illegal transition is not even a program is checked by the
 * compiler: each `@ts-expect-error` below is an error itself as soon as the line compiles.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  type ContainerCreated,
  containerPaused,
  containerResumed,
  containerRunning,
  containerStopped,
} from "./container.ts";
import type { ContainerHandle, ProcessHandle, SandboxHandle } from "./driver.ts";
import { SandboxError } from "./errors.ts";
import { processExited, processRunning } from "./process.ts";
import {
  sandboxFailed,
  sandboxReady,
  sandboxReleased,
  sandboxStarted,
  sandboxStarting,
  sandboxStopped,
  sandboxStopping,
} from "./sandbox.ts";
import type { Exit } from "./spec.ts";

const EXIT: Exit = { status: 3, at: 1, reason: "exited" };
const NONE = { at: 0, cpuNs: 0, memoryBytes: 0, pids: 0 };
const done = (): Promise<void> => Promise.resolve();

const sandboxHandle: SandboxHandle = {
  pid: 7,
  record: null,
  exited: Promise.resolve(EXIT),
  createContainer: () => Promise.resolve(containerHandle),
  stats: () => Promise.resolve(NONE),
  stop: done,
};

const containerHandle: ContainerHandle = {
  record: null,
  start: () => Promise.resolve(processHandle),
  pids: () => Promise.resolve([]),
  stats: () => Promise.resolve(NONE),
  delete: done,
};

const processHandle: ProcessHandle = {
  pid: 9,
  exited: Promise.resolve(EXIT),
  kill: done,
  closeStdin: done,
};

Deno.test("a sandbox goes created, starting, ready, stopping, stopped", () => {
  const starting = sandboxStarting({ kind: "created" });
  const started = sandboxStarted(starting, sandboxHandle);
  assert.equal(started.abort, starting.abort);
  const ready = sandboxReady(started, sandboxHandle);
  const stopping = sandboxStopping(ready);
  assert.equal(stopping.handle, sandboxHandle);
  const stopped = sandboxStopped(stopping, EXIT, sandboxHandle);
  assert.deepEqual(
    [starting, started, ready, stopping, stopped].map(({ kind }) => kind),
    ["starting", "starting", "ready", "stopping", "stopped"],
  );
  assert.equal(stopped.exit, EXIT);
  assert.equal(sandboxReleased(stopped).left, undefined);
});

Deno.test("a sandbox that could not be started has failed, with an exit that says why", () => {
  const error = new SandboxError("Unavailable", "no room");
  const failed = sandboxFailed(sandboxStarting({ kind: "created" }), error, 5, undefined);
  assert.deepEqual(failed.exit, { status: 255, at: 5, reason: "lost", message: "no room" });
});

Deno.test("a sandbox cannot go where the machine has no way", () => {
  const created = { kind: "created" } as const;
  const stopped = sandboxStopped(created, EXIT);
  const ready = sandboxReady(sandboxStarting(created), sandboxHandle);
  // Never run: the compiler has said all there is to say.
  const illegal = [
    // @ts-expect-error a sandbox that was not started is not ready
    () => sandboxReady(created, sandboxHandle),
    // @ts-expect-error a ready sandbox cannot be started
    () => sandboxStarting(ready),
    // @ts-expect-error a stopped sandbox cannot be started
    () => sandboxStarting(stopped),
    // @ts-expect-error a stopped sandbox cannot be stopped
    () => sandboxStopping(stopped),
    // @ts-expect-error a stopped sandbox cannot stop again
    () => sandboxStopped(stopped, EXIT),
    // @ts-expect-error a ready sandbox cannot fail to start
    () => sandboxFailed(ready, new SandboxError("Internal", "x"), 0, undefined),
    // @ts-expect-error a stopped sandbox has no handle
    () => stopped.handle,
  ];
  assert.equal(illegal.length, 7);
});

Deno.test("a container goes created, running, paused, running, stopped", () => {
  const created: ContainerCreated = { kind: "created", handle: containerHandle };
  const running = containerRunning(created);
  const paused = containerPaused(running);
  const resumed = containerResumed(paused);
  const states = [running, paused, resumed, containerStopped(resumed), containerStopped(created)];
  assert.deepEqual(
    states.map(({ kind }) => kind),
    ["running", "paused", "running", "stopped", "stopped"],
  );
  assert.ok(states.every(({ handle }) => handle === containerHandle));
});

Deno.test("a container cannot go where the machine has no way", () => {
  const created: ContainerCreated = { kind: "created", handle: containerHandle };
  const running = containerRunning(created);
  const stopped = containerStopped(running);
  const illegal = [
    // @ts-expect-error a container that does not run cannot be paused
    () => containerPaused(created),
    // @ts-expect-error a running container cannot be resumed
    () => containerResumed(running),
    // @ts-expect-error a running container cannot be started
    () => containerRunning(running),
    // @ts-expect-error a stopped container cannot be started
    () => containerRunning(stopped),
    // @ts-expect-error a stopped container cannot stop again
    () => containerStopped(stopped),
  ];
  assert.equal(illegal.length, 5);
});

Deno.test("a process goes created, running, exited; one that never ran has no pid", () => {
  const running = processRunning({ kind: "created" }, processHandle);
  assert.equal(running.pid, 9);
  assert.deepEqual(processExited(running, EXIT), { kind: "exited", pid: 9, exit: EXIT });
  assert.deepEqual(processExited({ kind: "created" }, EXIT), {
    kind: "exited",
    pid: 0,
    exit: EXIT,
  });
});

Deno.test("a process cannot go where the machine has no way", () => {
  const running = processRunning({ kind: "created" }, processHandle);
  const exited = processExited(running, EXIT);
  const illegal = [
    // @ts-expect-error a process that has exited cannot run
    () => processRunning(exited, processHandle),
    // @ts-expect-error a process that runs cannot be started
    () => processRunning(running, processHandle),
    // @ts-expect-error an exit never changes
    () => processExited(exited, EXIT),
    // @ts-expect-error a process that has exited has no handle
    () => exited.handle,
  ];
  assert.equal(illegal.length, 4);
});
