/**
 * The files of containers: mounts for real, as root, in temporary directories.
 *
 * @module
 */

import assert from "node:assert/strict";
import { SandboxError } from "../lifecycle/errors.ts";
import type { BindMountSpec, ContainerSpec, RootfsSpec } from "../lifecycle/spec.ts";
import { type ContainerFiles, openFiles } from "./files.ts";
import { containerSpec, system, usage } from "./fixture.ts";
import { SystemMounter } from "./mounter.ts";
import { MountTrees } from "./native/mount_trees.ts";
import { OPEN, RESOLVE_IN_ROOT } from "./native/syscalls.ts";

const trees = new MountTrees(system.libraryPath);
const mounter = new SystemMounter();
const calls = { system, trees };

/** A directory with an image, something to mount, and a place for a root file system. */
async function workspace() {
  const path = await Deno.makeTempDir({ prefix: "quasaur-files-" });
  for (const name of ["image/etc", "rootfs", "data/below", "outside"]) {
    await Deno.mkdir(`${path}/${name}`, { recursive: true });
  }
  await Deno.writeTextFile(`${path}/image/etc/hosts`, "the image's");
  await Deno.writeTextFile(`${path}/hosts`, "the pod's");
  await Deno.writeTextFile(`${path}/data/seen`, "data");
  const rootfs = { kind: "mounts", target: `${path}/rootfs`, mounts: [] } as const;
  const bind = { type: "bind", source: `${path}/image`, options: ["rbind", "rw"] };
  await mounter.mount([bind], rootfs.target);
  return {
    path,
    rootfs,
    image: `${path}/image`,
    [Symbol.asyncDispose]: async () => {
      await mounter.unmount(rootfs.target);
      assert.equal(await mountsBelow(path), 0, "no mount is left");
      await Deno.remove(path, { recursive: true });
    },
  };
}

async function mountsBelow(path: string): Promise<number> {
  const lines = (await Deno.readTextFile("/proc/self/mountinfo")).split("\n");
  return lines.filter((line) => line.split(" ")[4]?.startsWith(path)).length;
}

function spec(
  rootfs: RootfsSpec,
  mounts: readonly BindMountSpec[],
  more: Partial<ContainerSpec> = {},
): ContainerSpec {
  return containerSpec("", ["/hello.wasm"], { rootfs, mounts, ...more });
}

function mount(source: string, destination: string, readonly = false): BindMountSpec {
  return { source, destination, readonly };
}

/** What is in a file as a guest sees it, or the negative error number. */
async function read(files: ContainerFiles, guestPath: string, path: string) {
  const fd = open(files, guestPath, path, OPEN.readOnly);
  if (fd < 0) return fd;
  const text = new TextDecoder().decode(await system.readFile(fd, 100));
  system.close(fd);
  return text;
}

/** 0 for a file that can be opened for writing, else the negative error number. */
function writable(files: ContainerFiles, guestPath: string, path: string): number {
  const fd = open(files, guestPath, path, OPEN.writeOnly);
  if (fd >= 0) system.close(fd);
  return Math.min(fd, 0);
}

function open(files: ContainerFiles, guestPath: string, path: string, flags: number): number {
  const preopen = files.preopens.find((directory) => directory.guestPath === guestPath);
  assert.ok(preopen !== undefined, guestPath);
  return system.openAt(preopen.fd, path, flags, RESOLVE_IN_ROOT);
}

function refused(action: () => unknown, code: string, words: RegExp): void {
  assert.throws(action, (error: unknown) => {
    assert.ok(error instanceof SandboxError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, words);
    return true;
  });
}

const EROFS = -30;
const EACCES = -13;

Deno.test("a file is mounted over the image's, and read-only where asked", async () => {
  await using work = await workspace();
  const { path, rootfs } = work;
  using files = openFiles(
    calls,
    spec(rootfs, [
      mount(`${path}/hosts`, "/etc/hosts", true),
      mount(`${path}/hosts`, "/etc/also", false),
    ]),
  );
  assert.equal(await read(files, "/", "etc/hosts"), "the pod's");
  assert.equal(writable(files, "/", "etc/hosts"), EROFS);
  assert.equal(writable(files, "/", "etc/also"), 0);
  assert.equal(await Deno.readTextFile(`${work.image}/etc/hosts`), "the image's");
});

Deno.test("what is missing at a mount's place is made", async () => {
  await using work = await workspace();
  const { path, rootfs, image } = work;
  using files = openFiles(calls, spec(rootfs, [mount(`${path}/hosts`, "/deep/er//file")]));
  assert.equal(await read(files, "/", "deep/er/file"), "the pod's");
  assert.equal(await Deno.readTextFile(`${image}/deep/er/file`), "");
  assert.equal((await Deno.stat(`${image}/deep/er`)).mode, 0o40755);
});

Deno.test("links of an image lead neither a mount nor what is made for it out of the image", async () => {
  await using work = await workspace();
  const { path, rootfs, image } = work;
  await Deno.writeTextFile(`${path}/outside/file`, "outside");
  await Deno.symlink(`${path}/outside`, `${image}/absolute`);
  await Deno.symlink("../../outside", `${image}/relative`);
  await Deno.symlink(`${path}/outside/new`, `${image}/file`);
  await Deno.symlink("/etc", `${image}/inside`);
  const before = usage();
  const at = (destination: string) =>
    openFiles(calls, spec(rootfs, [mount(`${path}/hosts`, destination)]));
  // Inside, these links lead nowhere.
  refused(() => at("/absolute/file"), "NotFound", /cannot make "absolute": ENOENT/);
  refused(() => at("/relative/file"), "NotFound", /cannot make "relative": ENOENT/);
  refused(() => at("/file"), "NotFound", /cannot make an empty file there: ENOENT/);
  refused(() => at("/absolute/new/file"), "NotFound", /cannot make "absolute": ENOENT/);
  using files = at("/inside/hosts");
  assert.equal(await read(files, "/", "etc/hosts"), "the pod's");
  const names = await Array.fromAsync(Deno.readDir(`${path}/outside`), ({ name }) => name);
  assert.deepEqual(names, ["file"]);
  assert.equal(await Deno.readTextFile(`${path}/outside/file`), "outside");
  assert.equal(usage().fds, before.fds + 1);
});

Deno.test("a mount that cannot be is refused by name, and nothing stays open", async () => {
  await using work = await workspace();
  const { path, rootfs } = work;
  const directory: RootfsSpec = { kind: "directory", path: work.image };
  const before = usage();
  const at = (destination: string, source = `${path}/hosts`, root: RootfsSpec = rootfs) => () =>
    openFiles(calls, spec(root, [mount(source, destination)]));
  refused(at("/etc"), "InvalidArgument", /hosts" at "\/etc": there is a directory in the image/);
  refused(at("/etc/hosts/x"), "InvalidArgument", /at "\/etc\/hosts\/x": ENOTDIR/);
  refused(at("/a/../../b"), "InvalidArgument", /expected an absolute path without "\.\."/);
  refused(at("/a", `${path}/gone`), "NotFound", /mount source ".*gone": ENOENT/);
  refused(
    at("/new", undefined, directory),
    "FailedPrecondition",
    /no such file in the container.*create an empty file there/,
  );
  refused(
    () =>
      openFiles(
        { system, trees: undefined },
        spec(directory, [mount(`${path}/hosts`, "/etc/hosts")]),
      ),
    "PermissionDenied",
    /takes root: mount the directory that holds it/,
  );
  assert.equal(usage().fds, before.fds);
});

Deno.test("a file in a directory of the caller's is mounted for the guests only", async () => {
  await using work = await workspace();
  const { path, image } = work;
  const rootfs: RootfsSpec = { kind: "directory", path: image };
  using files = openFiles(calls, spec(rootfs, [mount(`${path}/hosts`, "/etc/hosts")]));
  assert.equal(await read(files, "/", "etc/hosts"), "the pod's");
  assert.equal(await Deno.readTextFile(`${image}/etc/hosts`), "the image's");
  assert.equal(await mountsBelow(image), 0);
});

Deno.test("a file can be mounted in a directory that is mounted itself", async () => {
  await using work = await workspace();
  const { path, rootfs } = work;
  using files = openFiles(
    calls,
    spec(rootfs, [
      mount(`${path}/data`, "/data"),
      mount(`${path}/hosts`, "/data/seen"),
      mount(`${path}/hosts`, "/data/below/new"),
    ]),
  );
  assert.equal(await read(files, "/data", "seen"), "the pod's");
  assert.equal(await read(files, "/data", "below/new"), "the pod's");
  assert.equal(await Deno.readTextFile(`${path}/data/seen`), "data");
});

Deno.test("the kernel holds what is read-only, but for files that are mounted writable", async () => {
  await using work = await workspace();
  const { path, rootfs } = work;
  using files = openFiles(
    calls,
    spec(rootfs, [
      mount(`${path}/data`, "/data", true),
      mount(`${path}/hosts`, "/dev/termination-log"),
    ], { readonlyRootfs: true }),
  );
  assert.equal(writable(files, "/", "etc/hosts"), EROFS);
  assert.equal(writable(files, "/data", "seen"), EROFS);
  assert.equal(writable(files, "/", "dev/termination-log"), 0);
  const flags = files.preopens.map(({ guestPath, readonly }) => [guestPath, readonly]);
  assert.deepEqual(flags, [["/", false], ["/data", true]]);
  // The host's own view of the mounted directory stays writable.
  await Deno.writeTextFile(`${path}/data/seen`, "changed");
  assert.equal(await read(files, "/data", "seen"), "changed");
});

Deno.test("devices of images and of mounted directories cannot be opened", async () => {
  await using work = await workspace();
  const { path, rootfs, image } = work;
  for (const place of [`${image}/null`, `${path}/data/null`, `${path}/null`]) {
    const command = new Deno.Command("mknod", { args: ["-m", "666", place, "c", "1", "3"] });
    assert.ok((await command.output()).success);
  }
  const mounts = [mount(`${path}/data`, "/data"), mount(`${path}/null`, "/file")];
  for (const root of [rootfs, { kind: "directory", path: image } as const]) {
    using files = openFiles(calls, spec(root, mounts));
    assert.equal(await read(files, "/", "null"), EACCES);
    assert.equal(await read(files, "/data", "null"), EACCES);
    assert.equal(await read(files, "/", "file"), EACCES);
  }
  const lines = (await Deno.readTextFile("/proc/self/mountinfo")).split("\n");
  for (const place of [rootfs.target, `${rootfs.target}/file`]) {
    const line = lines.find((text) => text.split(" ")[4] === place);
    assert.match(line ?? "", / rw,nosuid,nodev,noexec,/, place);
  }
  using host = await Deno.open(`${image}/null`);
  assert.equal(await host.read(new Uint8Array(1)), null);
});

Deno.test("unmounting takes the mounted files along, also where guests still run", async () => {
  await using work = await workspace();
  const { path, rootfs } = work;
  const mounts = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].map((destination) =>
    mount(`${path}/hosts`, destination)
  );
  using _files = openFiles(calls, spec(rootfs, mounts));
  assert.equal(await mountsBelow(path), 4);
  await mounter.unmount(rootfs.target);
  assert.equal(await mountsBelow(path), 0);
});
