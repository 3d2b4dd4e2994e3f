import assert from "node:assert/strict";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import type { CreateContainerArgs, VolumeEntry } from "../protocol/messages.ts";
import {
  configOf,
  fileEntry,
  makeImage,
  setupArgs,
  type TestContainer,
  TestGuest,
} from "./guest_test_support.ts";

/** Waits until something holds. */
async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 30_000; !(await holds());) {
    assert.ok(Date.now() < end, `not so within 30 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function refuses(code: string, message: RegExp) {
  return (thrown: unknown) => {
    assert.ok(thrown instanceof SandboxError, String(thrown));
    assert.match(thrown.message, message);
    assert.equal(thrown.code, code);
    return true;
  };
}

const SLEEP = ["sleep", "1000"];

/** What containers say, without what is another in each. */
function comparable(text: string): string {
  return text.replace(/\b\d\d:\d\d(:\d\d)?\b/g, "TIME").replace(/\b0:\d+ /g, "DEVICE ")
    .replace(/\/c\d+\b/g, "/ID").replace(/pipe:\[\d+\]/g, "pipe")
    .replace("/crun/.empty-directory", "/cover");
}

Deno.test("the agent runs the containers of a pod in a guest", async (t) => {
  await using guest = await TestGuest.boot();
  const { client } = guest;
  const image = `${guest.directory}/image`;
  await makeImage(`${image}1`, "first");
  await makeImage(`${image}2`, "second");
  let rootfs: CreateContainerArgs["rootfs"] = {
    kind: "disk",
    serial: await guest.attach(`${image}1`, "image1"),
    fsType: "erofs",
  };
  /** A container that runs. */
  const started = async (
    args: readonly string[],
    changes: Parameters<typeof configOf>[1] = {},
    more: Partial<CreateContainerArgs> = {},
  ): Promise<TestContainer> => {
    const container = await guest.create({ config: configOf(args, changes), rootfs, ...more });
    await guest.start(container);
    return container;
  };

  /** A step that leaves no container to the next one, whatever happens. */
  const step = (name: string, action: () => Promise<void>) =>
    t.step(name, async () => {
      try {
        await action();
      } finally {
        const { containers } = await client.request("inventory", {});
        for (const { container } of containers) {
          await client.request("deleteContainer", { container });
        }
      }
    });

  assert.deepEqual(client.hello.warnings, []);
  // As in a clone of a template: something is made for the first container already.
  await client.request("quiesce", {});
  const before = await guest.state();

  await step("a rehearsal leaves nothing in the guest", async () => {
    await client.request("rehearse", { container: false });
    await client.request("rehearse", { container: true });
    assert.deepEqual(await guest.state(), before);
  });

  await step("setup makes the guest one pod's own, once", async () => {
    await assert.rejects(
      client.request("setup", setupArgs({ sysctls: { "net.no_such": "1" } })),
      refuses("NotFound", /cannot set net.no_such to "1": ENOENT/),
    );
    const args = setupArgs();
    await client.request("setup", args);
    await assert.rejects(client.request("setup", args), refuses("FailedPrecondition", /is set up/));
    const mounts = [
      { kind: "podFile", file: "hosts", destination: "/etc/hosts", readonly: false },
      { kind: "podFile", file: "resolvConf", destination: "/etc/resolv.conf", readonly: true },
      { kind: "shm", destination: "/dev/shm", readonly: false },
    ] as const;
    const container = await started(SLEEP, {}, { mounts });
    const script = "hostname; cat /etc/hosts /etc/resolv.conf; date +%s; ip addr; ip route; " +
      "ip neigh; df /dev/shm; cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    const { output } = await guest.run(container, ["sh", "-c", script]);
    assert.ok(output.startsWith(`pod1\n${args.files.hosts}${args.files.resolvConf}`), output);
    const seconds = Number(/^(\d{10})$/m.exec(output)?.[1]);
    assert.ok(Math.abs(seconds - Date.now() / 1000) < 60, output);
    assert.match(output, /eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1400/);
    assert.match(output, /link\/ether 02:00:00:00:00:07/);
    assert.match(output, /inet 10.0.2.15\/24 brd 10.0.2.255 scope global eth0/);
    assert.match(output, /inet6 fd00::15\/64 scope global flags 02/);
    assert.match(output, /default via 10.0.2.2 dev eth0/);
    assert.match(output, /10.0.2.9 dev eth0 lladdr 02:00:00:00:00:09/);
    assert.match(output, /shm +8192 /);
    assert.match(output, /^0$/m);
    await guest.delete(container);
  });

  await step("streams, exit statuses and signals are those of the processes", async () => {
    const container = await guest.create({
      config: configOf(["sh", "-c", "cat; echo problem >&2; cat /etc/image; exit 7"]),
      rootfs,
    }, { stdin: true });
    const inventory = await client.request("inventory", {});
    assert.deepEqual(inventory.containers, [{
      container: container.id,
      state: "created",
      processes: [{ exec: "", pid: container.pid, stdio: container.stdio }],
    }]);
    await guest.start(container);
    const inside = await guest.run(container, ["sh", "-c", "cat; echo x >&2; exit 5"], {}, {
      input: "typed\n",
    });
    assert.deepEqual([inside.exit.status, inside.output, inside.errorOutput], [
      5,
      "typed\n",
      "x\n",
    ]);
    const killed = await guest.run(container, ["sh", "-c", "kill -9 $$"]);
    assert.deepEqual([killed.exit.status, killed.exit.signaled], [137, true]);
    container.write("hello\n");
    container.end();
    const { exit, output, errorOutput } = await guest.finished(container);
    assert.deepEqual([exit.status, exit.signaled, exit.oom], [7, false, false]);
    assert.deepEqual([output, errorOutput], ["hello\nfirst\n", "problem\n"]);
    assert.equal((await client.request("inventory", {})).containers[0]?.state, "stopped");
    await guest.delete(container);
  });

  await step("processes see what a container shows them", async () => {
    const seccomp = {
      defaultAction: "SCMP_ACT_ALLOW",
      architectures: ["SCMP_ARCH_X86_64"],
      syscalls: [{ names: ["chmod", "fchmodat"], action: "SCMP_ACT_ERRNO", errnoRet: 1 }],
    };
    const container = await started(SLEEP, { linux: { seccomp } });
    const script = "id; grep -E '^(Cap(Prm|Bnd|Amb)|NoNewPrivs|Seccomp:)' /proc/self/status; " +
      "pwd; echo $HOME; chmod 700 /tmp; touch /etc/new && ls /etc/new; readlink /var/run; " +
      "ps | grep -c 'slee[p] 1000'; cat /proc/self/cgroup; umask; cat /proc/self/oom_score_adj";
    const process = {
      user: { uid: 1000, gid: 1001, additionalGids: [5], umask: 0o027 },
      cwd: "/tmp",
      oomScoreAdj: 17,
      rlimits: [{ type: "RLIMIT_NOFILE", soft: 77, hard: 88 }],
      capabilities: { bounding: ["CAP_KILL"], effective: [], permitted: [] },
    };
    const { output, errorOutput } = await guest.run(
      container,
      ["sh", "-c", `${script}; ulimit -n`],
      process,
    );
    // Once more with the runtime, which takes a process over that wants something rare.
    const byCrun = await guest.run(container, ["sh", "-c", `${script}; ulimit -n`], {
      ...process,
      ioPriority: { class: "IOPRIO_CLASS_BE", priority: 4 },
    });
    assert.match(output, /^uid=1000 gid=1001 groups=5\b/);
    assert.match(
      output,
      /CapPrm:\t0{16}\nCapBnd:\t0{14}20\nCapAmb:\t0{16}\nNoNewPrivs:\t1\nSeccomp:\t2/,
    );
    assert.match(output, /\n\/tmp\n\/\n\/run\n1\n0::\/\n0027\n17\n77\n$/);
    assert.match(errorOutput, /chmod: \/tmp: Operation not permitted/);
    assert.match(errorOutput, /touch: \/etc\/new: Permission denied/);
    assert.equal(byCrun.errorOutput, errorOutput);
    // crun leaves the readiness to be killed for want of memory as it is.
    assert.equal(byCrun.output.replace("\n0\n77", "\n17\n77"), output);
    await guest.delete(container);
  });

  await step("a container is the same, whether the agent makes it or crun", async () => {
    const script =
      "awk '{ $1=$2=$3=\"\"; print }' /proc/self/mountinfo; ls -lan /dev /proc/self/fd; " +
      "grep -E '^(Cap|NoNewPrivs|Seccomp|Groups|Uid|Gid|Umask|NS)' /proc/self/status; ulimit -a; " +
      "env; pwd; cat /proc/self/cgroup /proc/self/oom_score_adj; cd /sys/fs/cgroup; " +
      "cat memory.max memory.swap.max cpu.weight cpu.max pids.max; readlink /dev/fd; " +
      "mknod /dev/disk b 254 0; cat /dev/disk; cat /dev/null /proc/timer_list; ls /proc/scsi; " +
      "touch /sys/x /proc/sys/x /config/x; head -c 4 /dev/zero | wc -c; cat /etc/f; id; ps";
    const sync = (volume: string, entries: readonly VolumeEntry[]) =>
      client.request("volumeSync", { volume, entries });
    await sync("same", [fileEntry("file", "content\n")]);
    const outputs: string[] = [];
    const process = { cwd: "/not/there/yet", oomScoreAdj: 5 };
    const linux = {
      maskedPaths: ["/proc/timer_list", "/proc/scsi", "/proc/no-such", "/proc/acpi"],
      readonlyPaths: ["/proc/sys", "/proc/bus", "/proc/nothing"],
      devices: [{ path: "/dev/kmsg", type: "c", major: 1, minor: 11, fileMode: 0o640, gid: 7 }],
      resources: {
        devices: [
          { allow: false, access: "rwm" },
          { allow: true, type: "c", major: 1, minor: 11, access: "r" },
        ],
        memory: { limit: 32 << 20, swap: 32 << 20 },
        cpu: { shares: 512, quota: 50_000, period: 100_000 },
        pids: { limit: 60 },
      },
    };
    for (const readonly of [false, true]) {
      // What wants something rare is made by crun.
      for (const rare of [{}, { ioPriority: { class: "IOPRIO_CLASS_BE", priority: 4 } }]) {
        const changes = { readonly, linux, process: { ...process, ...rare } };
        const container = await started(["sh", "-c", script], changes, {
          mounts: [
            { kind: "volume", volume: "same", path: "", destination: "/config", readonly: true },
            {
              kind: "volume",
              volume: "same",
              path: "file",
              destination: "/etc/f",
              readonly: false,
            },
            { kind: "memory", name: "same", destination: "/var/run/deep/in", readonly: false },
            { kind: "shm", destination: "/dev/shm", readonly: false },
          ],
        });
        const { output, errorOutput } = await guest.finished(container);
        assert.match(output, /content/);
        assert.match(errorOutput, /cat: can't open '\/dev\/disk': Operation not permitted/);
        outputs.push(comparable(`${output}${errorOutput}`));
        await guest.delete(container);
      }
    }
    assert.equal(outputs[0], outputs[1]);
    assert.equal(outputs[2], outputs[3]);
    assert.notEqual(outputs[0], outputs[2]);
    // It says so where it could not make one.
    assert.equal(guest.count("log"), 0);
  });

  await step("what cannot be started is refused in words that people know", async () => {
    const create = (args: readonly string[]) => guest.create({ config: configOf(args), rootfs });
    await assert.rejects(
      create(["nosuch"]),
      refuses("InvalidArgument", /exec: "nosuch": executable file not found in \$PATH/),
    );
    await assert.rejects(
      create(["/etc"]),
      refuses("InvalidArgument", /exec: "\/etc": permission denied/),
    );
    const container = await started(SLEEP);
    const exec = (args: readonly string[], process = {}) => guest.run(container, args, process);
    for (const rare of [{}, { ioPriority: { class: "IOPRIO_CLASS_BE", priority: 4 } }]) {
      await assert.rejects(
        exec(["nosuch"], rare),
        refuses("InvalidArgument", /exec: "nosuch": executable file not found in \$PATH/),
      );
      await assert.rejects(
        exec(["/no/such"], rare),
        refuses(
          "InvalidArgument",
          /exec: "\/no\/such": stat \/no\/such: no such file or directory/,
        ),
      );
      await assert.rejects(
        exec(["/bin/plain"], rare),
        refuses("InvalidArgument", /exec: "\/bin\/plain": permission denied/),
      );
      await assert.rejects(
        exec(["true"], { ...rare, cwd: "/no/such" }),
        refuses("InvalidArgument", /chdir to cwd \("\/no\/such"\).*no such file or directory/),
      );
    }
    await guest.delete(container);
    assert.deepEqual((await client.request("inventory", {})).containers, []);
    await assert.rejects(exec(["true"]), refuses("NotFound", /cannot find the container/));
    const wrong = {
      kind: "disk",
      serial: rootfs.kind === "disk" ? rootfs.serial : "",
      fsType: "ext4",
    };
    await assert.rejects(
      guest.create({ config: configOf(SLEEP), rootfs: wrong as typeof rootfs }),
      refuses("FailedPrecondition", /does not hold the file system ext4/),
    );
  });

  await step("a terminal has its size, and follows changes", async () => {
    const container = await guest.create({ config: configOf(["sh"]), rootfs }, {
      stdin: true,
      terminal: { columns: 100, rows: 33 },
    });
    await guest.start(container);
    container.write("tty; while stty size | grep '33 100'; do :; done; stty size; exit 3\n");
    await client.request("resize", { container: container.id, exec: "", columns: 120, rows: 40 });
    const { exit, output } = await guest.finished(container);
    assert.equal(exit.status, 3);
    assert.match(output, /\/dev\/pts\/0\r\n/);
    assert.match(output, /40 120\r\n$/);
    await guest.delete(container);
    const sleeper = await started(SLEEP);
    const inside = await guest.run(sleeper, ["sh", "-c", "tty; stty size"], {}, {
      terminal: { columns: 90, rows: 20 },
    });
    assert.equal(inside.output, "/dev/pts/0\r\n20 90\r\n");
    await guest.delete(sleeper);
  });

  await step("a child killed for want of memory is told once, and at the exit", async () => {
    const script = "dd if=/dev/zero of=/dev/null bs=60M count=1; echo $?; exit 4";
    const container = await started(["sh", "-c", script]);
    const { exit, output } = await guest.finished(container);
    assert.deepEqual([exit.status, exit.oom, exit.signaled, output], [4, true, false, "137\n"]);
    await guest.event((event) =>
      event.kind === "oom" && event.container === container.id ? event : undefined
    );
    assert.equal(guest.count("oom"), 1);
    await guest.delete(container);
  });

  await step("a container stands still, goes on, and gets other limits", async () => {
    const container = await started(
      ["sh", "-c", "trap 'exit 9' TERM; while true; do date +%s%N > /tmp/now; sleep 0.02; done"],
    );
    const usage = async () => {
      const { containers } = await client.request("usage", {});
      const [mine] = containers;
      assert.equal(mine?.container, container.id);
      return mine;
    };
    await client.request("pause", { container: container.id });
    const paused = await usage();
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal((await usage()).cpuUs, paused.cpuUs);
    await assert.rejects(
      guest.run(container, ["true"]),
      refuses("FailedPrecondition", /the container is paused/),
    );
    await client.request("resume", { container: container.id });
    await eventually("it goes on", async () => (await usage()).cpuUs > paused.cpuUs);
    await client.request("update", {
      container: container.id,
      resources: {
        memory: { limit: 16 << 20, swap: 16 << 20 },
        cpu: { shares: 2048, quota: 50_000, period: 100_000 },
        pids: { limit: 50 },
      },
    });
    const { output } = await guest.run(container, [
      "sh",
      "-c",
      "cd /sys/fs/cgroup; cat memory.max memory.swap.max cpu.weight cpu.max pids.max",
    ]);
    assert.equal(output, "16777216\n0\n174\n50000 100000\n50\n");
    assert.equal((await usage()).memoryLimitBytes, 16 << 20);
    const { pids } = await client.request("pids", { container: container.id });
    assert.ok(pids.includes(container.pid));
    await client.request("kill", { container: container.id, exec: "", signal: 15 });
    assert.equal((await guest.finished(container)).exit.status, 9);
    await guest.delete(container);
  });

  await step("volumes follow the host while containers run", async () => {
    const sync = (volume: string, entries: readonly VolumeEntry[]) =>
      client.request("volumeSync", { volume, entries });
    await sync("config", [
      fileEntry("..1/key", "one\n"),
      { kind: "link", path: "..data", target: "..1" },
      { kind: "link", path: "key", target: "..data/key" },
    ]);
    await sync("single", [fileEntry("file", "first\n")]);
    const container = await started(SLEEP, {}, {
      mounts: [
        { kind: "volume", volume: "config", path: "", destination: "/config", readonly: true },
        { kind: "volume", volume: "single", path: "file", destination: "/etc/f", readonly: false },
        { kind: "memory", name: "scratch", destination: "/var/run/scratch", readonly: false },
      ],
    });
    const first = await guest.run(container, [
      "sh",
      "-c",
      "cat /config/key /etc/f; echo more >> /etc/f; touch /config/x; echo kept > /run/scratch/kept",
    ]);
    assert.equal(first.output, "one\nfirst\n");
    assert.match(first.errorOutput, /touch: \/config\/x: Read-only file system/);
    const read = { volume: "single", path: "file", offset: 0, length: 1000 };
    assert.deepEqual(await client.request("volumeRead", read), {
      data: btoa("first\nmore\n"),
      sizeBytes: 11,
    });
    await sync("config", [
      fileEntry("..2/key", "two\n"),
      { kind: "link", path: "..data", target: "..2" },
      { kind: "gone", path: "..1" },
    ]);
    await sync("single", [fileEntry("file", "second\n")]);
    const second = await guest.run(container, [
      "sh",
      "-c",
      "cat /config/key /etc/f; ls -a /config",
    ]);
    assert.equal(second.output, "two\nsecond\n.\n..\n..2\n..data\nkey\n");
    await assert.rejects(
      sync("single", [fileEntry("../outside", "")]),
      refuses("InvalidArgument", /a path below it is expected/),
    );
    await guest.delete(container);
    // What was written to memory outlives the container.
    const other = await started(["cat", "/data/kept"], {}, {
      mounts: [{ kind: "memory", name: "scratch", destination: "/data", readonly: true }],
    });
    assert.equal((await guest.finished(other)).output, "kept\n");
    await guest.delete(other);
  });

  await step("containers share process ids when they say so, and end apart", async () => {
    const pidNamespace = "pod";
    const first = await started(SLEEP, { readonly: true }, { pidNamespace });
    const script = "sleep 2000 & exec sleep 3000";
    const second = await started(["sh", "-c", script], {}, { pidNamespace });
    const seen = await guest.run(first, ["sh", "-c", "ps; mount | head -n 1; touch /x"]);
    assert.match(seen.output, /sleep 1000[^]*sleep [23]000[^]*sleep [23]000/);
    // A root that nobody writes to needs no memory.
    assert.match(seen.output, / on \/ type erofs \(ro/);
    assert.match(seen.errorOutput, /Read-only file system/);
    await client.request("kill", { container: second.id, exec: "", signal: 9 });
    assert.equal((await guest.finished(second)).exit.status, 137);
    await eventually("its other process is gone too", async () => {
      return !/sleep [23]000/.test((await guest.run(first, ["ps"])).output);
    });
    await guest.delete(first);
    await guest.delete(second);
  });

  await step("a slot's next disk is never taken for the one before", async () => {
    assert.equal(rootfs.kind, "disk");
    const slots = new Set<string>();
    for (const number of [2, 1, 2]) {
      if (rootfs.kind === "disk") await guest.machine.detachDisk(rootfs.serial);
      const serial = await guest.attach(`${image}${number}`, `image${number}`);
      slots.add(serial);
      rootfs = { kind: "disk", serial, fsType: "erofs" };
      const container = await started(["cat", "/etc/image"]);
      const { output } = await guest.finished(container);
      assert.equal(output, number === 2 ? "second\n" : "first\n");
      await guest.delete(container);
    }
    assert.ok(slots.size < 3, "no slot was used twice");
  });

  await step("a deleted container leaves nothing in the guest", async () => {
    const created = await guest.create({ config: configOf(SLEEP), rootfs });
    const running = await started(["sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000"]);
    const paused = await started(SLEEP);
    await client.request("pause", { container: paused.id });
    void guest.run(running, ["sh", "-c", "sleep 3000"]).catch(() => {});
    await eventually("it runs three", async () => {
      return (await client.request("pids", { container: running.id })).pids.length >= 3;
    });
    await Promise.all([created, running, paused].map((container) => guest.delete(container)));
    const ignored =
      /^network |^mount (tmpfs \/run\/memory\/|shm \/run\/pod\/shm)|^process \/init $/;
    await client.request("quiesce", {});
    const clean = (state: string[]) => state.filter((line) => !ignored.test(line));
    // The pod's shared process ids keep one process, which is the agent's image.
    assert.deepEqual(clean(await guest.state()), clean(before));
    assert.deepEqual((await client.request("inventory", {})).containers, []);
    assert.deepEqual((await client.request("usage", {})).containers, []);
  });

  await t.step("the guest gives memory back, and switches itself off", async () => {
    assert.deepEqual(await client.request("online", {}), { cpus: 1 });
    await client.request("quiesce", {});
    const usage = await client.request("usage", {});
    assert.ok(usage.memoryAvailableBytes > 20 << 20, JSON.stringify(usage));
    assert.ok(usage.cpuUs > 100_000);
    await client.request("setTime", { timeMs: 1_000_000_000_000 });
    const container = await started(["date", "+%s"]);
    assert.match((await guest.finished(container)).output, /^10000000\d\d\n$/);
    await client.request("powerOff", {});
    assert.equal((await guest.machine.exited).reason, "powerOff");
  });
});
