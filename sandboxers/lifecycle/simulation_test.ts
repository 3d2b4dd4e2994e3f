/**
 * The lifecycle in a simulated world: thousands of histories of callers, faults, exits and crashes.
 * A history that goes wrong is printed with its seed; `SEED=n deno test -A <this file>` plays it
 * again, and `HISTORIES=n` plays as many as one has patience for.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { ContainerHandle, Driver, SandboxHandle } from "./driver.ts";
import type { Store } from "./store.ts";
import { fixture } from "./testing/fixture.ts";
import type { Sabotage } from "./testing/history.ts";
import { Observer } from "./testing/observer.ts";
import { type Report, simulate } from "./testing/simulation.ts";

const HISTORIES = Number(Deno.env.get("HISTORIES") ?? 10_000);
const SEED = Deno.env.get("SEED");
/** Histories in which a broken world has to be noticed. */
const SABOTAGED_HISTORIES = 60;

/** What the simulation has to have met for its silence to mean something. */
const MUST_BE_SEEN = [
  ...["sandbox-created", "sandbox-started", "sandbox-failed", "sandbox-stopped", "sandbox-deleted"],
  ...["container-created", "container-paused", "container-resumed", "container-oom", "exec-added"],
  ...["process-started", "process-exited", "process-deleted"],
  ...["fault at driver.start", "fault at driver.start-half", "fault at driver.adopt"],
  ...["fault at driver.stop", "fault at driver.stop-half", "fault at driver.delete-container"],
  ...["fault at driver.create-container", "fault at driver.create-container-half"],
  ...["fault at driver.start-process", "fault at driver.start-process-half"],
  ...["fault at driver.exec", "fault at driver.kill", "fault at driver.pause"],
  ...["fault at disk.write", "fault at disk.rename", "fault at disk.renamed", "fault at disk.sync"],
  ...["fault at disk.remove", "fault at mount", "fault at unmount"],
  ...["given up", "crash", "crash in recovery", "power failure", "restart", "close cut short"],
  ...["adopted", "stopped", "removed", "sandbox ends", "process ends: oom"],
  ...["start answered", "stop answered", "delete answered", "wait answered", "kill answered"],
  ...["refused with Cancelled", "refused with DeadlineExceeded", "refused with Unavailable"],
  ...["refused with NotFound", "refused with AlreadyExists", "refused with FailedPrecondition"],
  ...["refused with InvalidArgument", "refused with Unimplemented"],
  ...["refused with ResourceExhausted", "refused with Internal"],
];

Deno.test("simulated histories keep every promise of the lifecycle", async () => {
  const seeds = SEED === undefined
    ? Array.from({ length: HISTORIES }, (_, index) => index + 1)
    : [Number(SEED)];
  const seen = new Set<string>();
  for (const seed of seeds) {
    const report = await simulate(seed);
    assert.equal(report.violations.length, 0, describe(report));
    for (const what of report.seen.keys()) seen.add(what);
  }
  if (seeds.length < 1000) return;
  assert.deepEqual(MUST_BE_SEEN.filter((what) => !seen.has(what)), []);
});

Deno.test("a seed plays the same history every time", async () => {
  const [first, second] = [await simulate(4711), await simulate(4711)];
  assert.ok(first.trace.length > 20);
  assert.deepEqual(first.trace, second.trace);
});

Deno.test("the simulation notices a driver that does not release its containers", async () => {
  const report = await sabotaged({
    driver: (driver) =>
      withContainers(driver, (container) => ({ ...container, delete: () => Promise.resolve() })),
  });
  assert.match(report.violations.join("\n"), /container c\d|mount at/);
});

Deno.test("the simulation notices a sandboxer that tells of an exit twice", async () => {
  const world = fixture();
  await world.running("s", "c");
  using observer = new Observer(world.sandboxer);
  observer.resume();
  await world.sandboxer.killProcess("c", "", 9);
  await world.sandboxer.waitProcess("c", "");
  assert.deepEqual(observer.violations, []);
  const exited = world.events.find((event) => event.kind === "process-exited");
  assert.ok(exited !== undefined);
  observer.hear(exited);
  assert.deepEqual(observer.violations, ["process-exited of s c/: it had exited already"]);
});

Deno.test("the simulation notices a store that forgets", async () => {
  let writes = 0;
  const report = await sabotaged({
    store: (store): Store => ({
      put: (record) => ++writes % 3 === 0 ? Promise.resolve() : store.put(record),
      delete: (id) => store.delete(id),
      load: () => store.load(),
    }),
  });
  assert.match(report.violations.join("\n"), /stored: |not there after a crash|after the restart/);
});

Deno.test("the simulation notices a store that does not remove", async () => {
  const report = await sabotaged({
    store: (store): Store => ({
      put: (record) => store.put(record),
      delete: () => Promise.resolve(),
      load: () => store.load(),
    }),
  });
  assert.match(report.violations.join("\n"), /leaked: \/state|is there after a crash/);
});

Deno.test("the simulation notices a call that never ends", async () => {
  const report = await sabotaged({
    driver: (driver) =>
      withSandboxes(driver, (sandbox) => ({ ...sandbox, stop: () => new Promise(() => {}) })),
  });
  assert.match(report.violations.join("\n"), /stuck: /);
});

/** Plays histories in a broken world until one shows it. */
async function sabotaged(sabotage: Sabotage): Promise<Report> {
  for (let seed = 1;; seed++) {
    const report = await simulate(seed, sabotage);
    if (report.violations.length > 0 || seed === SABOTAGED_HISTORIES) return report;
  }
}

function withSandboxes(driver: Driver, change: (sandbox: SandboxHandle) => SandboxHandle): Driver {
  return {
    kind: driver.kind,
    capabilities: driver.capabilities,
    start: async (spec, signal) => change(await driver.start(spec, signal)),
    adopt: (sandbox) => driver.adopt(sandbox),
  };
}

function withContainers(
  driver: Driver,
  change: (container: ContainerHandle) => ContainerHandle,
): Driver {
  return withSandboxes(driver, (sandbox) => ({
    ...sandbox,
    createContainer: async (spec, signal) => change(await sandbox.createContainer(spec, signal)),
  }));
}

/** What a person needs to find out what went wrong. */
function describe({ seed, violations, trace }: Report): string {
  return [
    `history ${seed} went wrong; play it again with SEED=${seed}`,
    ...violations.map((violation) => `  ${violation}`),
    "what happened:",
    ...trace,
  ].join("\n");
}
