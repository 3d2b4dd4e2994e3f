/**
 * A sandboxer that is restarted, or killed, in the middle of many pods being started, at a random
 * moment: every pod ends either running or failed, what failed can be removed, and nothing is left.
 * Where a sandboxer leaves in good order, pods that outlive it do not even notice.
 * `QUASAUR_LONG_TESTS=1` does it many times, with more pods, for every kind.
 *
 * @module
 */

import assert from "node:assert/strict";
import { gvisorTarget } from "./blackbox/gvisor_target.ts";
import type { Target } from "./blackbox/target.ts";
import { vmmTarget } from "./blackbox/vmm_target.ts";
import { wasmProcessTarget, wasmTarget } from "./blackbox/wasm_target.ts";
import { Bed } from "./support/bed.ts";
import { withLogs } from "./support/bed_tests.ts";
import { cgroupsWith } from "./support/cgroups.ts";
import type { Container, Cri, Pod } from "./support/cri.ts";
import { leaks, type Snapshot, snapshot } from "./support/leaks.ts";
import { processesNaming } from "./support/left_processes.ts";
import { type SandboxerProcess, sandboxerProgram } from "./support/sandboxer.ts";
import { isTemplate } from "./support/vmm.ts";
import { waitFor } from "./support/wait.ts";
import { toldWholly } from "./support/whole_errors.ts";

const IS_LONG = Deno.env.get("QUASAUR_LONG_TESTS") === "1";

/** How often each case is played, and how often it is tried to remove what a kill has left. */
const ROUNDS = IS_LONG ? 10 : 1;
const REMOVALS_MAX = 40;
/** After so long no more rounds are begun, in milliseconds: a busy machine plays fewer. */
const ROUNDS_MS_MAX = 8 * 60_000;

/** Pods of one runtime handler that are started at a time. */
interface Group {
  readonly target: Target;
  readonly pods: number;
  /** Whether its containers outlive the sandboxer. */
  readonly outlives: boolean;
}

/** What is started in one bed. */
interface Case {
  /** The kind of the sandboxer. */
  readonly kind: string;
  readonly groups: readonly Group[];
  /** Whether it is a long test only. */
  readonly isLong: boolean;
}

const CASES: readonly Case[] = [
  {
    kind: "wasm",
    groups: [
      { target: wasmTarget, pods: IS_LONG ? 30 : 6, outlives: false },
      { target: wasmProcessTarget, pods: IS_LONG ? 20 : 3, outlives: true },
    ],
    isLong: false,
  },
  { kind: "quark", groups: [{ target: gvisorTarget, pods: 8, outlives: true }], isLong: true },
  { kind: "vmm", groups: [{ target: vmmTarget, pods: 5, outlives: true }], isLong: true },
];

/** One pod that was asked for, and how far it got. */
interface Started {
  readonly group: Group;
  readonly pod?: Pod;
  readonly container?: Container;
  /** Why it got no further. */
  readonly error?: unknown;
}

class World {
  readonly #before: Promise<Snapshot>;

  private constructor(
    readonly bed: Bed,
    readonly cri: Cri,
    readonly of: Case,
    /** How long all pods take to start when nobody disturbs them, in milliseconds. */
    readonly undisturbedMs: number,
  ) {
    this.#before = this.#look();
  }

  static async make(bed: Bed, of: Case): Promise<World> {
    const cri = bed.cri();
    if (of.kind === "vmm") cri.network = "pod";
    const first = new World(bed, cri, of, 0);
    // The first start makes what all later ones find: templates, compiled code.
    await first.#startUndisturbed();
    return new World(bed, cri, of, await first.#startUndisturbed());
  }

  /** Starts all pods and removes them. @returns How long the start took, in milliseconds. */
  async #startUndisturbed(): Promise<number> {
    const begin = performance.now();
    expectNone(await this.startAll(), "undisturbed starts");
    const elapsedMs = performance.now() - begin;
    await this.removeAll();
    return elapsedMs;
  }

  get sandboxer(): SandboxerProcess {
    return this.bed.sandboxer(this.of.kind);
  }

  startAll(): Promise<Started[]> {
    return Promise.all(
      this.of.groups.flatMap((group) =>
        Array.from({ length: group.pods }, () => this.#start(group))
      ),
    );
  }

  /** Starts a pod that is there already: a sandboxer that leaves without any keeps nobody waiting. */
  async startStanding(): Promise<void> {
    for (const { target } of this.of.groups) await this.cri.runPod({ handler: target.handler });
  }

  async #start(group: Group): Promise<Started> {
    const { target } = group;
    let pod: Pod | undefined;
    let container: Container | undefined;
    try {
      pod = await this.cri.runPod({ handler: target.handler });
      container = await pod.createContainer({
        image: target.image,
        command: [target.path("sleep")],
      });
      await container.start();
      return { group, pod, container };
    } catch (error) {
      return { group, error, ...(pod && { pod }), ...(container && { container }) };
    }
  }

  /** A moment in the middle of the starts. */
  async randomMoment(): Promise<void> {
    const ms = (0.05 + 0.9 * Math.random()) * this.undisturbedMs;
    await new Promise((resolve) => setTimeout(resolve, ms));
  }

  /** Removes all pods as kubelet does: again, until it works. */
  async removeAll(): Promise<void> {
    let why: unknown;
    for (let tries = 0; tries < REMOVALS_MAX; tries++) {
      const ids = await this.cri.podIds();
      if (ids.length === 0) return;
      const results = await Promise.allSettled(ids.map((id) => this.cri.removePod(id)));
      why = results.find((result) => result.status === "rejected")?.reason ?? why;
      if (tries > 0) await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error("Pods cannot be removed", { cause: why });
  }

  async expectNothingLeft(): Promise<void> {
    const before = await this.#before;
    await waitFor("everything to be gone", async () => {
      const makers = await this.#templateMakers();
      const found = leaks(before, await this.#look())
        .filter((leak) => !this.#mayBe(leak) && !makers.some((id) => leak.includes(`/${id}`)));
      if (found.length > 0) throw new Error(found.slice(0, 20).join("\n"));
      return true;
    });
  }

  #mayBe(leak: string): boolean {
    const hasThreads = this.of.groups.some(({ outlives }) => !outlives);
    return OWN.test(leak) || (hasThreads && CONTAINERDS.test(leak));
  }

  async #look(): Promise<Snapshot> {
    const { state, directory } = this.bed.containerd;
    const things = await snapshot({
      mountsBelow: [directory],
      filesBelow: [
        `${state}/io.containerd.runtime.v2.task`,
        `${state}/io.containerd.grpc.v1.cri`,
        this.sandboxer.paths.runDirectory,
      ],
    });
    const processes = new Map<string, number>();
    for (const { command } of await processesNaming(directory)) {
      // What helps the sandboxer, and machines that templates are made of, may come and go.
      const name = command.split(" ")[0] ?? "";
      if (/launcher|containerd|deno/.test(name) || isTemplate(command)) continue;
      processes.set(name, (processes.get(name) ?? 0) + 1);
    }
    return new Map([...things, ["process", processes], ["cgroup", await this.#cgroups()]]);
  }

  /** The ids of machines that templates are made of just now: the image of guests may be a new one. */
  async #templateMakers(): Promise<string[]> {
    const all = await processesNaming(this.bed.directory);
    return all.filter(({ command }) => isTemplate(command))
      .flatMap(({ command }) => /guest=(\w+)/.exec(command)?.[1] ?? []);
  }

  /** The cgroups of microVMs, each in one that stands for kubelet's. */
  async #cgroups(): Promise<ReadonlyMap<string, number>> {
    if (this.of.kind !== "vmm") return new Map();
    const { directory } = this.bed.containerd;
    const all = await cgroupsWith(directory.split("/").at(-1) ?? "");
    return new Map(all.filter((path) => /\/[0-9a-f]{64}$/.test(path)).map((path) => [path, 1]));
  }
}

/** Templates of the vmm kind stay, and so do the directories that its first pod makes. */
const OWN = /\/vmm\/(templates|(machines|ledger|running|trees|tree-servers|pods)")/;
/**
 * containerd forgets its directory of a container on a thread whose connection broke while it was
 * being started, until it is restarted itself.
 */
const CONTAINERDS = /^file .*io\.containerd\.runtime\.v2\.task/;

/** Expects that none of the starts has failed; tells of all that have. */
function expectNone(all: readonly Started[], what: string): void {
  const errors = all.flatMap(({ error }) => error === undefined ? [] : [error]);
  if (errors.length === 0) return;
  const texts = errors.map((error) => error instanceof Error ? error.message : String(error));
  throw new AggregateError(errors, `${errors.length} ${what} failed: ${texts.join("; ")}`);
}

/** Pods that are said to run do; of those on threads containerd hears that they have ended. */
async function expectTruth(all: readonly Started[]): Promise<void> {
  for (const { error, container, group } of all) {
    if (error !== undefined || container === undefined) continue;
    if (group.outlives) {
      await container.printed("sleeping");
      assert.equal(await container.state(), "RUNNING");
    } else {
      assert.match(await container.state(), /^(RUNNING|EXITED)$/);
    }
  }
}

/** A restart in the middle of the starts: nothing that outlives the sandboxer is failed by it. */
async function restartRound(world: World): Promise<void> {
  await world.startStanding();
  const starting = world.startAll();
  await world.randomMoment();
  await world.sandboxer.restart();
  const all = await starting;
  expectNone(all.filter(({ pod }) => pod === undefined), "starts of pods");
  // Containers on threads end with their sandboxer: those that it would have begun are refused.
  expectNone(all.filter(({ group }) => group.outlives), "starts of containers");
  await expectTruth(all);
  await world.removeAll();
  await world.expectNothingLeft();
}

/** A kill in the middle of the starts: what it breaks off fails, and can be removed. */
async function killRound(world: World): Promise<void> {
  const starting = world.startAll();
  await world.randomMoment();
  await world.sandboxer.process.kill();
  await world.sandboxer.start();
  await expectTruth(await starting);
  await world.removeAll();
  await world.expectNothingLeft();
}

/** Plays a case in a bed of its own. */
async function play(of: Case): Promise<void> {
  // Nobody comes back for a pod whose start broke off between two calls; and a busy machine takes
  // its time over the starts that a restart waits for.
  const flags = ["--unstarted-max=10", "--drain=30"];
  const kinds = [{ ...sandboxerProgram(of.kind), flags }];
  await using bed = await Bed.start({ kinds });
  await withLogs(bed, async () => {
    await of.groups[0]?.target.importImages(bed);
    const world = await World.make(bed, of);
    using _cri = world.cri;
    const end = performance.now() + ROUNDS_MS_MAX;
    for (let round = 0; round < ROUNDS && (round === 0 || performance.now() < end); round++) {
      await restartRound(world);
      await killRound(world);
    }
  });
}

for (const of of CASES) {
  const names = of.groups.map(({ target }) => target.name).join(" and ");
  const ignore = of.isLong && !IS_LONG;
  Deno.test(`${names}: a restart and a kill in the middle of many starts`, { ignore }, async () => {
    await toldWholly(() => play(of));
  });
}
