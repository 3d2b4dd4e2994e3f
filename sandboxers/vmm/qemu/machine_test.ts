import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import { noLog } from "../../log.ts";
import { QemuMachine } from "./machine.ts";
import { QmpClient } from "./qmp.ts";
import type { QmpEvent } from "./qmp_events.ts";
import type { MachineRecord } from "./record.ts";
import { FakeQemu, GREETING } from "./testing/fake_qemu.ts";
import type { VmmProcess } from "./vmm_launcher.ts";

/** A machine whose QEMU and process are played by the test. */
async function play(changes: Partial<MachineRecord["spec"]> = {}) {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-qemu-machine-" });
  const qemu = new FakeQemu();
  qemu.say(GREETING);
  const ended = Promise.withResolvers<string>();
  const process: VmmProcess & { killed: boolean } = {
    identity: { pid: 4711, startTime: 1 },
    killed: false,
    waitForEnd: () => Promise.race([ended.promise, after(100)]),
    kill: () => {
      process.killed = true;
      ended.resolve("it was killed by SIGKILL");
      qemu.end();
      return Promise.resolve();
    },
  };
  const known: MachineRecord = {
    process: process.identity,
    spec: {
      machine: "microvm",
      machineOptions: "",
      accelerator: "kvm",
      cpuModel: "",
      cpus: 1,
      cpusMax: 1,
      memoryBytes: 1 << 27,
      memoryMaxBytes: 1 << 27,
      hugepages: false,
      kernel: "/k",
      initrd: "/i",
      kernelParams: "",
      entropySource: "",
      network: "tap",
      interfaces: 2,
      diskSlots: 1,
      sharedTree: false,
      console: false,
      ...changes,
    },
    place: { id: "m", directory, user: undefined, cgroup: "", sharedTreeSocket: undefined },
    memory: undefined,
    balloon: false,
  };
  const made: { machine?: QemuMachine } = {};
  const onEvent = (event: QmpEvent) => made.machine?.handle(event);
  const qmp = await QmpClient.open(qemu.connection, { onEvent });
  const version = () => Promise.resolve("1");
  const machine = new QemuMachine({ known, version, process, qmp, plugged: [], log: noLog });
  made.machine = machine;
  return {
    machine,
    qemu,
    process,
    directory,
    /** QEMU ends by itself. */
    end: (how: string) => {
      ended.resolve(how);
      qemu.end();
    },
    /** Answers some commands with something else than nothing. */
    answer: (answers: Readonly<Record<string, unknown>>) => {
      qemu.answers = (command, id) => {
        const answer = answers[command];
        return answer instanceof Error
          ? JSON.stringify({ error: { class: "GenericError", desc: answer.message }, id }) + "\n"
          : JSON.stringify({ return: answer ?? {}, id }) + "\n";
      };
    },
    [Symbol.asyncDispose]: async () => {
      ended.resolve("it ended");
      qmp.close();
      await machine.exited;
      await Deno.remove(directory, { recursive: true });
    },
  };
}

function after(ms: number): Promise<undefined> {
  return new Promise((resolve) => setTimeout(() => resolve(undefined), ms));
}

function event(name: string, data: unknown = {}): string {
  return JSON.stringify({ event: name, data }) + "\n";
}

function failsWith(code: string, message: RegExp) {
  return (thrown: unknown) => {
    assert.ok(thrown instanceof SandboxError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, message);
    return true;
  };
}

const IMAGE = { path: "/proc/self/exe", serial: "x", readonly: true };

Deno.test("a machine says where its agent and its taps are", async () => {
  await using it = await play();
  assert.equal(it.machine.agentSocket, `${it.directory}/agent.sock`);
  assert.deepEqual(it.machine.taps, ["tap0", "tap1"]);
  assert.equal(it.machine.pid, 4711);
  assert.equal(it.machine.grow, undefined);
});

Deno.test("an accelerator that fails is a crash, and the VMM is killed", async () => {
  await using it = await play();
  it.answer({ "query-status": { status: "internal-error", running: false } });
  it.qemu.say(event("STOP"));
  const exit = await it.machine.exited;
  assert.equal(exit.reason, "crash");
  assert.match(exit.message, /accelerator failed/);
  assert.ok(it.process.killed);
});

Deno.test("a pause that was asked for is no reason to look", async () => {
  await using it = await play();
  const pausing = it.machine.pause();
  it.qemu.say(event("STOP"));
  await pausing;
  await it.machine.resume();
  assert.deepEqual(it.qemu.heard, ["qmp_capabilities", "stop", "cont"]);
});

Deno.test("how a machine ends is told by what QEMU said before", async (t) => {
  const cases: readonly [string, string, string, RegExp][] = [
    [event("SHUTDOWN", { reason: "guest-shutdown" }), "powerOff", "code 0", /switched itself off/],
    [
      event("SHUTDOWN", { reason: "guest-reset" }),
      "panic",
      "code 0",
      /restarted, as after a panic/,
    ],
    [event("GUEST_PANICKED"), "panic", "code 0", /kernel panicked/],
    [event("SHUTDOWN", { reason: "guest-panic" }), "panic", "code 0", /kernel panicked/],
    [event("SHUTDOWN", { reason: "host-signal" }), "crash", "code 0", /by a signal/],
    [event("SHUTDOWN", { reason: "host-qmp-quit" }), "stopped", "code 0", /code 0/],
    ["", "crash", "killed by SIGSEGV", /QEMU died: killed by SIGSEGV; QEMU said: the last word/],
  ];
  for (const [said, reason, how, message] of cases) {
    await t.step(`${said.slice(0, 60)}${how}`, async () => {
      await using it = await play();
      await Deno.writeTextFile(`${it.directory}/vmm.log`, "the last word\n");
      it.qemu.say(said);
      it.end(how);
      const exit = await it.machine.exited;
      assert.equal(exit.reason, reason);
      assert.match(exit.message, message);
    });
  }
});

Deno.test("a VMM that talks nonsense is ended", async () => {
  await using it = await play();
  it.qemu.say("GET / HTTP/1.1\n");
  const exit = await it.machine.exited;
  assert.equal(exit.reason, "crash");
  assert.match(exit.message, /not QMP: "GET/);
  assert.ok(it.process.killed);
});

Deno.test("a VMM that does not end when it is told to is killed", async () => {
  await using it = await play();
  await it.machine.stop();
  assert.ok(it.process.killed);
  assert.equal((await it.machine.exited).reason, "stopped");
  assert.ok(it.qemu.heard.includes("quit"));
});

Deno.test("a released machine is neither ended nor watched", async () => {
  const it = await play();
  it.machine.release();
  await it.machine.stop();
  const exit = await Promise.race([it.machine.exited, after(150)]);
  assert.equal(exit, undefined);
  assert.ok(!it.process.killed);
  await Deno.remove(it.directory, { recursive: true });
});

Deno.test("a slot stays free when its image cannot be put there", async () => {
  await using it = await play();
  it.answer({ "blockdev-reopen": new Error("no") });
  const signal = AbortSignal.timeout(5_000);
  await assert.rejects(it.machine.attachDisk(IMAGE, signal), failsWith("Internal", /: no$/));
  assert.deepEqual(it.qemu.heard.slice(1), ["blockdev-add", "blockdev-reopen", "blockdev-del"]);
  it.answer({});
  assert.deepEqual(await it.machine.attachDisk(IMAGE, signal), { serial: "slot0" });
  await assert.rejects(
    it.machine.attachDisk(IMAGE, AbortSignal.abort()),
    failsWith("Cancelled", /cannot attach disk/),
  );
});

Deno.test("a disk that the guest does not let go stays, and can be tried again", async () => {
  await using it = await play();
  const signal = AbortSignal.timeout(5_000);
  const disk = { ...IMAGE, readonly: false };
  assert.deepEqual(await it.machine.attachDisk(disk, signal), { serial: "x" });
  await assert.rejects(it.machine.attachDisk(disk, signal), failsWith("AlreadyExists", /"x"/));
  const bad = { ...disk, serial: "a,b" };
  await assert.rejects(it.machine.attachDisk(bad, signal), failsWith("InvalidArgument", /a,b/));
  const detaching = it.machine.detachDisk("x");
  const refused = assert.rejects(detaching, failsWith("FailedPrecondition", /did not let/));
  while (!it.qemu.heard.includes("device_del")) await after(1);
  it.qemu.say(event("DEVICE_UNPLUG_GUEST_ERROR", { device: "disk0-x", path: "/x" }));
  await refused;
  const again = it.machine.detachDisk("x");
  while (it.qemu.heard.filter((command) => command === "device_del").length < 2) await after(1);
  it.qemu.say(event("DEVICE_DELETED", { device: "disk0-x", path: "/x" }));
  await again;
  await assert.rejects(it.machine.detachDisk("x"), failsWith("NotFound", /"x"/));
});

Deno.test("a machine that ends while a disk leaves is not waited for", async () => {
  await using it = await play();
  await it.machine.attachDisk({ ...IMAGE, readonly: false }, AbortSignal.timeout(5_000));
  const detaching = it.machine.detachDisk("x");
  const refused = assert.rejects(detaching, failsWith("Unavailable", /cannot detach disk "x"/));
  while (!it.qemu.heard.includes("device_del")) await after(1);
  it.end("code 1");
  await refused;
});

Deno.test("a save that fails leaves nothing, and the machine goes on", async () => {
  await using it = await play();
  it.answer({ "query-migrate": { status: "failed", "error-desc": "no room" } });
  const directory = `${it.directory}/saved`;
  await Deno.mkdir(directory);
  for (const resume of [true, false]) {
    await assert.rejects(
      it.machine.save(directory, { resume }),
      failsWith("Internal", /cannot save machine "m" to ".*saved": QEMU says: no room/),
    );
    assert.deepEqual(await Array.fromAsync(Deno.readDir(directory)), []);
    assert.equal(it.qemu.heard.at(-1), "cont");
  }
  assert.ok(!it.process.killed);
});

Deno.test("memory beyond the maximum is refused before anything is plugged in", async () => {
  await using it = await play({ machine: "q35", memoryMaxBytes: 1 << 28 });
  it.answer({ "query-memory-devices": [] });
  const tooMuch = it.machine.grow?.({ cpus: 1, memoryBytes: 1 << 29 }) ?? Promise.resolve();
  await assert.rejects(tooMuch, failsWith("ResourceExhausted", /268435456 at most/));
  await it.machine.grow?.({ cpus: 1, memoryBytes: (1 << 27) + 1 });
  await it.machine.grow?.({ cpus: 1, memoryBytes: 1 << 20 });
  assert.deepEqual(it.qemu.heard.slice(1), ["query-memory-devices", "object-add", "device_add"]);
});
