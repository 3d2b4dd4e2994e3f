/**
 * Mounting root file systems for real (as root, in this mount namespace, in temporary directories).
 *
 * @module
 */

import assert from "node:assert/strict";
import { SandboxError } from "../lifecycle/errors.ts";
import { isLayerFull, memoryLayer } from "../memory_layer.ts";
import { system } from "./fixture.ts";
import { SystemMounter } from "./mounter.ts";
import { OPEN } from "./native/syscalls.ts";

const mounter = new SystemMounter();

/** A tmpfs to work in, so that overlays can be made whatever the temporary directory lies on. */
async function workspace(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await Deno.makeTempDir({ prefix: "quasaur-mount-" });
  const run = async (...args: string[]) => {
    const [command = "", ...rest] = args;
    const { success, stderr } = await new Deno.Command(command, { args: rest }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
  };
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

/** How many mounts are at or below a directory. */
async function mountsBelow(path: string): Promise<number> {
  const lines = (await Deno.readTextFile("/proc/self/mountinfo")).split("\n");
  return lines.filter((line) => line.split(" ")[4]?.startsWith(path)).length;
}

Deno.test("an overlay is mounted and unmounted", async () => {
  await using work = await workspace();
  const { path } = work;
  const target = `${path}/target`;
  await mounter.mount([{
    type: "overlay",
    source: "overlay",
    options: [
      "index=off",
      `workdir=${path}/work`,
      `upperdir=${path}/upper`,
      `lowerdir=${path}/a:${path}/b`,
    ],
  }], target);
  assert.equal(await Deno.readTextFile(`${target}/file`), "from a");
  assert.equal(await Deno.readTextFile(`${target}/other`), "from b");
  await Deno.writeTextFile(`${target}/new`, "new");
  assert.equal(await Deno.readTextFile(`${path}/upper/new`), "new");
  await mounter.unmount(target);
  assert.equal(await mountsBelow(target), 0);
});

Deno.test("an overlay's upper directory can be in memory, with a bound, and goes with it", async () => {
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
  assert.equal(await mountsBelow(target), 0);
  assert.deepEqual(await Array.fromAsync(Deno.readDir(target)), []);
  // Nothing stays where it cannot be made.
  await assert.rejects(mounter.mount(memoryLayer(`${path}/nowhere`, target, 1 << 20), target));
  assert.equal(await mountsBelow(target), 0);
});

Deno.test("an overlay with more layers than fit into one page is mounted", async () => {
  await using work = await workspace();
  const { path } = work;
  const target = `${path}/target`;
  const layers = Array.from({ length: 100 }, (_, i) => `${path}/${"l".repeat(60)}${i}`);
  for (const [i, layer] of layers.entries()) {
    await Deno.mkdir(layer);
    await Deno.writeTextFile(`${layer}/same`, `${i}`);
    await Deno.writeTextFile(`${layer}/only-${i}`, "here");
  }
  const options = [`lowerdir=${layers.join(":")}`, "ro", "nosuid"];
  await mounter.mount([{ type: "overlay", source: "overlay", options }], target);
  assert.equal(await Deno.readTextFile(`${target}/same`), "0");
  assert.equal(await Deno.readTextFile(`${target}/only-99`), "here");
  const line = (await Deno.readTextFile("/proc/self/mountinfo")).split("\n")
    .find((text) => text.includes(` ${target} `));
  assert.match(line ?? "", /\bro,nosuid\b/);
  await mounter.unmount(target);
  assert.equal(await mountsBelow(target), 0);
});

Deno.test("a bind mount is writable or read-only as asked", async () => {
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
  assert.equal(await mountsBelow(target), 0);
});

Deno.test("unmount takes a whole stack away, and succeeds where nothing is", async () => {
  await using work = await workspace();
  const { path } = work;
  const target = `${path}/target`;
  const mounts = ["a", "b", "a"].map((name) => ({
    type: "bind",
    source: `${path}/${name}`,
    options: ["rbind"],
  }));
  await mounter.mount(mounts, target);
  assert.equal(await mountsBelow(target), 3);
  await mounter.unmount(target);
  assert.equal(await mountsBelow(target), 0);
  await mounter.unmount(target);
  await mounter.unmount(`${path}/nowhere`);
});

Deno.test("unmount of what is in use takes it out of sight", async () => {
  await using work = await workspace();
  const { path } = work;
  const target = `${path}/target`;
  await mounter.mount([{ type: "bind", source: `${path}/a`, options: ["rbind"] }], target);
  const fd = system.open(`${target}/file`, OPEN.readOnly, "file");
  await mounter.unmount(target);
  assert.equal(await mountsBelow(target), 0);
  system.close(fd);
});

Deno.test("a mount that fails takes the ones before it away again", async () => {
  await using work = await workspace();
  const { path } = work;
  const target = `${path}/target`;
  const good = { type: "bind", source: `${path}/a`, options: ["rbind"] };
  const bad = { type: "bind", source: `${path}/nowhere`, options: ["rbind"] };
  await assert.rejects(mounter.mount([good, good, bad], target), (error: unknown) => {
    assert.ok(error instanceof SandboxError);
    assert.equal(error.code, "NotFound");
    assert.match(error.message, /cannot mount ".*\/nowhere" \(bind\) at ".*\/target": ENOENT/);
    return true;
  });
  assert.equal(await mountsBelow(target), 0);
  const unknown = { type: "overlay", source: "overlay", options: ["nonsense=1", "lowerdir=/"] };
  await assert.rejects(mounter.mount([good, unknown], target), /EINVAL/);
  assert.equal(await mountsBelow(target), 0);
});
