import assert from "node:assert/strict";
import { Launcher } from "../../host/launcher.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";
import type { CloneOptions, MachinePlace } from "../hypervisor.ts";
import { Bench, leftIn, limit, probeSpec, qemuIn, USER } from "./testing/fixture.ts";
import type { QemuMachine } from "./machine.ts";
import { Probe } from "./testing/probe_guest.ts";

let bench: Bench;
const owned = new AsyncDisposableStack();

Deno.test.beforeAll(async () => {
  bench = owned.use(await Bench.make());
  for (const name of ["first", "second"]) {
    const path = `${bench.directory}/${name}.img`;
    await Deno.writeTextFile(path, `the ${name} image`);
    await Deno.truncate(path, 64 << 10);
  }
});
Deno.test.afterAll(() => owned.disposeAsync());

const PRIVATE: CloneOptions = { paused: false, memory: "private" };

/** A clone of the template; stopped at the end. */
async function clone(options: Partial<CloneOptions> = {}, place?: MachinePlace) {
  const saved = await bench.template();
  const where = place ?? await bench.place();
  const machine = await bench.qemu.clone(saved, where, { ...PRIVATE, ...options }, limit());
  return held(machine);
}

function held(machine: QemuMachine) {
  return { machine, [Symbol.asyncDispose]: () => machine.stop() };
}

function image(name: string) {
  return { path: `${bench.directory}/${name}.img`, serial: name, readonly: true };
}

/** Asks until an answer fits; the guest finds devices in its own time. */
async function askUntil(probe: Probe, line: string, expected: RegExp): Promise<string> {
  for (const end = Date.now() + 20_000;;) {
    const answer = await probe.ask(line);
    if (expected.test(answer)) return answer;
    assert.ok(Date.now() < end, `"${line}" is answered "${answer}", expected ${expected}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function run(command: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args }).output();
  const decoder = new TextDecoder();
  assert.ok(success, `${command}: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

/** A file server for a shared tree; ended at the end. */
async function serve(tree: string, socket: string) {
  const child = new Deno.Command("/usr/libexec/virtiofsd", {
    args: ["--shared-dir", tree, "--socket-path", socket, "--sandbox", "none"],
    stdout: "null",
    stderr: "null",
  }).spawn();
  while (!await Deno.lstat(socket).then(() => true, () => false)) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await Deno.chown(socket, USER.uid, USER.gid);
  const stop = async () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // It ends with its machine.
    }
    await child.status;
  };
  return { socket, [Symbol.asyncDispose]: stop };
}

function failsWith(code: string, message: RegExp) {
  return (thrown: unknown) => {
    assert.ok(thrown instanceof SandboxError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, message);
    return true;
  };
}

Deno.test("a machine boots, answers and switches itself off", async () => {
  const place = await bench.place();
  const machine = await bench.qemu.boot(probeSpec(bench.initrd), place, limit());
  await using _held = held(machine);
  using probe = await Probe.connect(machine.agentSocket);
  assert.equal(await probe.hear(), "ready");
  assert.match(await probe.ask("cat /proc/version"), /^Linux version/);
  await probe.tell("poweroff");
  assert.equal((await machine.exited).reason, "powerOff");
  await machine.stop();
  assert.deepEqual(await leftIn(place), []);
});

Deno.test("clones go on where the template stood, each with memory of its own", async () => {
  const template = await bench.template();
  const before = await Deno.stat(`${template.directory}/memory`);
  await using first = await clone();
  await using second = await clone();
  using one = await Probe.connect(first.machine.agentSocket);
  using other = await Probe.connect(second.machine.agentSocket);
  assert.equal(await one.ask("ping"), "pong 2");
  assert.equal(await one.ask("ping"), "pong 3");
  assert.equal(await other.ask("ping"), "pong 2");
  const after = await Deno.stat(`${template.directory}/memory`);
  assert.deepEqual([after.mtime, (after.mode ?? 0) & 0o222], [before.mtime, 0]);
});

Deno.test("a paused clone answers as soon as it is resumed", async () => {
  await using held = await clone({ paused: true });
  using probe = await Probe.connect(held.machine.agentSocket);
  await probe.tell("ping");
  const answer = probe.hear();
  const silent = new Promise((resolve) => setTimeout(() => resolve("silent"), 300));
  assert.equal(await Promise.race([answer, silent]), "silent");
  await held.machine.resume();
  assert.equal(await answer, "pong 2");
  await held.machine.resume();
  await held.machine.pause();
  await held.machine.resume();
  assert.equal(await probe.ask("ping"), "pong 3");
});

Deno.test("a clone with a copy of the memory leaves nothing of it", async () => {
  const place = await bench.place();
  await using held = await clone({ memory: "copy" }, place);
  using probe = await Probe.connect(held.machine.agentSocket);
  assert.equal(await probe.ask("ping"), "pong 2");
  const { blocks, size } = await Deno.stat(`${place.directory}/memory`);
  assert.ok((blocks ?? 0) * 512 < size, "the copy is as large as the guest's memory");
  await held.machine.stop();
  assert.deepEqual(await leftIn(place), []);
});

Deno.test("disks are put into slots and taken out while the guest runs", async () => {
  await using held = await clone();
  const { machine } = held;
  using probe = await Probe.connect(machine.agentSocket);
  assert.equal(await probe.ask("read vda 0"), "");
  assert.deepEqual(await machine.attachDisk(image("first"), limit()), { serial: "slot0" });
  assert.deepEqual(await machine.attachDisk(image("second"), limit()), { serial: "slot1" });
  assert.match(await probe.ask("disks"), /vda:slot0:33554432:1 /);
  assert.equal(await probe.ask("read vda 0"), "the first image");
  assert.equal(await probe.ask("read vdb 0"), "the second image");
  await machine.detachDisk("slot0");
  assert.equal(await probe.ask("read vda 0"), "");
  assert.deepEqual(await machine.attachDisk(image("second"), limit()), { serial: "slot0" });
  assert.equal(await probe.ask("read vda 0"), "the second image");
  await assert.rejects(machine.detachDisk("slot9"), failsWith("NotFound", /none of that serial/));
  await machine.detachDisk("slot0");
  await assert.rejects(
    machine.attachDisk(image("missing"), limit()),
    failsWith("FailedPrecondition", /missing\.img.*no such file/),
  );
  assert.deepEqual(await machine.attachDisk(image("first"), limit()), { serial: "slot0" });
});

Deno.test("a writable disk is plugged in, and so are those that find no slot", async () => {
  await using held = await clone();
  const { machine } = held;
  using probe = await Probe.connect(machine.agentSocket);
  const disk = { ...image("second"), path: `${bench.directory}/writable.img`, readonly: false };
  await Deno.writeFile(disk.path, new Uint8Array(64 << 10));
  await Deno.chmod(disk.path, 0o666);
  assert.deepEqual(await machine.attachDisk(disk, limit()), { serial: "second" });
  const answer = await askUntil(probe, "disks", /vd.:second:128:0 /);
  const name = /(vd.):second/.exec(answer)?.[1] ?? "";
  assert.equal(await probe.ask(`write ${name} 4096 hello`), "ok");
  assert.equal((await Deno.readTextFile(disk.path)).slice(4096, 4101), "hello");
  await assert.rejects(
    machine.save(bench.directory, { resume: true }),
    failsWith("FailedPrecondition", /"second" is writable/),
  );
  for (let index = 0; index < 3; index++) {
    await machine.attachDisk({ ...image("first"), serial: `d${index}` }, limit());
  }
  await assert.rejects(
    machine.attachDisk({ ...image("first"), serial: "more" }, limit()),
    failsWith("ResourceExhausted", /2 disk slots and 2 ports are in use/),
  );
  await askUntil(probe, "disks", /vd.:d2:128:1 /);
});

Deno.test("a VMM that is killed is a crash", async () => {
  const place = await bench.place();
  await using held = await clone({}, place);
  Deno.kill(held.machine.pid, "SIGKILL");
  const exit = await held.machine.exited;
  assert.equal(exit.reason, "crash");
  assert.match(exit.message, /SIGKILL/);
  assert.ok(Math.abs(exit.at - Date.now()) < 60_000);
  await assert.rejects(held.machine.pause(), failsWith("Unavailable", /"stop"/));
  await held.machine.stop();
  assert.deepEqual(await leftIn(place), []);
});

Deno.test("a guest whose kernel gives up is a panic", async () => {
  await using held = await clone();
  using probe = await Probe.connect(held.machine.agentSocket);
  await probe.tell("panic");
  const exit = await held.machine.exited;
  assert.deepEqual([exit.reason, exit.message], ["panic", "the guest's kernel panicked"]);
});

Deno.test("stop ends a machine that stands still, and may be called twice", async () => {
  await using held = await clone({ paused: true });
  await Promise.all([held.machine.stop(), held.machine.stop()]);
  assert.equal((await held.machine.exited).reason, "stopped");
});

Deno.test("a process takes over the machine of one that has ended", async () => {
  const template = await bench.template();
  const place = await bench.place();
  const script = new URL("./testing/clone_and_leave.ts", import.meta.url).pathname;
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", script, bench.directory, JSON.stringify(template), JSON.stringify(place)],
  }).output();
  const decoder = new TextDecoder();
  assert.ok(success, decoder.decode(stderr));
  const record: Json = JSON.parse(decoder.decode(stdout));
  const machine = await bench.qemu.adopt(record);
  assert.ok(machine !== undefined);
  await using _held = held(machine);
  assert.deepEqual(machine.record, record);
  using probe = await Probe.connect(machine.agentSocket);
  assert.equal(await probe.ask("ping"), "pong 2");
  // It knows which slot is in use.
  assert.deepEqual(await machine.attachDisk(image("second"), limit()), { serial: "slot1" });
  await machine.detachDisk("slot0");
  assert.deepEqual(await machine.attachDisk(image("second"), limit()), { serial: "slot0" });
  assert.equal(await probe.ask("read vda 0"), "the second image");
  await probe.tell("poweroff");
  assert.equal((await machine.exited).reason, "powerOff");
  assert.equal(await bench.qemu.adopt(record), undefined);
  assert.deepEqual(await leftIn(place), []);
});

Deno.test("a running clone is saved with memory and disks, goes on, and is cloned", async () => {
  const directory = await bench.subdirectory("saved");
  await using original = await clone();
  using probe = await Probe.connect(original.machine.agentSocket);
  await original.machine.attachDisk(image("first"), limit());
  assert.equal(await probe.ask("ping"), "pong 2");
  await original.machine.save(directory, { resume: true });
  assert.equal(await probe.ask("ping"), "pong 3");
  const { spec } = await bench.template();
  const fork = await bench.qemu.clone({ directory, spec }, await bench.place(), PRIVATE, limit());
  await using _held = held(fork);
  using other = await Probe.connect(fork.agentSocket);
  assert.equal(await other.ask("ping"), "pong 3");
  assert.equal(await other.ask("read vda 0"), "the first image");
  await Deno.remove(directory, { recursive: true });
});

Deno.test("a clone with a shared tree sees the host's files, and is saved and cloned itself", async () => {
  const tree = await bench.subdirectory("tree");
  await Deno.writeTextFile(`${tree}/file`, "from the host");
  const spec = probeSpec(bench.initrd, { sharedTree: true });
  const saved = await (async () => {
    await using server = await serve(tree, `${bench.directory}/fs0.sock`);
    return await bench.save("shared", spec, { sharedTreeSocket: server.socket });
  })();
  await assert.rejects(
    bench.qemu.clone(saved, await bench.place({ sharedTreeSocket: "/s" }), PRIVATE, limit()),
    failsWith("InvalidArgument", /needs memory that is shared/),
  );
  const copied: CloneOptions = { paused: false, memory: "copy" };
  const again = await bench.subdirectory("again");
  {
    await using server = await serve(tree, `${bench.directory}/fs1.sock`);
    const place = await bench.place({ sharedTreeSocket: server.socket });
    const machine = await bench.qemu.clone(saved, place, copied, limit());
    await using _held = held(machine);
    using probe = await Probe.connect(machine.agentSocket);
    assert.equal(await probe.ask("mount virtiofs share"), "ok");
    assert.equal(await probe.ask("cat /mnt/file"), "from the host");
    await machine.save(again, { resume: true });
    assert.equal(await probe.ask("cat /mnt/file"), "from the host");
  }
  await using server = await serve(tree, `${bench.directory}/fs2.sock`);
  const place = await bench.place({ sharedTreeSocket: server.socket });
  const machine = await bench.qemu.clone({ directory: again, spec }, place, copied, limit());
  await using _held = held(machine);
  using probe = await Probe.connect(machine.agentSocket);
  // It was mounted when it was saved.
  assert.equal(await probe.ask("cat /mnt/file"), "from the host");
});

Deno.test("a q35 grows within what it was made for", async () => {
  const spec = probeSpec(bench.initrd, {
    machine: "q35",
    cpusMax: 2,
    memoryMaxBytes: 384 << 20,
    console: true,
    network: "tap",
    interfaces: 1,
  });
  const place = await bench.place();
  const machine = await bench.qemu.boot(spec, place, limit());
  await using _held = held(machine);
  // Its tap is in a network namespace of its own.
  assert.deepEqual(machine.taps, ["tap0"]);
  assert.match(await run("nsenter", "-t", `${machine.pid}`, "-n", "ip", "link"), /: tap0: /);
  assert.doesNotMatch(await run("ip", "link"), /: tap0: /);
  using probe = await Probe.connect(machine.agentSocket);
  await probe.hear();
  assert.equal(await probe.ask("cat /sys/devices/system/cpu/online"), "0");
  await assert.rejects(
    machine.grow?.({ cpus: 3, memoryBytes: 0 }) ?? Promise.resolve(),
    failsWith("ResourceExhausted", /3 CPUs.*2 at most/),
  );
  await assert.rejects(
    machine.grow?.({ cpus: 1, memoryBytes: 1 << 30 }) ?? Promise.resolve(),
    failsWith("ResourceExhausted", /402653184 at most/),
  );
  await probe.ask("set /sys/devices/system/memory/auto_online_blocks online");
  await machine.grow?.({ cpus: 2, memoryBytes: 200 << 20 });
  await machine.grow?.({ cpus: 2, memoryBytes: 200 << 20 });
  assert.equal(await probe.ask("set /sys/devices/system/cpu/cpu1/online 1"), "ok");
  assert.equal(await probe.ask("cat /sys/devices/system/cpu/online"), "0-1");
  await askUntil(probe, "cat /proc/meminfo", /MemTotal: +1\d{5} kB/);
  await machine.stop();
  assert.match(await Deno.readTextFile(`${place.directory}/console.log`), /Linux version/);
});

Deno.test("what cannot start says why and leaves nothing", async (t) => {
  const spec = probeSpec(bench.initrd);
  const missing = `${bench.directory}/missing`;
  const cases = [
    ["a missing kernel", {}, { kernel: missing }, /kernel ".*missing": not found.*\(hypervisor\./],
    ["a missing initrd", {}, { initrd: missing }, /initrd ".*missing": not found.*\(hypervisor\./],
    [
      "a kernel that is none",
      {},
      { kernel: bench.initrd },
      /not a 64-bit.*hypervisor\.kernel_path/,
    ],
    ["a CPU that there is not", {}, { cpuModel: "z80" }, /unable to find CPU model 'z80'/],
    ["a missing QEMU", { program: "/usr/bin/qemu-system-z80" }, {}, /package qemu-system-x86/],
    ["a QEMU that is none", { program: "/bin/true" }, {}, /QEMU did not start/],
    ["a QEMU that is silent", { program: "/bin/sleep" }, {}, /did not start/],
  ] as const;
  for (const [name, options, changes, message] of cases) {
    await t.step(name, async () => {
      const place = await bench.place();
      const qemu = qemuIn(bench.directory, { ...options });
      await assert.rejects(
        qemu.boot({ ...spec, ...changes }, place, limit()),
        failsWith("FailedPrecondition", message),
      );
      assert.deepEqual(await leftIn(place), []);
    });
  }
});

Deno.test("a boot that is given up leaves no process", async () => {
  const place = await bench.place();
  const controller = new AbortController();
  const booting = bench.qemu.boot(probeSpec(bench.initrd), place, controller.signal);
  setTimeout(() => controller.abort(), 40);
  await assert.rejects(booting, failsWith("Cancelled", /cannot boot machine/));
  assert.deepEqual(await leftIn(place), []);
  const { stdout } = await new Deno.Command("pgrep", {
    args: ["-f", `guest=${place.id},.*${bench.directory}`],
  }).output();
  assert.equal(new TextDecoder().decode(stdout), "");
});

Deno.test("a damaged saved machine is refused with a reason", async (t) => {
  const template = await bench.template();
  const damaged = await bench.subdirectory("damaged");
  const copy = async () => {
    for (const name of ["memory", "state", "machine.json"]) {
      await Deno.remove(`${damaged}/${name}`).catch(() => undefined);
      await Deno.copyFile(`${template.directory}/${name}`, `${damaged}/${name}`);
      await Deno.chmod(`${damaged}/${name}`, 0o644);
    }
  };
  const cases: readonly [string, RegExp, () => Promise<void>][] = [
    ["no manifest", /machine\.json/, () => Deno.remove(`${damaged}/machine.json`)],
    [
      "a manifest of nonsense",
      /cannot use/,
      () => Deno.writeTextFile(`${damaged}/machine.json`, "x"),
    ],
    ["memory that is too short", /memory has 4096/, () => Deno.truncate(`${damaged}/memory`, 4096)],
    ["an empty state", /state is empty/, () => Deno.truncate(`${damaged}/state`, 0)],
    ["half of a state", /QEMU did not start/, () => Deno.truncate(`${damaged}/state`, 20_000)],
    [
      "a state of nonsense",
      /Not a migration stream/,
      () => Deno.writeTextFile(`${damaged}/state`, "nonsense"),
    ],
  ];
  for (const [name, message, damage] of cases) {
    await t.step(name, async () => {
      await copy();
      await damage();
      const place = await bench.place();
      const saved = { directory: damaged, spec: template.spec };
      await assert.rejects(
        bench.qemu.clone(saved, place, PRIVATE, limit()),
        failsWith("FailedPrecondition", message),
      );
      assert.deepEqual(await leftIn(place), []);
    });
  }
  await t.step("one that was made of something else", async () => {
    const spec = { ...template.spec, diskSlots: 3 };
    await assert.rejects(
      bench.qemu.clone({ ...template, spec }, await bench.place(), PRIVATE, limit()),
      failsWith("FailedPrecondition", /made of something else/),
    );
  });
});

Deno.test("a VMM runs as its own user, without rights and without a network", async () => {
  await using held = await clone();
  const status = await Deno.readTextFile(`/proc/${held.machine.pid}/status`);
  assert.match(status, /^Uid:\t1879048193\t1879048193\t/m);
  assert.match(status, /^CapEff:\t0+$/m);
  assert.match(status, /^NoNewPrivs:\t1$/m);
  assert.match(status, /^Seccomp:\t2$/m);
  const own = await Deno.readLink("/proc/self/ns/net");
  assert.notEqual(await Deno.readLink(`/proc/${held.machine.pid}/ns/net`), own);
  assert.equal(await new Launcher().alive({ pid: held.machine.pid, startTime: 1 }), false);
});
