import assert from "node:assert/strict";
import { SandboxError } from "../lifecycle/errors.ts";
import { FakeDriver } from "../lifecycle/testing/fake_driver.ts";
import { TestGate } from "../lifecycle/testing/gate.ts";
import { assertModuleHeader } from "../wasm/module_bytes.ts";
import { DEFAULT_LIBRARY_PATH } from "../wasm/native/library.ts";
import { System } from "../wasm/native/system.ts";
import type { Sandbox, Sandboxer } from "./api.ts";
import type { Descriptors } from "./kind.ts";
import { openKind } from "./open.ts";

/** The head of a module: the fake driver looks no further. */
const MODULE = new Uint8Array([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);

/** Real pipes, counted; after `left` of them there are no more. */
class CountedDescriptors implements Descriptors {
  readonly #system = new System(DEFAULT_LIBRARY_PATH);
  /** Ends of pipes that a guest would have and that are open. */
  readonly open = new Set<number>();
  left = Infinity;

  pipe(): readonly [number, number] {
    if (this.left-- <= 0) throw new SandboxError("ResourceExhausted", "too many open files");
    const ends = this.#system.pipe();
    for (const fd of ends) this.open.add(fd);
    return ends;
  }

  close(fd: number): void {
    this.open.delete(fd);
    this.#system.close(fd);
  }

  isNonblocking(fd: number): boolean {
    return this.#system.isNonblocking(fd);
  }

  setNonblocking(fd: number, on: boolean): void {
    this.#system.setNonblocking(fd, on);
  }
}

/** A sandboxer on a fake driver, with everything that could be left behind in sight. */
class Bench implements AsyncDisposable {
  readonly gate = new TestGate();
  readonly driver = new FakeDriver({ gate: this.gate });
  readonly descriptors = new CountedDescriptors();
  readonly warnings: string[] = [];
  readonly directory: string;
  readonly sandboxer: Sandboxer;
  kindsReleased = 0;

  constructor(directory: string) {
    this.directory = directory;
    this.sandboxer = openKind("wasm", {
      driver: this.driver,
      descriptors: this.descriptors,
      checkModule: assertModuleHeader,
      [Symbol.asyncDispose]: () => {
        this.kindsReleased++;
        return Promise.resolve();
      },
    }, { temporaryDirectory: directory, onWarning: (message) => this.warnings.push(message) });
  }

  static async make(): Promise<Bench> {
    return new Bench(await Deno.makeTempDir({ prefix: "quasaur-embedded-test-" }));
  }

  /** Ends the guest of the only container that runs. */
  endGuest(): void {
    for (const sandbox of this.driver.host.sandboxes.values()) {
      for (const container of sandbox.containers.values()) {
        container.processes.get("")?.end({ status: 0, at: 0, reason: "exited" });
      }
    }
  }

  /** What a container would leave: private directories, and things of the driver. */
  async left(): Promise<string[]> {
    const files = await Array.fromAsync(Deno.readDir(this.directory), ({ name }) => name);
    return [...files, ...this.driver.host.live()];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sandboxer[Symbol.asyncDispose]();
    assert.deepEqual(await this.left(), []);
    assert.deepEqual(this.driver.host.violations, []);
    assert.equal(this.kindsReleased, 1);
    await Deno.remove(this.directory, { recursive: true });
  }
}

const PIPED = { module: MODULE, stdin: "piped" } as const;

async function runAndFail(sandbox: Sandbox, signal?: AbortSignal): Promise<SandboxError> {
  let caught: unknown;
  try {
    await sandbox.run({ ...PIPED, ...(signal && { signal }) });
  } catch (error) {
    caught = error;
  }
  assert.ok(caught instanceof SandboxError, String(caught));
  return caught;
}

const START_STEPS = [
  "driver.create-container",
  "driver.create-container-half",
  "driver.start-process",
  "driver.start-process-half",
];

for (const step of START_STEPS) {
  Deno.test(`run() leaves nothing behind when ${step} fails`, async () => {
    await using bench = await Bench.make();
    await using sandbox = await bench.sandboxer.createSandbox({ id: "s" });
    bench.gate.fail(step, new SandboxError("DataLoss", "planned fault"));
    const error = await runAndFail(sandbox);
    assert.equal(error.code, "DataLoss");
    assert.deepEqual(await bench.left(), ["sandbox s"]);
    await using again = await sandbox.run(PIPED);
    await again.kill();
  });

  Deno.test(`run() leaves nothing behind when it is aborted at ${step}`, async () => {
    await using bench = await Bench.make();
    await using sandbox = await bench.sandboxer.createSandbox({ id: "s" });
    const hold = bench.gate.hold(step);
    const controller = new AbortController();
    const failed = runAndFail(sandbox, controller.signal);
    await hold.reached;
    controller.abort();
    hold.release();
    assert.equal((await failed).code, "Cancelled");
    assert.deepEqual(await bench.left(), ["sandbox s"]);
  });

  Deno.test(`a sandbox that is disposed of at ${step} of a run takes the run with it`, async () => {
    await using bench = await Bench.make();
    const sandbox = await bench.sandboxer.createSandbox({ id: "s" });
    const hold = bench.gate.hold(step);
    const failed = runAndFail(sandbox);
    await hold.reached;
    const disposed = sandbox[Symbol.asyncDispose]();
    hold.release();
    await Promise.all([failed, disposed]);
    assert.deepEqual(await bench.left(), []);
  });
}

for (const pipes of [0, 1, 2]) {
  Deno.test(`run() closes its pipes when there is none after ${pipes}`, async () => {
    await using bench = await Bench.make();
    await using sandbox = await bench.sandboxer.createSandbox({ id: "s" });
    bench.descriptors.left = pipes;
    assert.equal((await runAndFail(sandbox)).code, "ResourceExhausted");
    // The other ends belong to streams, which close them without asking.
    assert.equal(bench.descriptors.open.size, pipes);
    assert.deepEqual(await bench.left(), ["sandbox s"]);
  });
}

Deno.test("run() tells of the first failure where cleaning up fails too", async () => {
  await using bench = await Bench.make();
  await using sandbox = await bench.sandboxer.createSandbox({ id: "s" });
  bench.gate.fail("driver.start-process", new SandboxError("DataLoss", "planned fault"));
  bench.gate.fail("driver.delete-container", new Error("planned fault of the clean-up"));
  assert.equal((await runAndFail(sandbox)).code, "DataLoss");
  assert.deepEqual(bench.warnings, ["cannot undo the start of a container"]);
});

Deno.test("createSandbox() leaves nothing behind when the driver fails", async () => {
  await using bench = await Bench.make();
  bench.gate.fail("driver.start", new SandboxError("DataLoss", "planned fault"));
  await assert.rejects(bench.sandboxer.createSandbox({ id: "s" }), { code: "DataLoss" });
  assert.deepEqual(await bench.left(), []);
});

Deno.test("a guest that ended before run() returned has its exit and its streams' ends", async () => {
  await using bench = await Bench.make();
  await using sandbox = await bench.sandboxer.createSandbox();
  const hold = bench.gate.hold("driver.start-process-half");
  const running = sandbox.run(PIPED);
  await hold.reached;
  bench.endGuest();
  hold.release();
  await using container = await running;
  assert.equal((await container.exit).status, 0);
  assert.equal((await new Response(container.stdout).bytes()).length, 0);
});

Deno.test("a sandbox that ends by itself ends its containers", async () => {
  await using bench = await Bench.make();
  await using sandbox = await bench.sandboxer.createSandbox({ id: "s" });
  await using container = await sandbox.run(PIPED);
  const fake = bench.driver.host.sandboxes.get("s");
  assert.ok(fake !== undefined);
  bench.driver.host.endSandbox(fake, { status: 9, at: 0, reason: "lost" });
  const { status } = await container.exit;
  assert.ok(status > 128);
  await container.kill();
});

Deno.test("a container that could not be deleted is told of, and goes with its sandbox", async () => {
  await using bench = await Bench.make();
  const sandbox = await bench.sandboxer.createSandbox();
  const container = await sandbox.run(PIPED);
  bench.gate.fail("driver.delete-container", new Error("planned fault"));
  await assert.rejects(async () => await container[Symbol.asyncDispose](), /planned fault/);
  await sandbox[Symbol.asyncDispose]();
  assert.deepEqual(await bench.left(), []);
});

Deno.test("a sandbox that could not be stopped is told of, and goes with its sandboxer", async () => {
  await using bench = await Bench.make();
  const sandbox = await bench.sandboxer.createSandbox();
  await sandbox.run(PIPED);
  bench.gate.fail("driver.stop", new Error("planned fault"));
  await assert.rejects(async () => await sandbox[Symbol.asyncDispose](), /planned fault/);
});

Deno.test("a private directory that is gone already is not missed", async () => {
  await using bench = await Bench.make();
  await using sandbox = await bench.sandboxer.createSandbox();
  const container = await sandbox.run(PIPED);
  for await (const { name } of Deno.readDir(bench.directory)) {
    await Deno.remove(`${bench.directory}/${name}`, { recursive: true });
  }
  await container[Symbol.asyncDispose]();
  assert.deepEqual(bench.warnings, []);
});

Deno.test("run() says where it cannot make its private directory", async () => {
  await using bench = await Bench.make();
  await using sandbox = await bench.sandboxer.createSandbox();
  await Deno.rename(bench.directory, `${bench.directory}-away`);
  const error = await runAndFail(sandbox);
  await Deno.rename(`${bench.directory}-away`, bench.directory);
  assert.equal(error.code, "FailedPrecondition");
  assert.match(error.message, /^cannot make a temporary directory: /);
});
