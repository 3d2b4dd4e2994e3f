/**
 * Plays one history of a sandboxer: callers, faults, exits and crashes in an order that chance
 * decides, and what must hold in every one of them. The same seed plays the same history.
 *
 * @module
 */

import { SandboxError } from "../errors.ts";
import type { Exit } from "../spec.ts";
import type { SandboxView } from "../view.ts";
import { Callers, Promises } from "./callers.ts";
import { compareLives, compareStore, snapshot } from "./comparison.ts";
import { type Life, type Sabotage, STATE, World } from "./history.ts";
import { type Happening, outlives } from "./plan.ts";
import { turns } from "./scheduler.ts";

/** Most things that happen in one history; one that goes on longer is stuck. */
const HAPPENINGS_MAX = 10_000;
/** Rounds of microtasks after which nothing moves any more by itself. */
const SETTLED_TURNS = 200;

/** What came of a history. */
export interface Report {
  /** What it was made from. */
  readonly seed: number;
  /** What went wrong that may not; empty when all is well. */
  readonly violations: readonly string[];
  /** What happened, in order. */
  readonly trace: readonly string[];
  /** How often what happened. */
  readonly seen: ReadonlyMap<string, number>;
}

/** Plays the history of a seed. */
export async function simulate(seed: number, sabotage: Sabotage = {}): Promise<Report> {
  const world = new World(seed, sabotage);
  // Errors are expected by the dozen, and nobody looks at where they came from.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    await new Simulation(world).play();
  } catch (error) {
    world.violations.push(error instanceof Error ? error.message : String(error));
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
  const violations = [
    ...world.violations,
    ...world.host.violations,
    ...world.mounts.violations,
  ];
  return { seed, violations, trace: world.trace, seen: world.seen };
}

class Simulation {
  readonly #world: World;
  readonly #promises = new Promises();
  #life: Life;
  #callers: Callers;
  #callsLeft: number;
  #crashesLeft: number;

  constructor(world: World) {
    this.#world = world;
    this.#callsLeft = world.plan.calls;
    this.#crashesLeft = world.plan.crashes;
    [this.#life, this.#callers] = this.#begin();
  }

  async play(): Promise<void> {
    // A state directory that cannot be made is not for the lifecycle to get over.
    this.#world.faulty = false;
    await this.#recover();
    this.#world.faulty = true;
    // Some are restarted with calls under way.
    const hasty = this.#world.random.chance(0.25);
    for (let count = 0;; count++) {
      if (count === HAPPENINGS_MAX) throw new Error("it goes on for ever");
      await turns(this.#world.random.below(8));
      if (!await this.#happen()) break;
      if (hasty && this.#callsLeft === 0) break;
    }
    if (hasty || this.#world.random.chance(0.5)) await this.#restart();
    await this.#comeToRest();
    await this.#cleanUp();
  }

  #begin(): [Life, Callers] {
    // The observer speaks to the callers of its own life.
    const onExit = (key: string, exit: Exit): void => callers.onExit(key, exit);
    const life = this.#world.begin(onExit);
    const callers = new Callers(this.#world, life.sandboxer, this.#promises);
    return [life, callers];
  }

  /** Has one thing happen. False when nothing is left that could. */
  async #happen(): Promise<boolean> {
    const { random, plan, scheduler } = this.#world;
    const busy = [...this.#callers.calls].filter((it) => it.waitsFor === undefined).length;
    const canCall = this.#callsLeft > 0 && busy < plan.callers;
    if (!canCall && scheduler.size === 0) {
      await turns(SETTLED_TURNS);
      if (this.#callsLeft === 0 && scheduler.size === 0) return false;
      if (busy >= plan.callers && scheduler.size === 0) {
        const still = [...this.#callers.calls].filter((it) => it.waitsFor === undefined);
        if (still.length >= plan.callers) throw new Error(`stuck: ${still.map((it) => it.name)}`);
      }
      return true;
    }
    const { weights } = plan;
    const happening = random.weighted<Happening>([
      ["call", canCall ? weights.call : 0],
      ["step", scheduler.size > 0 ? weights.step : 0],
      ["abort", weights.abort],
      ["process ends", weights["process ends"]],
      ["sandbox ends", weights["sandbox ends"]],
      ["disk full", weights["disk full"]],
      ["time", weights.time],
      ["crash", this.#crashesLeft > 0 ? weights.crash : 0],
    ]);
    await this.#make(happening);
    return true;
  }

  async #make(happening: Happening): Promise<void> {
    const { random, scheduler, clock } = this.#world;
    switch (happening) {
      case "call":
        this.#callsLeft--;
        return this.#callers.callOne();
      case "step":
        return this.#step();
      case "abort":
        return this.#callers.abortOne();
      case "process ends":
        return this.#endProcess();
      case "sandbox ends":
        return this.#endSandbox();
      case "disk full":
        this.#world.diskFull = !this.#world.diskFull;
        return this.#world.note(this.#world.diskFull ? "the disk is full" : "the disk has room");
      case "time":
        return clock.advance(1 + random.below(1000));
      case "crash":
        this.#crashesLeft--;
        if (scheduler.size > 0 && random.chance(0.3)) this.#step();
        await this.#crash();
    }
  }

  #step(): void {
    const { scheduler, random } = this.#world;
    const name = scheduler.take(random);
    if (name !== undefined) this.#world.note(`  ${name}`);
  }

  #endProcess(): void {
    const { host, random, clock } = this.#world;
    const running = host.running();
    if (running.length === 0) return;
    const process = random.pick(running);
    const reason = random.pick(["exited", "exited", "oom", "trap"] as const);
    this.#world.note(`process ${process.pid} ends: ${reason}`);
    this.#world.count(`process ends: ${reason}`);
    process.end({ status: random.below(256), at: clock.now(), reason });
  }

  #endSandbox(): void {
    const { host, random, clock } = this.#world;
    const running = [...host.sandboxes.values()].filter(({ life }) => life.exit === undefined);
    if (running.length === 0) return;
    const sandbox = random.pick(running);
    this.#world.note(`sandbox ${sandbox.spec.id} ends`);
    this.#world.count("sandbox ends");
    host.endSandbox(sandbox, { status: random.below(256), at: clock.now(), reason: "exited" });
  }

  /** The sandboxer process ends, with what it knew; then there is another one. */
  async #crash(): Promise<void> {
    const { random, plan } = this.#world;
    const power = random.chance(0.2);
    this.#world.note(power ? "the power goes" : "the sandboxer crashes");
    this.#world.count(power ? "power failure" : "crash");
    if (random.chance(0.2)) await this.#closeInHaste();
    await this.#end();
    if (power) this.#losePower();
    else if (plan.outlives === "none" || random.chance(0.5)) this.#loseSome();
    [this.#life, this.#callers] = this.#begin();
    await this.#recover();
    this.#checkPromises();
  }

  /** Ends the life of a sandboxer: nothing that it still does has an effect. */
  async #end(): Promise<void> {
    this.#life.gate.dead = true;
    this.#world.scheduler.bury();
    // What was let go already has happened before the end.
    await turns(SETTLED_TURNS);
    this.#takeStock();
  }

  #takeStock(): void {
    const { violations, counts } = this.#life.unwatch();
    this.#world.violations.push(...violations);
    for (const [kind, times] of counts) this.#world.count(kind, times);
  }

  #losePower(): void {
    const { host, mounts, disk, clock, random } = this.#world;
    host.powerOff(clock.now());
    mounts.targets.clear();
    disk.powerOff(random);
  }

  /** Some of what ran dies while no sandboxer watches. */
  #loseSome(): void {
    const { host, clock, random } = this.#world;
    const exit = { status: 1, at: clock.now(), reason: "exited" } as const;
    for (const sandbox of [...host.sandboxes.values()]) {
      if (random.chance(0.2)) host.endSandbox(sandbox, exit);
      else if (random.chance(0.1)) host.removeSandbox(sandbox, clock.now());
    }
    for (const process of host.running()) {
      if (random.chance(0.3)) process.end(exit);
    }
  }

  /** Recovers, possibly not at the first time. */
  async #recover(): Promise<void> {
    const { random } = this.#world;
    this.#world.recovering = true;
    const told = new Set<string>();
    const again = this.#crashesLeft > 0 && random.chance(0.2);
    const crashAfter = again ? random.below(20) : Infinity;
    let done = false;
    const { sandboxer } = this.#life;
    using _ = sandboxer.subscribe((event) => {
      if (event.kind !== "process-exited") return;
      const key = `${event.containerId}/${event.execId}`;
      if (told.has(key)) this.#world.violations.push(`recovery told twice of the exit of ${key}`);
      told.add(key);
    });
    const recovery = sandboxer.recover().then((summary) => {
      done = true;
      this.#world.note(`recovered ${JSON.stringify(summary)}`);
      for (const [kind, count] of Object.entries(summary)) this.#world.count(kind, count);
    });
    recovery.catch((error) => this.#world.violations.push(`recovery failed: ${error}`));
    for (let count = 0; !done; count++) {
      if (count === HAPPENINGS_MAX) throw new Error("recovery goes on for ever");
      await turns(random.below(8));
      this.#step();
      if (count < crashAfter || done) continue;
      this.#crashesLeft--;
      this.#world.note("the sandboxer crashes while it recovers");
      this.#world.count("crash in recovery");
      await this.#end();
      [this.#life, this.#callers] = this.#begin();
      return await this.#recover();
    }
    this.#world.recovering = false;
    this.#life.watch();
  }

  /** What callers were told before a crash still holds after it. */
  #checkPromises(): void {
    const { sandboxer } = this.#life;
    const { violations, plan } = this.#world;
    const ids = new Set(sandboxer.sandboxes().map(({ spec }) => spec.id));
    for (const id of this.#promises.present) {
      if (!ids.has(id)) violations.push(`${id} was created and is not there after a crash`);
    }
    for (const id of this.#promises.absent) {
      if (ids.has(id)) violations.push(`${id} was deleted and is there after a crash`);
    }
    const promised = this.#world.diskIsGood ? this.#promises.containers : [];
    for (const [id, { sandbox, started }] of promised) {
      if (!outlives(plan, sandbox)) continue;
      try {
        const { state } = sandboxer.container(id);
        if (started && state === "created") violations.push(`${id} forgot its start in a crash`);
      } catch {
        violations.push(`${id} was created and is not there after a crash`);
      }
    }
  }

  /** Takes every step that is left, without faults, until nothing moves. */
  async #comeToRest(): Promise<void> {
    const { scheduler } = this.#world;
    this.#world.faulty = false;
    this.#world.diskFull = false;
    for (let count = 0;; count++) {
      if (count === HAPPENINGS_MAX) throw new Error("it does not come to rest");
      await turns(8);
      this.#step();
      if (scheduler.size > 0) continue;
      await turns(SETTLED_TURNS);
      if (scheduler.size === 0) break;
    }
    const calls = [...this.#callers.calls];
    const stuck = calls.filter(({ waitsFor }) => waitsFor === undefined);
    if (stuck.length > 0) throw new Error(`stuck: ${stuck.map(({ name }) => name).join(", ")}`);
    const { waiters, operations } = this.#life.sandboxer.counts();
    this.#expectEqual("waiters", waiters, calls.length);
    this.#expectEqual("operations", operations, 0);
    this.#compareMachine();
  }

  /** At rest what runs on the machine is what the sandboxer says that runs. */
  #compareMachine(): void {
    const { host, plan, violations } = this.#world;
    // A driver that fails may leave something running until it is deleted.
    if (plan.faults.driver > 0) return;
    const { containers, processes } = snapshot(this.#life.sandboxer);
    for (const [key, { containerId, state }] of processes) {
      if (state === "stopped" || containers.get(containerId)?.state !== "stopped") continue;
      violations.push(`${key} is ${state} in a stopped container`);
    }
    const actual = host.running().map(({ pid }) => pid).toSorted();
    const told = [...processes.values()].filter(({ state }) =>
      state === "running" || state === "paused"
    );
    const expected = told.map(({ pid }) => pid).toSorted();
    if (actual.join() === expected.join()) return;
    violations.push(`processes ${actual} run on the machine, ${expected} in memory`);
  }

  /**
   * An orderly restart, with calls under way or without: memory, store, and memory of the next
   * process are the same.
   */
  async #restart(): Promise<void> {
    this.#world.note("the sandboxer is restarted");
    this.#world.count("restart");
    await this.#close();
    const before = snapshot(this.#life.sandboxer);
    this.#world.violations.push(...await compareStore(before, this.#world.disk));
    await this.#end();
    this.#callers.calls.clear();
    [this.#life, this.#callers] = this.#begin();
    this.#crashesLeft = 0;
    await this.#recover();
    await this.#comeToRest();
    const after = snapshot(this.#life.sandboxer);
    const { plan } = this.#world;
    const compared = compareLives(before, after, (sandboxId) => outlives(plan, sandboxId));
    this.#world.violations.push(...compared);
    this.#checkPromises();
  }

  /** Closes the sandboxer: all who wait are answered, all is written. */
  async #close(): Promise<void> {
    this.#callers.closed = true;
    const closing = this.#life.sandboxer.close();
    closing.catch((error) => this.#world.violations.push(`close failed: ${error}`));
    await this.#comeToRest();
    for (const { name } of this.#callers.calls) {
      this.#world.violations.push(`${name} was not answered when the sandboxer closed`);
    }
    this.#expectEqual("unwritten", this.#life.sandboxer.counts().unwritten, 0);
    await this.#refuses();
  }

  /** A sandboxer that is told to close and ends before it is done. */
  async #closeInHaste(): Promise<void> {
    const { random } = this.#world;
    this.#callers.closed = true;
    this.#world.count("close cut short");
    this.#life.sandboxer.close().catch((error) =>
      this.#world.violations.push(`close failed: ${error}`)
    );
    for (let steps = random.below(10); steps > 0; steps--) {
      await turns(random.below(8));
      this.#step();
    }
  }

  /** A closed sandboxer has no wait hang; exits that are known it still answers. */
  async #refuses(): Promise<void> {
    const { sandboxer } = this.#life;
    const { sandboxes, processes } = snapshot(sandboxer);
    for (const { spec, exit } of sandboxes.values()) {
      await this.#expectAnswer(spec.id, sandboxer.waitSandbox(spec.id), exit);
    }
    for (const [key, { containerId, execId, exit }] of processes) {
      await this.#expectAnswer(key, sandboxer.waitProcess(containerId, execId), exit);
    }
  }

  async #expectAnswer(name: string, wait: Promise<Exit>, exit: Exit | undefined): Promise<void> {
    let answer: unknown = "nothing";
    wait.then((found) => answer = found, (error) => answer = error);
    await turns(SETTLED_TURNS);
    if (exit !== undefined && answer === exit) return;
    if (exit === undefined && answer instanceof SandboxError && answer.code === "Unavailable") {
      return;
    }
    this.#world.violations.push(`a wait for ${name} got ${answer} after close`);
  }

  /** Deletes everything; then nothing may be left anywhere. */
  async #cleanUp(): Promise<void> {
    const { host, mounts, disk, violations } = this.#world;
    this.#world.note("everything is deleted");
    const left = (): readonly SandboxView[] => this.#life.sandboxer.sandboxes();
    for (const { spec } of left()) this.#callers.deleteSandbox(spec.id);
    await this.#comeToRest();
    for (const { name } of this.#callers.calls) violations.push(`${name} was never answered`);
    await this.#close();
    this.#takeStock();
    for (const [name, count] of Object.entries(this.#life.sandboxer.counts())) {
      this.#expectEqual(name, count, 0);
    }
    for (const name of host.live()) violations.push(`leaked: ${name}`);
    for (const target of mounts.targets) violations.push(`leaked: mount at ${target}`);
    // A directory without a record, or one that cannot be read, may stay until the next start.
    if (this.#world.seen.has("fault in recovery")) return;
    const rubbish = [...disk.tree.keys()].filter((path) => path.startsWith(`${STATE}/sandboxes/`));
    for (const path of rubbish) violations.push(`leaked: ${path}`);
  }

  #expectEqual(what: string, actual: number, expected: number): void {
    if (actual === expected) return;
    this.#world.violations.push(`${actual} ${what}, expected ${expected}`);
  }
}
