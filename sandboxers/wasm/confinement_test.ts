/**
 * What guests' threads may do, read from outside: /proc/self/task/TID.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import type { ProcessHandle } from "../lifecycle/driver.ts";
import type { ProcessSpec } from "../lifecycle/spec.ts";
import { WasmDriver } from "./driver.ts";
import {
  collectedPipe,
  containerSpec,
  engine,
  guestRootfs,
  sandboxSpec,
  signal,
  stdioSpec,
  system,
} from "./fixture.ts";
import { SystemMounter } from "./mounter.ts";

const driver = new WasmDriver({ engine, system });

type User = ProcessSpec["user"];
const ROOT: User = { uid: 0, gid: 0, additionalGids: [] };
const SOMEBODY: User = { uid: 1_000, gid: 1_001, additionalGids: [5, 77] };

/** What /proc says of a thread. */
interface ThreadView {
  readonly status: ReadonlyMap<string, string>;
  readonly root: string;
  readonly cwd: string;
}

/** Looks at a thread of this process, or at the first. */
async function look(task: string): Promise<ThreadView> {
  const lines = (await Deno.readTextFile(`${task}/status`)).split("\n");
  return {
    status: new Map(lines.map((line) => {
      const [name = "", value = ""] = line.split(":\t");
      return [name, value.trim().replaceAll("\t", " ")];
    })),
    root: await Deno.readLink(`${task}/root`),
    cwd: await Deno.readLink(`${task}/cwd`),
  };
}

function lookAt({ pid }: ProcessHandle): Promise<ThreadView> {
  return look(`/proc/self/task/${pid}`);
}

/** Fails where a thread is more than a confined guest of a user. */
function assertConfined({ status }: ThreadView, { uid, gid, additionalGids }: User): void {
  assert.equal(status.get("Uid"), Array(4).fill(uid).join(" "));
  assert.equal(status.get("Gid"), Array(4).fill(gid).join(" "));
  assert.equal(status.get("Groups"), additionalGids.join(" "));
  for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
    assert.equal(status.get(set), "0000000000000000", set);
  }
  assert.equal(status.get("NoNewPrivs"), "1");
  assert.equal(status.get("Seccomp"), "2");
  assert.equal(status.get("Umask"), "0022");
}

/** A mounted root file system with the guests in it. */
async function mountedRootfs() {
  const image = await guestRootfs();
  const target = await Deno.makeTempDir({ prefix: "quasaur-target-" });
  const mounter = new SystemMounter();
  await mounter.mount([{ type: "bind", source: image.path, options: ["rbind"] }], target);
  return {
    spec: { kind: "mounts", target, mounts: [] } as const,
    target,
    [Symbol.asyncDispose]: async () => {
      await mounter.unmount(target);
      await Deno.remove(target);
      await image[Symbol.asyncDispose]();
    },
  };
}

for (const user of [ROOT, SOMEBODY]) {
  Deno.test(`init and exec of user ${user.uid} are confined, and the process is not`, async () => {
    await using rootfs = await mountedRootfs();
    const before = await look("/proc/self");
    const pod = await driver.start(sandboxSpec(), signal);
    const spec = containerSpec("", ["/sleep.wasm"], { rootfs: rootfs.spec });
    const process = { ...spec.process, user };
    const container = await pod.createContainer({ ...spec, process }, signal);
    const init = await container.start(signal);
    const exec = await container.exec?.({ id: "e", process, stdio: stdioSpec() }, signal);
    assert.ok(exec !== undefined);
    for (const handle of [init, exec]) {
      const view = await lookAt(handle);
      assertConfined(view, user);
      assert.equal(view.root, rootfs.target);
      assert.equal(view.cwd, rootfs.target);
    }
    const after = await look("/proc/self");
    for (
      const name of ["Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Umask"]
    ) {
      assert.equal(after.status.get(name), before.status.get(name), name);
    }
    assert.equal(after.status.get("Seccomp"), "0");
    assert.deepEqual([after.root, after.cwd], [before.root, before.cwd]);
    await pod.stop(0);
  });
}

Deno.test("an exec may act as another user than the init process", async () => {
  await using rootfs = await mountedRootfs();
  const pod = await driver.start(sandboxSpec(), signal);
  const spec = containerSpec("", ["/sleep.wasm"], { rootfs: rootfs.spec });
  const container = await pod.createContainer(spec, signal);
  const init = await container.start(signal);
  const process = { ...spec.process, user: SOMEBODY };
  const exec = await container.exec?.({ id: "e", process, stdio: stdioSpec() }, signal);
  assert.ok(exec !== undefined);
  assertConfined(await lookAt(init), ROOT);
  assertConfined(await lookAt(exec), SOMEBODY);
  await pod.stop(0);
});

Deno.test("a guest's root is a directory of the caller's, too", async () => {
  await using rootfs = await guestRootfs();
  const pod = await driver.start(sandboxSpec(), signal);
  const container = await pod.createContainer(
    containerSpec(rootfs.path, ["/sleep.wasm"]),
    signal,
  );
  const init = await container.start(signal);
  const view = await lookAt(init);
  assertConfined(view, ROOT);
  // The root is seen through the thread: it is a mount that has no name in this process.
  const names = await Array.fromAsync(Deno.readDir(`/proc/self/task/${init.pid}/root/`));
  assert.ok(names.some(({ name }) => name === "sleep.wasm"));
  assert.ok(!names.some(({ name }) => name === "proc"));
  await pod.stop(0);
});

Deno.test("root of a container may not do what takes capabilities", async () => {
  await using rootfs = await guestRootfs();
  await Deno.writeTextFile(`${rootfs.path}/private`, "somebody's");
  await Deno.chmod(`${rootfs.path}/private`, 0o600);
  await Deno.chown(`${rootfs.path}/private`, 1_000, 1_000);
  const pod = await driver.start(sandboxSpec(), signal);
  const out = collectedPipe();
  const stdio = stdioSpec({ stdout: { kind: "fd", fd: out.writeFd } });
  const spec = containerSpec(rootfs.path, ["/fs.wasm", "r:/private", "w:/own"], { stdio });
  const container = await pod.createContainer(spec, signal);
  assert.equal((await (await container.start(signal)).exited).status, 0);
  await pod.stop(0);
  out.close();
  assert.equal(await out.text, "read /private: Permission denied\nwrite /own: ok\n");
  const made = await Deno.stat(`${rootfs.path}/own`);
  assert.deepEqual([made.uid, (made.mode ?? 0) & 0o777], [0, 0o644]);
});

Deno.test("names are looked up in the container's own files", async () => {
  await using rootfs = await guestRootfs();
  await Deno.mkdir(`${rootfs.path}/etc`);
  await Deno.writeTextFile(`${rootfs.path}/etc/hosts`, "10.9.8.7 only-in-this-container\n");
  // What this names is a library of the image, which must not be loaded.
  await Deno.writeTextFile(`${rootfs.path}/etc/nsswitch.conf`, "hosts: evil files\n");
  const pod = await driver.start(sandboxSpec(), signal);
  const out = collectedPipe();
  const stdio = stdioSpec({ stdout: { kind: "fd", fd: out.writeFd } });
  const args = ["/resolve.wasm", "only-in-this-container"];
  const container = await pod.createContainer(containerSpec(rootfs.path, args, { stdio }), signal);
  assert.equal((await (await container.start(signal)).exited).status, 0);
  await pod.stop(0);
  out.close();
  assert.equal(await out.text, "only-in-this-container: 10.9.8.7\n");
});

Deno.test("a process without capabilities runs guests, as itself", async () => {
  const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));
  const { code, stdout, stderr } = await new Deno.Command("setpriv", {
    args: [
      "--bounding-set=-all",
      "--inh-caps=-all",
      Deno.execPath(),
      "run",
      "--cached-only",
      "--allow-ffi",
      path("./native/permissions_probe.ts"),
      path("../../tests/guests/build/hello.wasm"),
    ],
  }).output();
  const errors = new TextDecoder().decode(stderr);
  assert.equal(code, 0, errors);
  assert.equal(new TextDecoder().decode(stdout), "hello from wasm\nexited 0\n", errors);
});
