import assert from "node:assert/strict";
import { containerSpec, stdioSpec, system } from "../fixture.ts";
import { ERRNO } from "../native/errno.ts";
import { MountTrees } from "../native/mount_trees.ts";
import { OPEN } from "../native/syscalls.ts";
import { passContainer, passExec, placeContainer, placeExec } from "./passed_files.ts";

const calls = { system, trees: new MountTrees(system.libraryPath) };

/** A directory with a root file system and something to mount. */
async function files() {
  const path = await Deno.makeTempDir({ prefix: "quasaur-passed-" });
  await Deno.mkdir(`${path}/rootfs/etc`, { recursive: true });
  await Deno.mkdir(`${path}/volume`);
  await Deno.writeTextFile(`${path}/rootfs/etc/inside`, "inside");
  await Deno.writeTextFile(`${path}/volume/note`, "note");
  await Deno.writeTextFile(`${path}/log`, "");
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

Deno.test("paths become descriptors, and come back as paths below /proc/self/fd", async () => {
  await using there = await files();
  const spec = containerSpec(`${there.path}/rootfs`, ["/x"], {
    mounts: [{ source: `${there.path}/volume`, destination: "/data", readonly: true }],
    stdio: stdioSpec({
      stdout: { kind: "path", path: `${there.path}/log` },
      stderr: { kind: "fd", fd: 2 },
    }),
  });
  using passed = passContainer(calls, spec, []);
  assert.equal(passed.descriptors.length, 4);
  assert.ok(!JSON.stringify(passed.spec).includes(there.path), "no path of the host is told");
  const placed = placeContainer(passed.spec, passed.descriptors);
  const [root, volume, log] = passed.descriptors;
  assert.deepEqual(placed.rootfs, { kind: "directory", path: `/proc/self/fd/${root}` });
  assert.deepEqual(placed.mounts, [
    { source: `/proc/self/fd/${volume}`, destination: "/data", readonly: true },
  ]);
  assert.deepEqual(placed.stdio.stdout, { kind: "path", path: `/proc/self/fd/${log}` });
  assert.deepEqual(placed.stdio.stderr, { kind: "fd", fd: 2 });
  assert.equal(await Deno.readTextFile(`/proc/self/fd/${volume}/note`), "note");
  await assert.rejects(Deno.writeTextFile(`/proc/self/fd/${volume}/more`, ""), /Read-only|EROFS/);
});

Deno.test("from what was passed no path leads out of it", async () => {
  await using there = await files();
  const spec = containerSpec(`${there.path}/rootfs`, ["/x"], {
    mounts: [{ source: `${there.path}/volume`, destination: "/data", readonly: false }],
  });
  using passed = passContainer(calls, spec, []);
  for (const fd of passed.descriptors) {
    for (const path of ["../../../../../../etc/passwd", "../log", "..//..//etc//passwd"]) {
      assert.equal(system.openAt(fd, path, OPEN.readOnly, 0), -ERRNO.ENOENT, path);
    }
  }
});

Deno.test("an exec passes its streams, and nothing stays open", async () => {
  await using there = await files();
  const count = () => [...Deno.readDirSync("/proc/self/fd")].length;
  const before = count();
  const spec = {
    id: "e",
    process: { args: ["/x"], env: [], cwd: "/", user: { uid: 0, gid: 0, additionalGids: [] } },
    stdio: stdioSpec({ stdin: { kind: "path", path: `${there.path}/log` } }),
  };
  {
    using passed = passExec(system, spec);
    const placed = placeExec(passed.spec, passed.descriptors);
    assert.deepEqual(placed.stdio.stdin, {
      kind: "path",
      path: `/proc/self/fd/${passed.descriptors[0]}`,
    });
    assert.deepEqual(placed.stdio.stdout, { kind: "null" });
    assert.throws(() => placeExec(passed.spec, []), /it was not passed/);
    using container = passContainer(calls, containerSpec(`${there.path}/rootfs`, ["/x"]), []);
    assert.equal(container.descriptors.length, 1);
  }
  const missing = stdioSpec({ stdin: { kind: "path", path: `${there.path}/none` } });
  assert.throws(() => passExec(system, { ...spec, stdio: missing }), /cannot open stdin/);
  assert.throws(() => passContainer(calls, containerSpec(`${there.path}/none`, ["/x"]), []));
  assert.equal(count(), before);
});
