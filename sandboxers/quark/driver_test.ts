import assert from "node:assert/strict";
import type { Capabilities, SandboxHandle } from "../lifecycle/driver.ts";
import type { Json } from "../lifecycle/spec.ts";
import { FakeDriver } from "../lifecycle/testing/fake_driver.ts";
import { FakeHost } from "../lifecycle/testing/fake_host.ts";
import { TestGate } from "../lifecycle/testing/gate.ts";
import { containerSpec, execSpec, sandboxSpec, TERMINAL } from "../lifecycle/testing/specs.ts";
import { createLog } from "../log.ts";
import type { AppKernel, AppKernelName } from "./app_kernel.ts";
import { QuarkDriver, type QuarkDriverOptions } from "./driver.ts";

const NEVER = new AbortController().signal;
const RUNTIMES = {
  gvisor: "io.containerd.quasaur-gvisor.v1",
  quark: "io.containerd.quasaur-quark.v1",
} as const;

/** Two kernels, each with a host of its own to count on. */
class Kernels {
  readonly hosts = { gvisor: new FakeHost(), quark: new FakeHost() };
  readonly gates = { gvisor: new TestGate(), quark: new TestGate() };
  readonly called: string[] = [];
  readonly lines: string[] = [];
  capabilities: Partial<Record<AppKernelName, Partial<Capabilities>>> = {};

  driver(options: Partial<QuarkDriverOptions> = {}): QuarkDriver {
    return new QuarkDriver({
      kernels: [this.#kernel("gvisor"), this.#kernel("quark")],
      defaultKernel: "gvisor",
      log: createLog({ write: (line) => this.lines.push(line) }),
      recovered: () => this.#call("recovered"),
      keepOpen: () => this.#call("keep open"),
      leave: (hasSandboxes) => this.#call(`leave ${hasSandboxes}`),
      ...options,
    });
  }

  /** The ids of the sandboxes of each. */
  get ids() {
    const { gvisor, quark } = this.hosts;
    return { gvisor: [...gvisor.sandboxes.keys()], quark: [...quark.sandboxes.keys()] };
  }

  #call(what: string): Promise<void> {
    this.called.push(what);
    return Promise.resolve();
  }

  #kernel(name: AppKernelName): AppKernel {
    const fake = new FakeDriver({
      host: this.hosts[name],
      gate: this.gates[name],
      ...(this.capabilities[name] === undefined ? {} : { capabilities: this.capabilities[name] }),
    });
    return {
      name,
      capabilities: fake.capabilities,
      start: (spec, signal) => fake.start(spec, signal),
      adopt: (sandbox) => fake.adopt(sandbox),
      validate: (spec) => {
        if (spec.annotations["refused-by"] === name) throw new Error(`${name} refuses it`);
      },
      recovered: async () => {
        await this.#call(`${name} recovered`);
        await this.gates[name].pass("recovered");
      },
      leave: () => this.#call(`${name} leaves`),
    };
  }
}

/** What recovery knows of a sandbox. */
function stored(id: string, record: Json, runtime?: string) {
  const spec = sandboxSpec(id, runtime === undefined ? {} : { runtime });
  return { spec, record, containers: [{ spec: containerSpec("c", id), record: null }] };
}

Deno.test("a sandbox gets the kernel that its runtime names, and the default where it names none", async () => {
  const kernels = new Kernels();
  const driver = kernels.driver({ defaultKernel: "quark" });
  await driver.start(sandboxSpec("a", { runtime: RUNTIMES.gvisor }), NEVER);
  await driver.start(sandboxSpec("b", { runtime: RUNTIMES.quark }), NEVER);
  await driver.start(sandboxSpec("c", { runtime: "io.containerd.quasaur-other.v1" }), NEVER);
  await driver.start(sandboxSpec("d"), NEVER);
  assert.deepEqual(kernels.ids, { gvisor: ["a"], quark: ["b", "c", "d"] });
});

Deno.test("a sandbox is taken over by the kernel of its record, whatever the default is now", async () => {
  const kernels = new Kernels();
  const before = await kernels.driver().start(sandboxSpec("a"), NEVER);
  await (await before.createContainer(containerSpec("c", "a"), NEVER)).start(NEVER);
  const driver = kernels.driver({ defaultKernel: "quark" });
  const adopted = await driver.adopt(stored("a", before.record));
  assert.ok(adopted !== undefined);
  assert.deepEqual(adopted.handle.record, before.record);
  assert.deepEqual([...adopted.containers.keys()], ["c"]);
  assert.equal(adopted.containers.get("c")?.processes.size, 1);
  await adopted.handle.stop(0);
  assert.deepEqual(kernels.ids, { gvisor: [], quark: [] });
  assert.ok(!kernels.gates.quark.steps.includes("driver.adopt"));
});

Deno.test("a sandbox of which nothing was stored is looked for with the kernel it was meant for", async () => {
  const kernels = new Kernels();
  await kernels.driver().start(sandboxSpec("a", { runtime: RUNTIMES.quark }), NEVER);
  const adopted = await kernels.driver().adopt(stored("a", null, RUNTIMES.quark));
  assert.ok(adopted !== undefined);
  assert.deepEqual(kernels.gates.gvisor.steps, []);
});

Deno.test("a sandbox that names no kernel and of which nothing was stored is looked for with all", async () => {
  const kernels = new Kernels();
  await kernels.driver({ defaultKernel: "quark" }).start(sandboxSpec("a"), NEVER);
  const adopted = await kernels.driver().adopt(stored("a", null));
  assert.deepEqual(Object(adopted?.handle.record).kernel, "quark");
  assert.equal(await kernels.driver().adopt(stored("gone", null)), undefined);
});

Deno.test("what one kernel cannot do is refused for its sandboxes alone, by its name", async () => {
  const kernels = new Kernels();
  const nothing = {
    exec: false,
    pause: false,
    updateContainer: false,
    updateSandbox: false,
    terminal: false,
  };
  kernels.capabilities = { quark: nothing };
  const driver = kernels.driver();
  assert.ok(Object.values(driver.capabilities).every((can) => can));
  const can = await driver.start(sandboxSpec("a"), NEVER);
  const container = await can.createContainer(containerSpec("c", "a"), NEVER);
  await container.start(NEVER);
  await container.pause?.();
  await container.resume?.();
  const cannot = await driver.start(sandboxSpec("b", { runtime: RUNTIMES.quark }), NEVER);
  const other = await cannot.createContainer(containerSpec("d", "b"), NEVER);
  await other.start(NEVER);
  const attempts: readonly (() => Promise<unknown> | undefined)[] = [
    () => other.exec?.(execSpec("x"), NEVER),
    () => other.pause?.(),
    () => other.resume?.(),
    () => other.update?.({}),
    () => cannot.update?.({}),
    () => cannot.createContainer(containerSpec("e", "b", { stdio: TERMINAL }), NEVER),
  ];
  for (const attempt of attempts) {
    await assert.rejects(async () => await attempt(), {
      code: "Unimplemented",
      message: /^cannot .* (sandbox|container) "\w": the application kernel quark cannot do that$/,
    });
  }
});

Deno.test("a container is checked by the kernel of its sandbox", async () => {
  const driver = new Kernels().driver();
  await driver.start(sandboxSpec("a"), NEVER);
  const refused = (name: string) =>
    containerSpec("c", "a", { annotations: { "refused-by": name } });
  driver.validate(refused("quark"));
  assert.throws(() => driver.validate(refused("gvisor")), /gvisor refuses it/);
});

Deno.test("task calls of sandboxes that outlive the sandboxer are taken at the relay", async () => {
  const { taskSocket } = await new Kernels().driver({ taskSocket: "/relay.sock" })
    .start(sandboxSpec("a"), NEVER);
  assert.equal(taskSocket, "/relay.sock");
  const without: SandboxHandle = await new Kernels().driver().start(sandboxSpec("a"), NEVER);
  assert.equal(without.taskSocket, undefined);
});

Deno.test("a kernel that cannot clean up keeps neither the other nor the sandboxer from it", async () => {
  const kernels = new Kernels();
  kernels.gates.gvisor.fail("recovered", new Error("a fault"));
  await kernels.driver().recovered();
  assert.deepEqual(kernels.called, ["gvisor recovered", "quark recovered", "recovered"]);
  assert.match(kernels.lines.join(""), /cannot clean up.*gvisor.*a fault/);
});

Deno.test("leave() keeps open what clients have where sandboxes go on, and tells whether they do", async () => {
  const kernels = new Kernels();
  const driver = kernels.driver();
  const sandbox = await driver.start(sandboxSpec("a"), NEVER);
  await driver.leave();
  assert.deepEqual(kernels.called, ["keep open", "gvisor leaves", "quark leaves", "leave true"]);
  kernels.called.length = 0;
  await sandbox.stop(0);
  await driver.leave();
  assert.deepEqual(kernels.called, ["gvisor leaves", "quark leaves", "leave false"]);
});
