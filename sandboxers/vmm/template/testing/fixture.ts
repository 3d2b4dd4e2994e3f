/**
 * What tests of templates and the pool begin with: a directory, a hypervisor without machines, a
 * clock that stands still and a log that is kept.
 *
 * @module
 */

import { FakeClock } from "../../../lifecycle/testing/fake_clock.ts";
import { TestGate } from "../../../lifecycle/testing/gate.ts";
import { createLog, type Log } from "../../../log.ts";
import type { MachinePlace, MachineSpec } from "../../hypervisor.ts";
import { MachinePlaces } from "../../places.ts";
import type { TemplateAgent } from "../builder.ts";
import { MachineLedger } from "../ledger.ts";
import { Pool, type PoolOptions } from "../pool.ts";
import { Templates, type TemplatesOptions } from "../templates.ts";
import { FakeHypervisor, FakeWorld } from "./fake_hypervisor.ts";

/** A signal that is never aborted. */
export const NEVER: AbortSignal = new AbortController().signal;

/** One life of a sandboxer, as far as templates go; the directory and the world outlive it. */
export class Fixture {
  /** Where effects of the hypervisor can be held and made fail. */
  readonly gate = new TestGate();
  /** The clock. */
  readonly clock = new FakeClock();
  /** What was logged. */
  readonly lines: string[] = [];
  /** Agents that are connected now. */
  agents = 0;
  /** The hypervisor. */
  readonly hypervisor: FakeHypervisor;
  /** Places of machines. */
  readonly places: MachinePlaces;
  /** Notes of machines. */
  readonly ledger: MachineLedger;
  /** The log. */
  readonly log: Log;

  /**
   * Starts nothing.
   *
   * @param directory Where everything is.
   * @param world Where machines live.
   */
  constructor(readonly directory: string, readonly world: FakeWorld = new FakeWorld()) {
    this.hypervisor = new FakeHypervisor(world, this.gate);
    this.places = new MachinePlaces({ directory: `${directory}/machines`, firstUser: undefined });
    this.log = createLog({ level: "trace", write: (line) => void this.lines.push(line) });
    this.ledger = new MachineLedger(`${directory}/ledger`, this.log);
  }

  /** Where templates are. */
  get templateDirectory(): string {
    return `${this.directory}/templates`;
  }

  /** A machine; its kernel and initrd are there. */
  spec(changes: Partial<MachineSpec> = {}): MachineSpec {
    return {
      machine: "microvm",
      machineOptions: "",
      accelerator: "tcg",
      cpuModel: "",
      cpus: 1,
      cpusMax: 1,
      memoryBytes: 128 << 20,
      memoryMaxBytes: 128 << 20,
      hugepages: false,
      kernel: `${this.directory}/vmlinux`,
      initrd: `${this.directory}/initrd`,
      kernelParams: "",
      entropySource: "/dev/urandom",
      network: "none",
      interfaces: 0,
      diskSlots: 1,
      sharedTree: false,
      console: false,
      ...changes,
    };
  }

  /** Templates on this fixture. */
  templates(changes: Partial<TemplatesOptions> = {}): Templates {
    return new Templates({
      hypervisor: this.hypervisor,
      places: this.places,
      ledger: this.ledger,
      agent: () => this.#agent(),
      directory: this.templateDirectory,
      host: { hypervisor: "fake 1.0", bootId: "boot-1", tscKhz: 2_600_000 },
      countMax: 3,
      settleMs: 0,
      log: this.log,
      now: () => this.clock.now(),
      ...changes,
    });
  }

  /** A pool of these templates. */
  pool(templates: Templates, changes: Partial<PoolOptions> = {}): Pool {
    return new Pool({
      hypervisor: this.hypervisor,
      saved: templates,
      places: this.places,
      ledger: this.ledger,
      size: 2,
      log: this.log,
      quietMs: 0,
      lookMs: 5,
      now: () => this.clock.now(),
      ...changes,
    });
  }

  /** Ends what an earlier life left behind. */
  async recover(inUse: ReadonlySet<string> = new Set()): Promise<void> {
    await this.ledger.recover(
      this.hypervisor,
      inUse,
      (place: MachinePlace) => this.places.free(place),
    );
  }

  /** The names in a directory below the fixture's; none where it is missing. */
  async names(name: string): Promise<string[]> {
    const entries = await Array.fromAsync(Deno.readDir(`${this.directory}/${name}`))
      .catch(() => []);
    return entries.map((entry) => entry.name).sort();
  }

  /** Whether a line was logged that has this text in it. */
  said(text: string): boolean {
    return this.lines.some((line) => line.includes(text));
  }

  async #agent(): Promise<TemplateAgent> {
    await this.gate.pass("agent");
    this.agents++;
    const request = async (name: string) => {
      await this.gate.pass(`agent.${name}`);
      return {};
    };
    return { request, [Symbol.dispose]: () => void this.agents-- };
  }
}

/**
 * Runs a test with a fixture in a directory of its own.
 *
 * @param body The test.
 */
export async function withFixture(body: (fixture: Fixture) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-template-" });
  try {
    await Deno.writeTextFile(`${directory}/vmlinux`, "kernel");
    await Deno.writeTextFile(`${directory}/initrd`, "initrd");
    await body(new Fixture(directory));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/**
 * Waits until something holds.
 *
 * @param holds Whether it does.
 * @param timeoutMs How long to wait, in milliseconds.
 * @throws {Error} Where it does not in time.
 */
export async function eventually(
  holds: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  for (const end = Date.now() + timeoutMs; Date.now() < end;) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  throw new Error("it did not come to hold");
}
