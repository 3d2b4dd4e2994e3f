/**
 * A sandboxer on fakes, for tests of single situations.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { LifecycleLog, Limits } from "../core.ts";
import type { Capabilities } from "../driver.ts";
import type { LifecycleEvent } from "../events.ts";
import { Sandboxer } from "../sandboxer.ts";
import { FileStore } from "../store.ts";
import { FakeClock } from "./fake_clock.ts";
import { DiskContents, FakeDisk } from "./fake_disk.ts";
import { FakeDriver } from "./fake_driver.ts";
import { FakeHost } from "./fake_host.ts";
import { FakeMounter, FakeMounts } from "./fake_mounter.ts";
import { TestGate } from "./gate.ts";
import { turns } from "./scheduler.ts";
import { containerSpec, execSpec, sandboxSpec } from "./specs.ts";

/** How a {@link Fixture} differs from the plain one. */
export interface FixtureOptions {
  /** Abilities that the driver lacks. */
  readonly capabilities?: Partial<Capabilities>;
  /** Whether the containers of a sandbox outlive the sandboxer process; all do unless given. */
  readonly outlives?: (sandboxId: string) => boolean;
  /** Limits that differ from the defaults. */
  readonly limits?: Partial<Limits>;
  /** Whether the driver takes no notice of signals. */
  readonly deaf?: boolean;
}

/** A sandboxer with the world around it. */
export class Fixture {
  /** Where effects are held or made to fail. */
  readonly gate = new TestGate();
  /** The time. */
  readonly clock = new FakeClock();
  /** What runs on the machine. */
  readonly host: FakeHost;
  /** What is mounted. */
  readonly mounts: FakeMounts;
  /** What is stored. */
  readonly disk: DiskContents;
  /** The kind of sandbox. */
  readonly driver: FakeDriver;
  /** The one under test. */
  readonly sandboxer: Sandboxer;
  /** Every event, in order. */
  readonly events: LifecycleEvent[] = [];
  /** What the operator would read. */
  readonly warnings: string[] = [];
  readonly #options: FixtureOptions;

  /**
   * A sandboxer that has done nothing.
   *
   * @param options See {@link FixtureOptions}.
   * @param earlier The sandboxer before this one on the same machine.
   */
  constructor(options: FixtureOptions = {}, earlier?: Fixture) {
    this.#options = options;
    earlier?.gate.close();
    this.host = earlier?.host ?? new FakeHost();
    this.mounts = earlier?.mounts ?? new FakeMounts();
    this.disk = earlier?.disk ?? new DiskContents();
    const { gate, clock, host } = this;
    this.driver = new FakeDriver({
      host,
      gate,
      clock,
      deaf: () => options.deaf === true,
      ...(options.capabilities === undefined ? {} : { capabilities: options.capabilities }),
      ...(options.outlives === undefined ? {} : { outlives: options.outlives }),
    });
    const log: LifecycleLog = { warn: (message) => void this.warnings.push(message) };
    this.sandboxer = new Sandboxer({
      driver: this.driver,
      store: new FileStore("/state", new FakeDisk(this.disk, gate)),
      mounter: new FakeMounter(this.mounts, { gate }),
      clock,
      log,
      ...(options.limits === undefined ? {} : { limits: options.limits }),
    });
    this.sandboxer.subscribe((event) => void this.events.push(event));
  }

  /** The kinds of the events so far, each with its process where it has one. */
  get told(): string[] {
    return this.events.map((event) => {
      const container = "containerId" in event ? ` ${event.containerId}` : "";
      const exec = "execId" in event && event.execId !== "" ? `/${event.execId}` : "";
      return `${event.kind}${container}${exec}`;
    });
  }

  /** Creates and starts a sandbox. */
  async ready(sandbox: string): Promise<void> {
    await this.sandboxer.createSandbox(sandboxSpec(sandbox));
    await this.sandboxer.startSandbox(sandbox);
  }

  /** Creates a container, and its sandbox where that is not there. */
  async created(sandbox: string, container: string): Promise<void> {
    const known = this.sandboxer.sandboxes().some(({ spec }) => spec.id === sandbox);
    if (!known) await this.ready(sandbox);
    await this.sandboxer.createContainer(containerSpec(container, sandbox));
  }

  /** Starts a container, and makes what it needs. */
  async running(sandbox: string, container: string): Promise<number> {
    await this.created(sandbox, container);
    return await this.sandboxer.startProcess(container, "");
  }

  /** Adds an exec to a running container and starts it. */
  async executing(container: string, exec: string): Promise<number> {
    await this.sandboxer.exec(container, execSpec(exec));
    return await this.sandboxer.startProcess(container, exec);
  }

  /** Ends a process on the machine by itself. */
  end(container: string, exec: string, status: number): void {
    const process = this.host.container(container)?.processes.get(exec);
    assert.ok(process !== undefined, `process ${container}/${exec} was never started`);
    process.end({ status, at: this.clock.now(), reason: "exited" });
  }

  /** Ends a sandbox on the machine by itself. */
  endSandbox(id: string, status: number): void {
    const sandbox = this.host.sandboxes.get(id);
    assert.ok(sandbox !== undefined, `sandbox ${id} was never started`);
    this.host.endSandbox(sandbox, { status, at: this.clock.now(), reason: "exited" });
  }

  /** Waits until nothing moves any more. */
  async rest(): Promise<void> {
    await turns(200);
  }

  /** Another sandboxer on the same machine: this one has crashed, and is not used any more. */
  async next(options: FixtureOptions = this.#options): Promise<Fixture> {
    await this.rest();
    const next = new Fixture(options, this);
    await next.sandboxer.recover();
    return next;
  }

  /** Asserts that nothing is left anywhere, and that the fakes saw no rule broken. */
  async empty(): Promise<void> {
    await this.rest();
    const { listeners: _, ...counts } = this.sandboxer.counts();
    assert.deepEqual(Object.entries(counts).filter(([, count]) => count !== 0), []);
    assert.deepEqual(this.host.live(), []);
    assert.deepEqual([...this.mounts.targets], []);
    const files = [...this.disk.tree.keys()].filter((path) => path.startsWith("/state/sandboxes/"));
    assert.deepEqual(files, []);
    this.obeyed();
  }

  /** Asserts that the fakes saw no rule broken. */
  obeyed(): void {
    assert.deepEqual([...this.host.violations, ...this.mounts.violations], []);
  }
}

/** A sandboxer on fakes. */
export function fixture(options: FixtureOptions = {}): Fixture {
  return new Fixture(options);
}
