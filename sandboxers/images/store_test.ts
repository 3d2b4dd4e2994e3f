import assert from "node:assert/strict";
import { HostMounter } from "../host/mounter.ts";
import { Launcher } from "../host/launcher.ts";
import { ImageStore, type UsedImage } from "./store.ts";
import { digestOf, layer, MemoryImage, temporaryDirectory } from "./testing/memory_image.ts";

const uid = Deno.uid() ?? 0;

function imageOf(text: string): MemoryImage {
  return new MemoryImage({
    layers: [layer([{ path: "file", data: text }])],
    config: { Cmd: ["/file"], Env: ["A=b"] },
  });
}

async function use(store: ImageStore, image: MemoryImage): Promise<UsedImage> {
  return await store.use(image, { signal: new AbortController().signal });
}

async function names(path: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(path))).map(({ name }) => name).sort();
}

Deno.test("an image is unpacked once, and found by its digest from then on", async () => {
  await using directory = await temporaryDirectory();
  const store = await ImageStore.open({ directory: directory.path, uid });
  const image = imageOf("content");
  {
    using used = await use(store, image);
    assert.equal(await Deno.readTextFile(`${used.rootfs}/file`), "content");
    assert.deepEqual(used.config.args, ["/file"]);
    assert.equal(used.digest, (await image.root()).digest);
  }
  const { opened } = image;
  const again = await ImageStore.open({ directory: directory.path, uid });
  using _ = await use(again, image);
  assert.equal(image.opened - opened, 2, "manifest and configuration only");
  const [listed, ...more] = await again.list();
  assert.equal(more.length, 0);
  assert.deepEqual(listed?.names, ["memory"]);
  assert.equal(listed.bytes, 7);
  assert.equal(listed.entries, 1);
  assert.equal((await Deno.lstat(directory.path)).mode ?? 0 & 0o777, 0o40700);
});

Deno.test("several who want an image at the same time have it unpacked once", async () => {
  await using directory = await temporaryDirectory();
  const image = imageOf("content");
  const [, bytes] = [...image.blobs][0] ?? [];
  const uses = await Promise.all(Array.from({ length: 4 }, async () => {
    return await use(await ImageStore.open({ directory: directory.path, uid }), image);
  }));
  for (const used of uses) assert.equal(await Deno.readTextFile(`${used.rootfs}/file`), "content");
  for (const used of uses) used[Symbol.dispose]();
  assert.equal(image.opened, 4 * 2 + 1, `${bytes?.length}`);
});

Deno.test("an image that is used stays, and one that nobody uses goes", async () => {
  await using directory = await temporaryDirectory();
  const store = await ImageStore.open({ directory: directory.path, uid });
  const used = await use(store, imageOf("used"));
  (await use(store, imageOf("other")))[Symbol.dispose]();
  const removals = await store.remove(await store.list());
  const kept = removals.filter(({ isRemoved }) => !isRemoved).map(({ image }) => image.digest);
  assert.deepEqual(kept, [used.digest]);
  assert.equal(await Deno.readTextFile(`${used.rootfs}/file`), "used");
  used[Symbol.dispose]();
  await store.remove(await store.list());
  assert.deepEqual(await names(directory.path), ["locks"]);
});

Deno.test({
  name: "an image below an overlay that is mounted is used, whoever asked for that",
  ignore: uid !== 0,
  fn: async () => {
    await using directory = await temporaryDirectory();
    const store = await ImageStore.open({ directory: directory.path, uid });
    const used = await use(store, imageOf("content"));
    used[Symbol.dispose]();
    const at = (part: string) => `${directory.path}/overlay/${part}`;
    for (const part of ["upper", "work", "merged"]) await Deno.mkdir(at(part), { recursive: true });
    const mounter = new HostMounter(new Launcher());
    const options = [
      `lowerdir=${used.rootfs}`,
      `upperdir=${at("upper")}`,
      `workdir=${at("work")}`,
    ];
    await mounter.mount([{ type: "overlay", source: "overlay", options }], at("merged"));
    try {
      const [removal] = await store.remove(await store.list());
      assert.equal(removal?.isRemoved, false);
    } finally {
      await mounter.unmount(at("merged"));
    }
    const [removal] = await store.remove(await store.list());
    assert.equal(removal?.isRemoved, true);
  },
});

Deno.test("nothing is left of an image that cannot be unpacked", async () => {
  await using directory = await temporaryDirectory();
  const store = await ImageStore.open({ directory: directory.path, uid });
  const bad = new MemoryImage({
    layers: [layer([{ path: "a", data: "b" }]), layer([{ path: "../evil" }])],
  });
  await assert.rejects(use(store, bad), { code: "InvalidArgument", message: /leads out of it/ });
  const controller = new AbortController();
  const given = store.use(imageOf("given up"), {
    signal: controller.signal,
    onProgress: () => controller.abort(),
  });
  await assert.rejects(given, { code: "Cancelled" });
  assert.deepEqual(await names(directory.path), ["locks"]);
});

Deno.test("what a program left half made that was killed is removed", async () => {
  await using directory = await temporaryDirectory();
  const store = await ImageStore.open({ directory: directory.path, uid });
  const image = imageOf("content");
  const hex = (await image.root()).digest.slice("sha256:".length);
  const other = digestOf(new Uint8Array()).slice("sha256:".length);
  for (const name of [`partial-${hex}-1`, `gone-${hex}-2`, `partial-${other}-3`]) {
    await Deno.mkdir(`${directory.path}/${name}/rootfs/deep`, { recursive: true });
  }
  // A directory without its record is no image.
  await Deno.mkdir(`${directory.path}/${hex}/rootfs`, { recursive: true });
  using used = await use(store, image);
  assert.equal(await Deno.readTextFile(`${used.rootfs}/file`), "content");
  assert.deepEqual(await names(directory.path), [hex, "locks", `partial-${other}-3`].sort());
  await store.removeLeft();
  assert.deepEqual(await names(directory.path), [hex, "locks"].sort());
});

Deno.test("what was unpacked before the host started is unpacked anew", async () => {
  await using directory = await temporaryDirectory();
  const store = await ImageStore.open({ directory: directory.path, uid });
  const image = imageOf("content");
  const { rootfs, ...used } = await use(store, image);
  used[Symbol.dispose]();
  await Deno.writeTextFile(`${rootfs}/file`, "");
  (await use(store, image))[Symbol.dispose]();
  assert.equal(await Deno.readTextFile(`${rootfs}/file`), "", "the same start");
  const record = rootfs.replace(/rootfs$/, "image.json");
  const { bootId, ...rest } = JSON.parse(await Deno.readTextFile(record));
  assert.match(bootId, /^[0-9a-f-]{36}$/);
  await Deno.writeTextFile(record, JSON.stringify({ ...rest, bootId: "another" }));
  (await use(store, image))[Symbol.dispose]();
  assert.equal(await Deno.readTextFile(`${rootfs}/file`), "content");
});

Deno.test("a directory that others can write to is not used", async () => {
  await using directory = await temporaryDirectory();
  const path = `${directory.path}/images`;
  await Deno.symlink("/tmp", path);
  await assert.rejects(ImageStore.open({ directory: path, uid }), { code: "PermissionDenied" });
  await Deno.remove(path);
  await Deno.mkdir(path);
  const open = ImageStore.open({ directory: path, uid: uid + 1 });
  await assert.rejects(open, { code: "PermissionDenied", message: /of user/ });
});
