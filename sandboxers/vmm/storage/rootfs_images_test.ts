/**
 * Images of root file systems for real: built by mkfs.erofs, and read back by the kernel.
 */

import assert from "node:assert/strict";
import type { RootfsSpec } from "../../lifecycle/spec.ts";
import { noLog } from "../../log.ts";
import { RootfsImages, type RootfsImagesOptions } from "./rootfs_images.ts";
import { containerWith, namesIn, rejects, run, workspace } from "./testing/fixture.ts";

const SLOT_BYTES = 2 ** 34;
const { signal } = new AbortController();

/** Images below a directory, which VMMs can reach. */
async function imagesIn(path: string, changes: Partial<RootfsImagesOptions> = {}) {
  const images = await RootfsImages.open({
    directory: `${path}/cache`,
    cacheBytesMax: 32 << 20,
    diskBytes: SLOT_BYTES,
    log: noLog,
    ...changes,
  });
  return images;
}

/** An overlay of a lower directory with some files, mounted. */
async function overlayIn(path: string, name = "a"): Promise<RootfsSpec> {
  for (const part of ["lower", "upper", "work", "target"]) {
    await Deno.mkdir(`${path}/${name}/${part}`, { recursive: true });
  }
  await Deno.writeTextFile(`${path}/${name}/lower/file`, `content of ${name}`);
  const lower = `lowerdir=${path}/${name}/lower`;
  const options = [lower, `upperdir=${path}/${name}/upper`, `workdir=${path}/${name}/work`];
  const target = `${path}/${name}/target`;
  await run("mount", "-t", "overlay", "-o", options.join(","), "overlay", target);
  return { kind: "mounts", target, mounts: [{ type: "overlay", source: "overlay", options }] };
}

/** Runs something with an image mounted. */
async function withMounted(image: string, look: (root: string) => Promise<void>): Promise<void> {
  const root = await Deno.makeTempDir({ prefix: "quasaur-erofs-" });
  try {
    await run("mount", "-t", "erofs", "-o", "loop,ro", image, root);
    try {
      await look(root);
    } finally {
      await run("umount", root);
    }
  } finally {
    await Deno.remove(root);
  }
}

Deno.test("an image holds the files as they are: owners, modes, times, links, special files", async () => {
  await using work = await workspace();
  const root = `${work.path}/root`;
  await Deno.mkdir(`${root}/etc`, { recursive: true });
  await Deno.writeTextFile(`${root}/etc/file`, "text");
  await Deno.link(`${root}/etc/file`, `${root}/second`);
  await Deno.symlink("etc/file", `${root}/link`);
  await run("mkfifo", `${root}/fifo`);
  await run("mknod", `${root}/null`, "c", "1", "3");
  await run("setcap", "cap_net_raw+ep", `${root}/etc/file`);
  await Deno.chown(`${root}/etc/file`, 1234, 70_000);
  await Deno.chmod(`${root}/etc/file`, 0o4750);
  await run("setcap", "cap_net_raw+ep", `${root}/etc/file`);
  await Deno.utime(`${root}/etc/file`, 1_000_000, 981_173_106);
  const images = await imagesIn(work.path);
  const image = await images.get(
    containerWith("c1", { kind: "directory", path: root }),
    undefined,
    signal,
  );
  assert.equal(image.format, "erofs");
  const { size, blocks } = await Deno.stat(image.path);
  assert.equal(size, SLOT_BYTES);
  assert.ok((blocks ?? 0) * 512 < 1 << 20, "the rest of the slot takes no room");
  await withMounted(image.path, async (mounted) => {
    const format = "%F %a %u %g %Y %h %t %T";
    for (const name of ["etc/file", "second", "link", "fifo", "null", "etc"]) {
      const was = await run("stat", "-c", format, `${root}/${name}`);
      assert.equal(await run("stat", "-c", format, `${mounted}/${name}`), was, name);
    }
    assert.equal(await Deno.readTextFile(`${mounted}/second`), "text");
    assert.match(await run("getcap", `${mounted}/etc/file`), /cap_net_raw/);
  });
  await image.release();
  await assert.rejects(Deno.stat(image.path), Deno.errors.NotFound);
  await images.close();
});

Deno.test("containers of one snapshot share an image that is built once and kept", async () => {
  await using work = await workspace();
  const rootfs = await overlayIn(work.path);
  const images = await imagesIn(work.path);
  const specs = ["c1", "c2", "c3"].map((id) => containerWith(id, rootfs));
  const all = await Promise.all(specs.map((spec) => images.get(spec, undefined, signal)));
  const [path = ""] = all.map(({ path }) => path);
  assert.ok(all.every((image) => image.path === path));
  const { ino } = await Deno.stat(path);
  for (const image of all) await image.release();
  await images.close();
  const later = await imagesIn(work.path);
  const again = await later.get(containerWith("c4", rootfs), undefined, signal);
  assert.equal((await Deno.stat(again.path)).ino, ino, "it was not built again");
  await withMounted(again.path, async (root) => {
    assert.equal(await Deno.readTextFile(`${root}/file`), "content of a");
  });
  await again.release();
  await later.close();
});

Deno.test("what was written to a snapshot before is in an image of its own", async () => {
  await using work = await workspace();
  const rootfs = await overlayIn(work.path);
  const images = await imagesIn(work.path);
  const shared = await images.get(containerWith("c1", rootfs), undefined, signal);
  await Deno.writeTextFile(`${work.path}/a/target/new`, "written");
  const own = await images.get(containerWith("c2", rootfs), undefined, signal);
  assert.notEqual(own.path, shared.path);
  await withMounted(own.path, async (root) => {
    assert.equal(await Deno.readTextFile(`${root}/new`), "written");
  });
  await own.release();
  await assert.rejects(Deno.stat(own.path), Deno.errors.NotFound);
  await shared.release();
  await Deno.stat(shared.path);
  await images.close();
});

Deno.test("layers that were removed and made again are others", async () => {
  await using work = await workspace();
  const rootfs = await overlayIn(work.path);
  const images = await imagesIn(work.path);
  const first = await images.get(containerWith("c1", rootfs), undefined, signal);
  await run("umount", `${work.path}/a/target`);
  await Deno.remove(`${work.path}/a`, { recursive: true });
  const again = await overlayIn(work.path);
  const second = await images.get(containerWith("c2", again), undefined, signal);
  assert.notEqual(second.path, first.path);
  for (const image of [first, second]) await image.release();
  await images.close();
});

Deno.test("a VMM reaches the images that it was given, and no others", async () => {
  await using work = await workspace();
  const rootfs = await overlayIn(work.path);
  const images = await imagesIn(work.path);
  const readers = [1, 2].map((i) => ({ uid: 1_879_048_192 + i, gid: 1_879_048_192 }));
  const handed = await Promise.all(
    readers.map((reader, i) => images.get(containerWith(`c${i}`, rootfs), reader, signal)),
  );
  const canRead = async (i: number, path: string) => {
    const { uid, gid } = readers[i] ?? { uid: 0, gid: 0 };
    const args = [`--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "head", "-c1", path];
    return (await new Deno.Command("setpriv", { args, stderr: "null" }).output()).success;
  };
  const [first, second] = handed;
  assert.ok(first && second);
  assert.ok(await canRead(0, first.path));
  assert.ok(await canRead(1, second.path));
  assert.ok(!await canRead(0, second.path));
  assert.equal((await Deno.stat(first.path)).ino, (await Deno.stat(second.path)).ino);
  for (const image of handed) await image.release();
  assert.deepEqual(await namesIn(`${work.path}/cache/readers`), []);
  await images.close();
});

Deno.test("images that nobody uses go, the longest unused first", async () => {
  await using work = await workspace();
  const roots = [await overlayIn(work.path, "a"), await overlayIn(work.path, "b")];
  for (const name of ["a", "b"]) {
    await Deno.writeFile(`${work.path}/${name}/lower/big`, new Uint8Array(300_000));
  }
  const images = await imagesIn(work.path, { cacheBytesMax: 500_000 });
  const [a, b] = [
    await images.get(containerWith("c1", roots[0] ?? assert.fail()), undefined, signal),
    await images.get(containerWith("c2", roots[1] ?? assert.fail()), undefined, signal),
  ];
  await Promise.all([Deno.stat(a.path), Deno.stat(b.path)]);
  await a.release();
  await assert.rejects(Deno.stat(a.path), Deno.errors.NotFound);
  await b.release();
  assert.ok((await Deno.stat(b.path)).isFile, "it fits by itself");
  assert.ok(images.cachedBytes < 500_000);
  await images.close();
});

Deno.test("what a crash leaves is removed, what still runs is taken over", async () => {
  await using work = await workspace();
  const rootfs = await overlayIn(work.path);
  const directory = { kind: "directory", path: `${work.path}/a/lower` } as const;
  const images = await imagesIn(work.path);
  const reader = { uid: 1_879_048_193, gid: 1_879_048_192 };
  const kept = await images.get(containerWith("kept", rootfs), reader, signal);
  const keptOwn = await images.get(containerWith("kept-own", directory), undefined, signal);
  const lost = await images.get(containerWith("lost", directory), reader, signal);
  await images.close();
  await Deno.writeTextFile(`${work.path}/cache/partial/half`, "half an image");

  const next = await imagesIn(work.path);
  await assert.rejects(Deno.stat(`${work.path}/cache/partial/half`), Deno.errors.NotFound);
  const adopted = await Promise.all([kept, keptOwn].map(({ record }) => next.adopt(record)));
  await next.sweep();
  await assert.rejects(Deno.stat(lost.path), Deno.errors.NotFound);
  await assert.rejects(Deno.stat(`${work.path}/cache/own/lost.erofs`), Deno.errors.NotFound);
  for (const image of adopted) {
    assert.ok(image);
    assert.ok((await Deno.stat(image.path)).isFile);
    await image.release();
  }
  await assert.rejects(Deno.stat(kept.path), Deno.errors.NotFound);
  await assert.rejects(Deno.stat(keptOwn.path), Deno.errors.NotFound);
  await next.close();
});

Deno.test("an image that may not be whole on disk is built again after a crash", async () => {
  await using work = await workspace();
  const rootfs = await overlayIn(work.path);
  const images = await imagesIn(work.path);
  const { path, release } = await images.get(containerWith("c1", rootfs), undefined, signal);
  await release();
  await images.close();
  // As it is until the file is on stable storage.
  await Deno.chmod(path, 0o640);
  const next = await imagesIn(work.path);
  assert.equal(next.cachedBytes, 0);
  await assert.rejects(Deno.stat(path), Deno.errors.NotFound);
  await next.close();
});

Deno.test("a full disk is said with what is needed, after unused images have made room", async () => {
  await using work = await workspace();
  await using disk = await workspace("1m");
  const images = await imagesIn(disk.path);
  const roots = [];
  for (const name of ["a", "b", "c"]) {
    roots.push(await overlayIn(work.path, name));
    const bytes = crypto.getRandomValues(new Uint8Array(60_000));
    for (let i = 0; i < 10; i++) await Deno.writeFile(`${work.path}/${name}/lower/${i}`, bytes);
  }
  const [a, b, c] = roots.map((rootfs, i) => containerWith(`c${i}`, rootfs));
  assert.ok(a && b && c);
  await (await images.get(a, undefined, signal)).release();
  const image = await images.get(b, undefined, signal);
  assert.ok((await Deno.stat(image.path)).isFile, "the first image made room");
  await rejects(
    images.get(c, undefined, signal),
    "ResourceExhausted",
    /no space left in ".*\/cache".*about 1 MiB are needed.*storage\.cache_directory/,
  );
  assert.deepEqual(await namesIn(`${disk.path}/cache/partial`), []);
  await image.release();
  await images.close();
});

Deno.test("a caller that gives up leaves the others their image", async () => {
  await using work = await workspace();
  const slow = `${work.path}/slow-mkfs`;
  await Deno.writeTextFile(slow, '#!/bin/sh\nsleep 0.3\nexec /usr/bin/mkfs.erofs "$@"\n', {
    mode: 0o755,
  });
  const rootfs = await overlayIn(work.path);
  const images = await imagesIn(work.path, { program: slow });
  const first = new AbortController();
  const gaveUp = images.get(containerWith("c1", rootfs), undefined, first.signal);
  const other = images.get(containerWith("c2", rootfs), undefined, signal);
  await new Promise((resolve) => setTimeout(resolve, 50));
  first.abort();
  await rejects(gaveUp, "Cancelled", /cancelled by the caller/);
  const image = await other;
  await withMounted(image.path, async (root) => {
    assert.equal(await Deno.readTextFile(`${root}/file`), "content of a");
  });
  await image.release();
  await images.close();
});

Deno.test("what is no root file system of Linux is refused by name", async () => {
  await using work = await workspace();
  const images = await imagesIn(work.path, { program: "/no/such/mkfs.erofs" });
  const get = (path: string) =>
    images.get(containerWith("c1", { kind: "directory", path }), undefined, signal);
  await Deno.mkdir(`${work.path}/empty`);
  await rejects(get(`${work.path}/empty`), "InvalidArgument", /empty" as a root.*it is empty/);
  await rejects(get(`${work.path}/missing`), "InvalidArgument", /missing".*there is nothing/);
  for (const name of ["Files", "Hives"]) {
    await Deno.mkdir(`${work.path}/win/${name}`, { recursive: true });
  }
  await rejects(get(`${work.path}/win`), "InvalidArgument", /Windows/);
  await Deno.writeTextFile(`${work.path}/text`, "no image");
  await rejects(get(`${work.path}/text`), "InvalidArgument", /no file system image.*erofs or ext4/);
  await Deno.mkdir(`${work.path}/root/bin`, { recursive: true });
  await rejects(get(`${work.path}/root`), "FailedPrecondition", /Debian package erofs-utils/);
  await images.close();
});

Deno.test("an image file that is given is used as it is", async () => {
  await using work = await workspace();
  const images = await imagesIn(work.path);
  await Deno.mkdir(`${work.path}/root/bin`, { recursive: true });
  for (const format of ["erofs", "ext4"] as const) {
    const path = `${work.path}/${format}.img`;
    if (format === "erofs") await run("mkfs.erofs", "--quiet", path, `${work.path}/root`);
    else await run("mkfs.ext4", "-q", "-d", `${work.path}/root`, path, "1m");
    const before = (await Deno.stat(path)).size;
    const spec = containerWith("c1", { kind: "directory", path });
    const image = await images.get(spec, undefined, signal);
    assert.deepEqual([image.path, image.format], [path, format]);
    await image.release();
    assert.equal((await Deno.stat(path)).size, before);
  }
  await images.close();
});

Deno.test("files with holes do not make an image larger than a disk", async () => {
  await using work = await workspace();
  const images = await imagesIn(work.path, { diskBytes: 1 << 20 });
  await Deno.mkdir(`${work.path}/root`);
  await Deno.writeTextFile(`${work.path}/root/hole`, "");
  await Deno.truncate(`${work.path}/root/hole`, 2 << 20);
  const spec = containerWith("c1", { kind: "directory", path: `${work.path}/root` });
  await rejects(
    images.get(spec, undefined, signal),
    "FailedPrecondition",
    /a disk of a machine holds 1048576/,
  );
  assert.deepEqual(await namesIn(`${work.path}/cache/partial`), []);
  await images.close();
});
