/**
 * What guests of stock containerd may do and see, looked at from outside: in /proc of the sandboxer,
 * thread by thread, and by the guests themselves.
 *
 * @module
 */

import assert from "node:assert/strict";
import { WASM_IMAGE, wasmTarget } from "./blackbox/wasm_target.ts";
import type { Bed } from "./support/bed.ts";
import { type BedContext, bedTests } from "./support/bed_tests.ts";
import type { Container, SecurityOptions } from "./support/cri.ts";
import { httpGet } from "./support/http.ts";
import { leaks, snapshot } from "./support/leaks.ts";
import { mountsBelow } from "./support/mount_table.ts";
import { waitFor } from "./support/wait.ts";

const { handler } = wasmTarget;
const image = WASM_IMAGE;
const test = bedTests(wasmTarget.bed, (bed) => wasmTarget.importImages(bed));

/** The threads of the sandboxer that run guests of a container, as directories of /proc. */
async function guestThreads(bed: Bed, container: Container): Promise<string[]> {
  const tasks = `/proc/${bed.sandboxer("wasm").process.pid}/task`;
  const names = await Array.fromAsync(Deno.readDir(tasks), ({ name }) => `${tasks}/${name}`);
  const comms = await Promise.all(names.map(async (task) => {
    return { task, comm: await Deno.readTextFile(`${task}/comm`).catch(() => "") };
  }));
  const wanted = `w-${container.id}`.slice(0, 15);
  return comms.filter(({ comm }) => comm.trim() === wanted).map(({ task }) => task);
}

/** The lines of a status file by name, with single spaces. */
async function statusOf(task: string): Promise<ReadonlyMap<string, string>> {
  const lines = (await Deno.readTextFile(`${task}/status`)).split("\n");
  return new Map(lines.map((line) => {
    const [name = "", value = ""] = line.split(":\t");
    return [name, value.trim().replaceAll("\t", " ")];
  }));
}

/** A container that sleeps, with an exec beside it that sleeps too. */
async function sleepers({ bed, cri }: BedContext, security: SecurityOptions) {
  const pod = await cri.runPod({ handler, network: "pod" });
  const options = { image, command: ["/sleep.wasm"], security };
  const container = await pod.startContainer(options);
  const exec = await container.execStreaming(["/sleep.wasm"]);
  const tasks = await waitFor("both guests", async () => {
    const found = await guestThreads(bed, container);
    return found.length === 2 && found;
  });
  return {
    container,
    tasks,
    [Symbol.asyncDispose]: async () => {
      await pod[Symbol.asyncDispose]();
      exec[Symbol.dispose]();
    },
  };
}

const USERS: readonly (readonly [string, SecurityOptions, string, string, string])[] = [
  ["root", {}, "0", "0", "0"],
  ["user 1000", { user: 1_000, group: 1_001, groups: [5, 77] }, "1000", "1001", "5 77 1001"],
  [
    "user 1000 with the default profile",
    { user: 1_000, runtimeDefaultSeccomp: true },
    "1000",
    "0",
    "0",
  ],
  ["root with the default profile", { runtimeDefaultSeccomp: true }, "0", "0", "0"],
];

for (const [name, security, uid, gid, groups] of USERS) {
  test(`the threads of init and exec are confined for ${name}`, async (context) => {
    await using made = await sleepers(context, security);
    const { bed } = context;
    const sandboxer = `/proc/${bed.sandboxer("wasm").process.pid}`;
    const rootfs =
      `${bed.containerd.state}/io.containerd.runtime.v2.task/k8s.io/${made.container.id}/rootfs`;
    for (const task of made.tasks) {
      const status = await statusOf(task);
      assert.equal(status.get("Uid"), Array(4).fill(uid).join(" "));
      assert.equal(status.get("Gid"), Array(4).fill(gid).join(" "));
      assert.deepEqual(status.get("Groups")?.split(" ").sort(), groups.split(" ").sort());
      for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
        assert.equal(status.get(set), "0000000000000000", set);
      }
      assert.equal(status.get("NoNewPrivs"), "1");
      assert.equal(status.get("Seccomp"), "2");
      assert.equal(await Deno.readLink(`${task}/root`), rootfs);
      assert.equal(await Deno.readLink(`${task}/cwd`), rootfs);
      const namespace = await Deno.readLink(`${task}/ns/net`);
      assert.notEqual(namespace, await Deno.readLink(`${sandboxer}/ns/net`));
    }
    const main = await statusOf(sandboxer);
    const own = await statusOf("/proc/self");
    for (const key of ["Uid", "Gid", "CapEff", "CapPrm", "CapBnd"]) {
      assert.equal(main.get(key), own.get(key), key);
    }
    assert.equal(main.get("Seccomp"), "0");
    assert.equal(await Deno.readLink(`${sandboxer}/root`), "/");
    assert.equal(
      await Deno.readLink(`${sandboxer}/ns/net`),
      await Deno.readLink("/proc/self/ns/net"),
    );
  });
}

test("guests do under the default profile what they do without", async ({ bed, cri }) => {
  const hostPath = await Deno.makeTempDir({ dir: bed.directory });
  await using pod = await cri.runPod({ handler, network: "pod" });
  const security = { runtimeDefaultSeccomp: true };
  const files = await pod.runContainer({
    name: "files",
    image,
    command: ["/fs.wasm", "w:/data/new", "r:/data/new", "w:/own", "l:/data", "m:/made"],
    mounts: [{ hostPath, containerPath: "/data" }],
    security,
  });
  assert.equal(files.exitCode, 0);
  assert.deepEqual(files.stdout.slice(0, 3), [
    "write /data/new: ok",
    "read /data/new: written",
    "write /own: ok",
  ]);
  const server = await pod.startContainer({
    name: "server",
    image,
    command: ["/server.wasm", "8080"],
    env: { ID: "profile" },
    security,
  });
  await server.printed("listening on 8080");
  assert.equal(
    await waitFor("an answer", async () => httpGet(await pod.ip(), 8080)),
    "hello from profile\n",
  );
  for (const program of ["/sleep.wasm", "/spin.wasm"]) {
    const name = program.slice(1, -5);
    const container = await pod.startContainer({ name, image, command: [program], security });
    await waitFor(`${name} to run`, async () => (await container.log()).stdout.length > 0);
    await container.stop(0);
    assert.equal((await container.exited()).exitCode, 137);
  }
  const raise = { name: "raise", image, command: ["/raise.wasm", "9"], security };
  assert.match((await pod.runContainer(raise)).stdout.join(), /^proc_raise 9: error [1-9]/);
});

test("files are mounted over the image's, writable or not, and are gone with the container", async ({ bed, cri }) => {
  const dir = await Deno.makeTempDir({ dir: bed.directory });
  await Deno.writeTextFile(`${dir}/hosts`, "10.1.2.3 somewhere");
  await Deno.writeTextFile(`${dir}/log`, "");
  await Deno.chmod(`${dir}/log`, 0o666);
  const below = bed.containerd.state;
  const before = await mountsBelow(below);
  {
    await using pod = await cri.runPod({ handler });
    const { stdout } = await pod.runContainer({
      image,
      command: ["/fs.wasm"],
      args: [
        "r:/etc/hosts",
        "w:/etc/hosts",
        "w:/dev/termination-log",
        "r:/dev/termination-log",
        "w:/note",
      ],
      mounts: [
        { hostPath: `${dir}/hosts`, containerPath: "/etc/hosts", readonly: true },
        { hostPath: `${dir}/log`, containerPath: "/dev/termination-log" },
        { hostPath: `${dir}/hosts`, containerPath: "/new/place/file" },
      ],
      security: { user: 1_000, readonlyRootfs: true },
    });
    assert.deepEqual(stdout, [
      "read /etc/hosts: 10.1.2.3 somewhere",
      "write /etc/hosts: Read-only file system",
      "write /dev/termination-log: ok",
      "read /dev/termination-log: written",
      "write /note: Read-only file system",
    ]);
    assert.equal(await Deno.readTextFile(`${dir}/log`), "written");
    assert.equal(await Deno.readTextFile(`${dir}/hosts`), "10.1.2.3 somewhere");
  }
  assert.deepEqual(await mountsBelow(below), before);
});

test("a pod's names are in its containers, unless they bring their own", async ({ bed, cri }) => {
  const dir = await Deno.makeTempDir({ dir: bed.directory });
  await Deno.writeTextFile(`${dir}/hosts`, "10.1.2.3 own");
  const files = ["r:/etc/hostname", "r:/etc/resolv.conf", "r:/etc/hosts", "w:/etc/hosts"];
  const options = { image, command: ["/fs.wasm"], args: files };
  await using pod = await cri.runPod({ handler, network: "pod", name: "names" });
  const { stdout } = await pod.runContainer({ name: "given", ...options });
  const text = stdout.join("\n");
  assert.match(text, /^read \/etc\/hostname: names\n/);
  assert.match(
    text,
    /read \/etc\/resolv.conf: search default.svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n/,
  );
  assert.match(text, /read \/etc\/hosts: 127.0.0.1\tlocalhost\n/);
  assert.match(text, /write \/etc\/hosts: Read-only file system/);
  const own = await pod.runContainer({
    name: "own",
    ...options,
    mounts: [{ hostPath: `${dir}/hosts`, containerPath: "/etc/hosts" }],
  });
  assert.ok(own.stdout.includes("read /etc/hosts: 10.1.2.3 own"), own.stdout.join("\n"));
  assert.ok(own.stdout.includes("write /etc/hosts: ok"), own.stdout.join("\n"));
  // On the host's network the host's own file is the right one.
  await using host = await cri.runPod({ handler, network: "host" });
  const shown = await host.runContainer({ image, command: ["/fs.wasm", "r:/etc/hosts"] });
  // The guest reads no more than this.
  const hosts = (await Deno.readTextFile("/etc/hosts")).slice(0, 199);
  assert.equal(shown.stdout.join("\n").trim(), `read /etc/hosts: ${hosts}`.trim());
});

test("a guest without capabilities serves at a low port of its pod", async ({ cri }) => {
  await using pod = await cri.runPod({ handler, network: "pod" });
  const server = await pod.startContainer({
    image,
    command: ["/server.wasm", "80"],
    env: { ID: "low" },
    security: { user: 1_000 },
  });
  await server.printed("listening on 80");
  assert.equal(
    await waitFor("an answer", async () => httpGet(await pod.ip(), 80)),
    "hello from low\n",
  );
});

test("a sandboxer that is killed leaves no mount of its containers' files", async ({ bed, cri }) => {
  const scope = {
    mountsBelow: [bed.directory],
    filesBelow: [`${bed.sandboxer("wasm").paths.stateDirectory}/pods`],
  };
  const before = await snapshot(scope);
  const pod = await cri.runPod({ handler, network: "pod" });
  const mounts = [{ hostPath: `${bed.directory}/config.toml`, containerPath: "/etc/own" }];
  const container = await pod.startContainer({ image, command: ["/sleep.wasm"], mounts });
  await container.printed("sleeping");
  assert.ok(leaks(before, await snapshot(scope)).length >= 4);
  await bed.sandboxer("wasm").process.kill();
  await bed.sandboxer("wasm").start();
  await waitFor("the pod to be removed", async () => {
    await pod.remove();
    return true;
  });
  assert.deepEqual(leaks(before, await snapshot(scope)), []);
});
