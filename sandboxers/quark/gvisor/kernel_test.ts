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
import { Runsc } from "./runsc.ts";

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
  kernel(): Gvisor {
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
    });
    return new Gvisor({
      launcher,
      mounter: new HostMounter(launcher),
      runsc: () => Promise.resolve(runsc),
      root: `${directory}/root`,
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
  container(id: string, script: string, changes: Partial<ContainerSpec> = {}): ContainerSpec {
    return containerSpec(id, "pod", {
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
