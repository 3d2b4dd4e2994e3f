/**
 * Mounting by the launcher for real (as root, in this mount namespace, in directories of the tests).
 *
 * @module
 */

import assert from "node:assert/strict";
import type { ErrorCode } from "../lifecycle/errors.ts";
import { isLayerFull, memoryLayer } from "../memory_layer.ts";
import { HostMounter } from "./mounter.ts";
import { assertFails, launcher, run, until } from "./testing/fixture.ts";

const mounter = new HostMounter(launcher);

/** A tmpfs to work in, so that overlays can be made whatever the temporary directory lies on. */
async function workspace(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await Deno.makeTempDir({ prefix: "quasaur-host-mount-" });
  await run("mount", "-t", "tmpfs", "tmpfs", path);
  for (const name of ["target", "a", "b", "upper", "work"]) await Deno.mkdir(`${path}/${name}`);
  await Deno.writeTextFile(`${path}/a/file`, "from a");
  await Deno.writeTextFile(`${path}/b/other`, "from b");
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      await run("umount", "-R", path);
      await Deno.remove(path);
    },
  };
}

/** The lines of the mount table at or below a directory. */
async function mountsBelow(path: string): Promise<readonly string[]> {
  const lines = (await Deno.readTextFile("/proc/self/mountinfo")).split("\n");
  return lines.filter((line) => line.split(" ")[4]?.startsWith(path));
}

Deno.test("the launcher mounts an overlay and takes it away", async () => {
  await using work = await workspace();
  const { path } = work;
  const target = `${path}/target`;
  const options = [
    "index=off",
    `workdir=${path}/work`,
    `upperdir=${path}/upper`,
    `lowerdir=${path}/a:${path}/b`,
  ];
  await mounter.mount([{ type: "overlay", source: "overlay", options }], target);
  assert.equal(await Deno.readTextFile(`${target}/file`), "from a");
  assert.equal(await Deno.readTextFile(`${target}/other`), "from b");
  await Deno.writeTextFile(`${target}/new`, "new");
  assert.equal(await Deno.readTextFile(`${path}/upper/new`), "new");
  await mounter.unmount(target);
  assert.deepEqual(await mountsBelow(target), []);
});

Deno.test("the launcher mounts overlays whose upper directory is in memory, with a bound, and goes with them", async () => {
  await using work = await workspace();
  const { path } = work;
  const target = `${path}/target`;
  await Deno.chmod(`${path}/a`, 0o751);
  await mounter.mount(memoryLayer(`${path}/a`, target, 1 << 20), target);
  assert.equal(await Deno.readTextFile(`${target}/file`), "from a");
  assert.equal(((await Deno.stat(target)).mode ?? 0) & 0o777, 0o751);
  assert.equal(await isLayerFull(target), false);
  await assert.rejects(
    Deno.writeFile(`${target}/big`, new Uint8Array(2 << 20)),
    /No space left on device/,
  );
  assert.equal(await isLayerFull(target), true);
  assert.deepEqual((await Array.fromAsync(Deno.readDir(`${path}/a`))).map(({ name }) => name), [
    "file",
  ]);
  await mounter.unmount(target);
  assert.deepEqual(await mountsBelow(target), []);
  assert.deepEqual(await Array.fromAsync(Deno.readDir(target)), []);
  // Nothing stays where it cannot be made.
  await assert.rejects(mounter.mount(memoryLayer(`${path}/nowhere`, target, 1 << 20), target));
  assert.deepEqual(await mountsBelow(target), []);
});

Deno.test("the launcher mounts an overlay with more layers than fit into one page", async () => {
  await using work = await workspace();
  const { path } = work;
  const target = `${path}/target`;
  // A colon in a name is escaped in lowerdir=, and not where layers are given one by one.
  const layers = Array.from({ length: 100 }, (_, i) => `${path}/${"l".repeat(60)}:${i}`);
  for (const [i, layer] of layers.entries()) {
    await Deno.mkdir(layer);
    await Deno.writeTextFile(`${layer}/same`, `${i}`);
    await Deno.writeTextFile(`${layer}/only-${i}`, "here");
  }
  const lower = layers.map((layer) => layer.replaceAll(":", "\\:")).join(":");
  const options = [`lowerdir=${lower}`, "ro", "nosuid"];
  await mounter.mount([{ type: "overlay", source: "overlay", options }], target);
  assert.equal(await Deno.readTextFile(`${target}/same`), "0");
  assert.equal(await Deno.readTextFile(`${target}/only-99`), "here");
  const [line = ""] = await mountsBelow(target);
  assert.match(line, /\bro,nosuid\b/);
  await mounter.unmount(target);
  const long = [`lowerdir=${path}/${"x".repeat(5000)}`];
  const refused = mounter.mount([{ type: "overlay", source: "overlay", options: long }], target);
  await assertFails(refused, "InvalidArgument", /ENAMETOOLONG/);
  assert.deepEqual(await mountsBelow(target), []);
});

Deno.test("a root file system that is a bind mount is writable or read-only as asked", async () => {
  await using work = await workspace();
  const { path } = work;
  const target = `${path}/target`;
  const bind = (...options: string[]) => ({ type: "bind", source: `${path}/a`, options });
  await mounter.mount([bind("rbind", "rw")], target);
  await Deno.writeTextFile(`${target}/new`, "new");
  await mounter.unmount(target);
  await mounter.mount([bind("rbind", "ro")], target);
  assert.equal(await Deno.readTextFile(`${target}/new`), "new");
  await assert.rejects(Deno.writeTextFile(`${target}/new`, "no"), /Read-only file system/);
  await mounter.unmount(target);
  assert.deepEqual(await mountsBelow(target), []);
});

Deno.test("unmounting takes a whole stack away, and succeeds where nothing is", async () => {
  await using work = await workspace();
  const { path } = work;
  const target = `${path}/target`;
  const mounts = ["a", "b", "a"].map((name) => ({
    type: "bind",
    source: `${path}/${name}`,
    options: ["rbind"],
  }));
  await mounter.mount(mounts, target);
  assert.equal((await mountsBelow(target)).length, 3);
  await mounter.unmountAll([`${path}/nowhere`, target, target]);
  assert.deepEqual(await mountsBelow(target), []);
});

Deno.test("what is in use goes out of sight, and a link is not followed", async () => {
  await using work = await workspace();
  const { path } = work;
  const target = `${path}/target`;
  await mounter.mount([{ type: "bind", source: `${path}/a`, options: ["rbind"] }], target);
  await Deno.symlink(target, `${path}/link`);
  await mounter.unmount(`${path}/link`);
  assert.equal((await mountsBelow(target)).length, 1);
  using file = await Deno.open(`${target}/file`);
  await mounter.unmount(target);
  assert.deepEqual(await mountsBelow(target), []);
  assert.equal((await file.stat()).size, 6);
});

Deno.test("a root file system of which a part fails is not mounted at all", async () => {
  await using work = await workspace();
  const { path } = work;
  const target = `${path}/target`;
  const good = { type: "bind", source: `${path}/a`, options: ["rbind"] };
  const bad = { type: "bind", source: `${path}/nowhere`, options: ["rbind"] };
  const failing = mounter.mount([good, good, bad], target);
  await assertFails(failing, "NotFound", /cannot mount ".*\/nowhere" \(bind\) at ".*": ENOENT/);
  assert.deepEqual(await mountsBelow(target), []);
  const unknown = { type: "overlay", source: "overlay", options: ["nonsense=1", "lowerdir=/"] };
  await assertFails(mounter.mount([good, unknown], target), "InvalidArgument", /EINVAL/);
  assert.deepEqual(await mountsBelow(target), []);
});

Deno.test("volumes are bound: files and directories, through links, with what is mounted below", async () => {
  await using work = await workspace();
  const { path } = work;
  await Deno.mkdir(`${path}/a/below`);
  await run("mount", "-t", "tmpfs", "tmpfs", `${path}/a/below`);
  await Deno.writeTextFile(`${path}/a/below/deep`, "deep");
  await Deno.symlink("a", `${path}/link`);
  await Deno.writeTextFile(`${path}/target-file`, "");
  await mounter.bind([
    { source: `${path}/link`, target: `${path}/target`, readonly: true, recursive: true },
    { source: `${path}/b/other`, target: `${path}/target-file`, readonly: false, recursive: false },
  ]);
  assert.equal(await Deno.readTextFile(`${path}/target/below/deep`), "deep");
  await assert.rejects(Deno.writeTextFile(`${path}/target/new`, ""), /Read-only/);
  await assert.rejects(Deno.writeTextFile(`${path}/target/below/new`, ""), /Read-only/);
  await Deno.writeTextFile(`${path}/a/below/new`, "the source is as it was");
  await Deno.writeTextFile(`${path}/target-file`, "through");
  assert.equal(await Deno.readTextFile(`${path}/b/other`), "through");
  await mounter.unmountAll([`${path}/target`, `${path}/target-file`]);
  assert.deepEqual(await mountsBelow(`${path}/target`), []);
  assert.equal((await mountsBelow(`${path}/a/below`)).length, 1);
});

Deno.test("volumes of which one fails are not bound at all", async () => {
  await using work = await workspace();
  const { path } = work;
  const one = { source: `${path}/a`, target: `${path}/target`, readonly: false, recursive: true };
  const cases: [Partial<typeof one>, ErrorCode, RegExp][] = [
    [{ source: `${path}/no` }, "NotFound", /cannot mount ".*\/no" at ".*\/target": ENOENT/],
    [{ target: `${path}/no` }, "NotFound", /ENOENT/],
    [{ source: `${path}/a/file` }, "InvalidArgument", /cannot mount/],
    [{ source: "a" }, "InvalidArgument", /wrong argument/],
  ];
  for (const [change, code, message] of cases) {
    await assertFails(mounter.bind([one, { ...one, ...change }]), code, message);
    assert.deepEqual(await mountsBelow(`${path}/target`), []);
  }
  await mounter.bind([]);
  await mounter.unmountAll([]);
});

Deno.test("what is mounted in a shared directory is seen in a namespace that was made before", async () => {
  await using work = await workspace();
  const { path } = work;
  const target = `${path}/target`;
  await mounter.share(target);
  const args = ["--mount", "--propagation", "slave", "sleep", "60"];
  const child = new Deno.Command("unshare", { args, stdin: "null" }).spawn();
  const seen = async () => await Deno.readTextFile(`/proc/${child.pid}/mountinfo`);
  try {
    await until("it has a namespace", async () => {
      return await Deno.readLink(`/proc/${child.pid}/ns/mnt`) !==
        await Deno.readLink("/proc/self/ns/mnt");
    });
    await Deno.mkdir(`${target}/late`);
    const late = { source: `${path}/a`, target: `${target}/late`, readonly: false };
    await mounter.bind([{ ...late, recursive: false }]);
    assert.match(await seen(), new RegExp(`${target}/late `));
    // All of it goes with the directory, there too.
    await mounter.unmount(target);
    assert.doesNotMatch(await seen(), new RegExp(`${target}/late `));
    assert.deepEqual(await mountsBelow(target), []);
  } finally {
    child.kill("SIGKILL");
    await child.status;
  }
  await assertFails(mounter.share(`${path}/none`), "NotFound", /none/);
});
