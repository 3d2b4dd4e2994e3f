import assert from "node:assert/strict";
import { BusyboxRootfs } from "../../../tests/support/busybox_rootfs.ts";
import { Gate } from "../../host/gate.ts";
import { Launcher } from "../../host/launcher.ts";
import { DEFAULT_PAUSE_ROOT } from "../../host/launcher_file.ts";
import { HostMounter } from "../../host/mounter.ts";
import { noObserver } from "../../lifecycle/observer.ts";
import type { ContainerSpec, ExecSpec, SandboxSpec, StdioSpec } from "../../lifecycle/spec.ts";
import { containerSpec, execSpec, sandboxSpec } from "../../lifecycle/testing/specs.ts";
import { type Log, noLog } from "../../log.ts";
import { Gvisor } from "./kernel.ts";
import { Runsc, type RunscOptions } from "./runsc.ts";
import { readSnapshotRecord } from "./snapshot/record.ts";

const PROGRAM = "/usr/bin/runsc";
const isThere = await Deno.stat(PROGRAM).then(() => Deno.uid() === 0, () => false);
const signal = () => AbortSignal.timeout(30_000);

/** A state directory with a root file system, and what works in it. */
class World implements AsyncDisposable {
  readonly warnings: string[] = [];
  /** The phases of starts, in order. */
  readonly phases: string[] = [];
  readonly #gate: Gate;
  readonly #log: Log = {
    ...noLog,
    warn: (message) => void this.warnings.push(message),
    error: (message) => void this.warnings.push(message),
  };

  private constructor(readonly directory: string, readonly rootfs: BusyboxRootfs) {
    this.#gate = new Gate(`${directory}/gate.sock`);
  }

  static async make(): Promise<World> {
    const directory = await Deno.makeTempDir({ prefix: "quasaur-gv-" });
    return new World(directory, await BusyboxRootfs.make());
  }

  /** A kernel as a sandboxer process has it. */
  kernel(changes: Partial<RunscOptions> = {}): Gvisor {
    const launcher = new Launcher();
    const { directory } = this;
    const runsc = new Runsc({
      program: PROGRAM,
      launcher,
      root: `${directory}/root`,
      logs: `${directory}/logs`,
      platform: "systrap",
      network: "none",
      ignoresCgroups: true,
      ...changes,
    });
    return new Gvisor({
      launcher,
      mounter: new HostMounter(launcher),
      runsc: () => Promise.resolve(runsc),
      root: `${directory}/root`,
      stateDirectory: directory,
      podDirectory: `${directory}/pods`,
      pauseRoot: DEFAULT_PAUSE_ROOT,
      rawSockets: false,
      connect: this.#gate.connect,
      observer: {
        ...noObserver,
        phase: (operation, phase) => void this.phases.push(`${operation} ${phase}`),
      },
      log: this.#log,
    });
  }

  /** A pod without a network. */
  pod(id: string): SandboxSpec {
    return sandboxSpec(id, { hostname: "web", network: { kind: "none" } });
  }

  /** A container that runs a script. */
  container(
    id: string,
    script: string,
    changes: Partial<ContainerSpec> = {},
    pod = "pod",
  ): ContainerSpec {
    return containerSpec(id, pod, {
      rootfs: { kind: "directory", path: this.rootfs.path },
      process: processOf(script),
      stdio: this.#stdio(id),
      ...changes,
    });
  }

  exec(id: string, script: string): ExecSpec {
    return execSpec(id, { process: processOf(script), stdio: this.#stdio(id) });
  }

  /** What a process has written. */
  output(id: string): string {
    return Deno.readTextFileSync(`${this.directory}/${id}.out`);
  }

  /** What runsc and pods have left. */
  left(): string[] {
    return ["root", "pods"].flatMap((name) =>
      [...Deno.readDirSync(`${this.directory}/${name}`)].map((entry) => `${name}/${entry.name}`)
    );
  }

  #stdio(id: string): StdioSpec {
    const path = `${this.directory}/${id}.out`;
    Deno.writeTextFileSync(path, "");
    const stdout = { kind: "path", path } as const;
    return { stdin: { kind: "null" }, stdout, stderr: stdout, terminal: false };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kernel().recovered();
    await this.rootfs[Symbol.asyncDispose]();
    await Deno.remove(this.directory, { recursive: true });
  }
}

function processOf(script: string) {
  return {
    args: ["sh", "-c", script],
    env: ["PATH=/bin"],
    cwd: "/",
    user: { uid: 0, gid: 0, additionalGids: [] },
  };
}

const FOR_EVER = "trap 'exit 9' TERM; while :; do sleep 0.05; done";

/** Waits until a container has written something. */
async function until(world: World, id: string, words: RegExp): Promise<void> {
  for (let tries = 0; tries < 500 && !words.test(world.output(id)); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.match(world.output(id), words);
}

Deno.test({
  name: "containers of a pod run, share its /dev/shm and name, take execs and signals, and end",
  ignore: !isThere,
  fn: async () => {
    await using world = await World.make();
    const pod = await world.kernel().start(world.pod("pod"), signal());
    const first = await pod.createContainer(
      world.container("c1", `hostname; cat /etc/hostname; echo shared >/dev/shm/f; ${FOR_EVER}`),
      signal(),
    );
    const init = await first.start(signal());
    await until(world, "c1", /^web\nweb\n$/);
    const second = await pod.createContainer(
      world.container("c2", "cat /dev/shm/f; exit 7"),
      signal(),
    );
    const other = await second.start(signal());
    assert.deepEqual(
      await other.exited.then(({ status, reason }) => ({ status, reason })),
      { status: 7, reason: "exited" },
    );
    assert.equal(world.output("c2"), "shared\n");
    await second.delete();
    const exec = await first.exec?.(world.exec("e1", "echo inside; exit 4"), signal());
    assert.equal((await exec?.exited)?.status, 4);
    assert.equal(world.output("e1"), "inside\n");
    assert.ok((await first.stats()).cpuNs > 0);
    await init.kill(15);
    assert.equal((await init.exited).status, 9);
    await first.delete();
    await pod.stop(0);
    assert.equal((await pod.exited).reason, "exited");
    assert.deepEqual(world.left(), []);
    assert.deepEqual(world.warnings, []);
    assert.deepEqual(world.phases, [
      ...["sandbox_start bundle", "sandbox_start create", "sandbox_start start"],
      ...["container_create bundle", "container_create create"],
      ...["container_create bundle", "container_create create"],
    ]);
  },
});

Deno.test({
  name: "a pod whose sandbox is killed ends, and its containers with it",
  ignore: !isThere,
  fn: async () => {
    await using world = await World.make();
    const pod = await world.kernel().start(world.pod("pod"), signal());
    const container = await pod.createContainer(world.container("c1", FOR_EVER), signal());
    const init = await container.start(signal());
    Deno.kill(pod.pid, "SIGKILL");
    assert.equal((await init.exited).reason, "lost");
    assert.equal((await pod.exited).reason, "lost");
    assert.deepEqual(await container.pids(), []);
    await pod.stop(0);
    assert.deepEqual(world.left(), []);
  },
});

Deno.test({
  name: "the next sandboxer takes a pod over, hears of exits meanwhile, and ends what is nobody's",
  ignore: !isThere,
  fn: async () => {
    await using world = await World.make();
    const earlier = world.kernel();
    const spec = world.pod("pod");
    const pod = await earlier.start(spec, signal());
    await earlier.start(world.pod("nobodys"), signal());
    const specs = [world.container("c1", FOR_EVER), world.container("c2", "sleep 0.2; exit 3")];
    const containers = [];
    for (const one of specs) {
      const container = await pod.createContainer(one, signal());
      await container.start(signal());
      containers.push({ spec: one, record: container.record });
    }
    const created = world.container("c3", "echo late; exit 5");
    const third = await pod.createContainer(created, signal());
    containers.push({ spec: created, record: third.record });
    await earlier.leave();

    const later = world.kernel();
    const adopted = await later.adopt({ spec, record: pod.record, containers });
    assert.ok(adopted !== undefined);
    assert.equal(adopted.handle.pid, pod.pid);
    await later.recovered();
    const processOfContainer = (id: string) => adopted.containers.get(id)?.processes.get("");
    assert.equal((await processOfContainer("c2")?.exited)?.status, 3);
    assert.equal(processOfContainer("c3"), undefined);
    const late = await adopted.containers.get("c3")?.handle.start(signal());
    assert.equal((await late?.exited)?.status, 5);
    assert.equal(world.output("c3"), "late\n");
    await processOfContainer("c1")?.kill(9);
    assert.equal((await processOfContainer("c1")?.exited)?.status, 137);
    await adopted.handle.stop(0);
    assert.deepEqual(world.left(), []);
  },
});

Deno.test({
  name: "a paused container stands still, and can be killed and deleted",
  ignore: !isThere,
  fn: async () => {
    await using world = await World.make();
    const pod = await world.kernel().start(world.pod("pod"), signal());
    const container = await pod.createContainer(
      world.container("c1", "while :; do echo .; sleep 0.05; done"),
      signal(),
    );
    const init = await container.start(signal());
    await until(world, "c1", /\./);
    await container.pause?.();
    const before = world.output("c1");
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(world.output("c1"), before);
    await container.resume?.();
    await until(world, "c1", new RegExp(`^${before}\\.`));
    await container.pause?.();
    await init.kill(9);
    assert.equal((await init.exited).status, 137);
    await container.delete();
    await pod.stop(0);
    assert.deepEqual(world.left(), []);
  },
});

Deno.test({
  name: "a container that cannot be made, and a pod that is given up, leave nothing",
  ignore: !isThere,
  fn: async () => {
    await using world = await World.make();
    const kernel = world.kernel();
    const pod = await kernel.start(world.pod("pod"), signal());
    const wrong = { ...world.container("c1", ""), process: { ...processOf(""), args: ["/no"] } };
    const container = await pod.createContainer(wrong, signal());
    await assert.rejects(container.start(signal()), /"\/no"|no such file/);
    await container.delete();
    await pod.stop(0);
    const given = new AbortController();
    setTimeout(() => given.abort(), 30);
    await assert.rejects(kernel.start(world.pod("given"), given.signal), { code: "Cancelled" });
    assert.deepEqual(world.left(), []);
  },
});

/** Counts, in its memory; and has written to its root file system. */
const COUNTS = "echo mine >/mine; n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done";

/** The first number that a container has written. */
function firstCount(world: World, id: string): number {
  return Number(world.output(id).split("\n")[0]);
}

Deno.test({
  name: "a snapshot goes on in other sandboxes, with its containers, and the saved one goes on too",
  ignore: !isThere,
  fn: async () => {
    await using world = await World.make();
    const memory = { overlay: "memory" } as const;
    const kernel = world.kernel(memory);
    const pod = await kernel.start(world.pod("pod"), signal());
    // What has been deleted leaves a gap in what runsc counts.
    const deleted = await pod.createContainer(world.container("c0", "true"), signal());
    const container = await pod.createContainer(world.container("c1", COUNTS), signal());
    const beside = await pod.createContainer(world.container("c2", COUNTS), signal());
    for (const one of [container, beside]) await one.start(signal());
    await deleted.delete();
    await until(world, "c1", /^3$/m);
    const directory = `${world.directory}/snapshot`;
    await kernel.snapshot("pod", directory, signal());
    const saved = world.output("c1").split("\n").length;
    await until(world, "c1", new RegExp(`^${saved + 5}$`, "m"));

    const record = await readSnapshotRecord(directory);
    assert.deepEqual(record.containers.map(({ id, command }) => [id, command.at(-1)]), [
      ["c1", COUNTS],
      ["c2", COUNTS],
    ]);
    const spec = world.pod("other");
    kernel.startFrom(spec, { directory, record, ids: new Map([["c1", "d1"], ["c2", "d2"]]) });
    const other = await kernel.start(spec, signal());
    const specs = ["d1", "d2"].map((id) => world.container(id, "", {}, "other"));
    const containers = [];
    for (const one of specs) {
      const handle = await other.createContainer(one, signal());
      await assert.rejects(kernel.snapshot("other", `${directory}-2`, signal()), /run yet|started/);
      await handle.start(signal());
      containers.push({ spec: one, record: handle.record });
    }
    await Deno.remove(directory, { recursive: true });
    for (const id of ["d1", "d2"]) await until(world, id, /\n\d+\n\d+\n/);
    assert.ok(firstCount(world, "d1") >= 3, world.output("d1"));
    assert.ok(firstCount(world, "d1") <= saved + 1, world.output("d1"));

    // The next sandboxer takes over what was made of a snapshot as it does others.
    await kernel.leave();
    const later = world.kernel(memory);
    const adopted = await later.adopt({ spec, record: other.record, containers });
    const first = adopted?.containers.get("d1");
    assert.ok(adopted !== undefined && first !== undefined);
    const exec = await first.handle.exec?.(world.exec("e1", "cat /mine"), signal());
    assert.equal((await exec?.exited)?.status, 0);
    assert.equal(world.output("e1"), "mine\n");
    // And what was made of a snapshot can be saved again.
    await later.snapshot("other", directory, signal());
    assert.equal((await readSnapshotRecord(directory)).containers.length, 2);
    await first.processes.get("")?.kill(9);
    assert.equal((await first.processes.get("")?.exited)?.status, 137);
    await adopted.handle.stop(0);
    await pod.stop(0);
    await assert.rejects(Deno.stat(`${world.rootfs.path}/mine`), Deno.errors.NotFound);
    assert.deepEqual(world.left(), []);
    assert.deepEqual(world.warnings, []);
  },
});

Deno.test({
  name: "what runsc cannot save or bring back is refused before anything is done, and says why",
  ignore: !isThere,
  fn: async () => {
    await using world = await World.make();
    const memory = world.kernel({ overlay: "memory" });
    const pod = await memory.start(world.pod("pod"), signal());
    const directory = `${world.directory}/snapshot`;
    const refused = async (message: RegExp, kernel = memory, code = "FailedPrecondition") => {
      await assert.rejects(kernel.snapshot("pod", directory, signal()), { code, message });
      await assert.rejects(Deno.stat(directory), Deno.errors.NotFound);
    };
    const container = await pod.createContainer(world.container("c1", FOR_EVER), signal());
    await refused(/^cannot take a snapshot of sandbox "pod": container "c1" was not started/);
    const init = await container.start(signal());
    const exec = await container.exec?.(world.exec("e1", "sleep 1000"), signal());
    await refused(/process "e1" runs beside the first one of container "c1", .*: end it first$/);
    await exec?.kill(9);
    await exec?.exited;
    await container.pause?.();
    await refused(/a container of it is paused: resume it first$/);
    await container.resume?.();
    const mounts = [{ source: "/tmp", destination: "/data", readonly: false }];
    const sees = await pod.createContainer(world.container("c2", FOR_EVER, { mounts }), signal());
    await sees.start(signal());
    await refused(/container "c2" sees "\/tmp" of the host at "\/data"$/);
    await sees.delete();
    await Deno.mkdir(directory);
    await assert.rejects(memory.snapshot("pod", directory, signal()), { code: "AlreadyExists" });
    await Deno.remove(directory);
    await init.kill(9);
    await init.exited;
    await refused(/container "c1" has ended: delete it first$/);
    await pod.stop(0);
    await refused(/not found/, memory, "NotFound");

    const plain = world.kernel();
    const writing = await plain.start(world.pod("pod"), signal());
    const writer = await writing.createContainer(world.container("c3", FOR_EVER), signal());
    await writer.start(signal());
    await refused(/"c3" writes to its root file system .*: set gvisor.overlay to "memory"/, plain);
    await writing.stop(0);
    assert.deepEqual(world.left(), []);
  },
});
