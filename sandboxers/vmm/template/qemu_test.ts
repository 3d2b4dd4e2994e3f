import assert from "node:assert/strict";
import { AgentClient } from "../../../guest/client/agent_client.ts";
import { DEFAULT_INITRD, DEFAULT_KERNEL } from "../../../guest/image/paths.ts";
import { Launcher } from "../../host/launcher.ts";
import { noLog } from "../../log.ts";
import type { Machine, MachineSpec } from "../hypervisor.ts";
import { MachinePlaces } from "../places.ts";
import { Qemu } from "../qemu/qemu.ts";
import { MachineLedger } from "./ledger.ts";
import { Pool } from "./pool.ts";
import { Templates } from "./templates.ts";
import { eventually, NEVER } from "./testing/fixture.ts";

/** How long a guest may take to answer on a busy machine, in milliseconds. */
const ANSWER_MS = 60_000;

/** The first user of the VMMs of this test. */
const FIRST_USER = 1_879_100_000;

const SPEC: MachineSpec = {
  machine: "microvm",
  machineOptions: "",
  accelerator: "tcg",
  cpuModel: "",
  cpus: 1,
  cpusMax: 1,
  memoryBytes: 128 << 20,
  memoryMaxBytes: 128 << 20,
  hugepages: false,
  kernel: DEFAULT_KERNEL,
  initrd: DEFAULT_INITRD,
  kernelParams: "",
  entropySource: "/dev/urandom",
  network: "none",
  interfaces: 0,
  diskSlots: 1,
  sharedTree: false,
  console: false,
};

function connect(path: string): Promise<Deno.UnixConn> {
  return Deno.connect({ transport: "unix", path });
}

/** Connects to the agent of a machine. */
function agentOf({ agentSocket }: Machine, signal: AbortSignal = NEVER): Promise<AgentClient> {
  return AgentClient.connect({ path: agentSocket, timeoutMs: ANSWER_MS, signal, connect });
}

/** One life of a sandboxer with real machines. */
async function life(directory: string) {
  const launcher = new Launcher();
  const tscKhz = await launcher.tscKhz();
  const hypervisor = new Qemu({
    program: "/usr/bin/qemu-system-x86_64",
    launcher,
    connect,
    directory,
    tscKhz: () => Promise.resolve(tscKhz),
  });
  const places = new MachinePlaces({ directory: `${directory}/m`, firstUser: FIRST_USER });
  const ledger = new MachineLedger(`${directory}/ledger`, noLog);
  const parts = { hypervisor, places, ledger, log: noLog };
  const templates = new Templates({
    ...parts,
    agent: agentOf,
    directory: `${directory}/templates`,
    host: { hypervisor: await hypervisor.version(), bootId: "test", tscKhz: 0 },
    countMax: 2,
  });
  return { ...parts, templates, pool: new Pool({ ...parts, saved: templates, size: 1 }) };
}

Deno.test("a machine is booted once, its clones answer, and what is left behind is found", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-template-" });
  await Deno.chmod(directory, 0o711);
  try {
    const first = await life(directory);
    const saved = await first.templates.get(SPEC, NEVER);
    assert.ok(saved, "a template is made");
    first.pool.want(SPEC);
    await eventually(() => first.pool.count === 1, ANSWER_MS);
    // It is as if this one was killed now: nothing of it is ended.
    first.pool.hold();

    const second = await life(directory);
    await second.ledger.recover(second.hypervisor, new Set(), (place) => second.places.free(place));
    assert.deepEqual(await Array.fromAsync(Deno.readDir(`${directory}/m`)), []);
    const found = await second.templates.get(SPEC, NEVER);
    assert.equal(found?.directory, saved.directory, "the template is found again");
    second.pool.want(SPEC);
    await eventually(() => second.pool.count === 1, ANSWER_MS);
    const taken = second.pool.take(SPEC);
    assert.ok(taken);
    await taken.machine.resume(NEVER);
    {
      using agent = await agentOf(taken.machine);
      assert.match(agent.hello.kernel, /^\d+\.\d+/);
    }
    await taken.machine.stop();
    await second.places.free(taken.place);
    await second.pool.close();
    await second.templates.close();
    await first.pool.close();
    assert.deepEqual(await Array.fromAsync(Deno.readDir(`${directory}/m`)), []);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
