import assert from "node:assert/strict";
import { assertFails } from "../../host/testing/fixture.ts";
import { ensureDirectory, findMountTarget, makeTarget } from "./mount_targets.ts";

/** A root file system, beside a file of the host that is none of its business. */
class Root implements AsyncDisposable {
  private constructor(readonly directory: string) {}

  static async make(): Promise<Root> {
    const root = new Root(await Deno.makeTempDir({ prefix: "quasaur-targets-" }));
    await Deno.mkdir(`${root.path}/run`, { recursive: true });
    await Deno.writeTextFile(`${root.path}/file`, "");
    return root;
  }

  get path(): string {
    return `${this.directory}/rootfs`;
  }

  /** What a path is found to be, without the root before it. */
  async find(destination: string) {
    const { path, kind } = await findMountTarget(this.path, destination);
    return [path.slice(this.path.length), kind];
  }

  async [Symbol.asyncDispose]() {
    await Deno.remove(this.directory, { recursive: true });
  }
}

Deno.test("a place for a mount is found, and the directories above it are made", async () => {
  await using root = await Root.make();
  assert.deepEqual(await root.find("/run"), ["/run", "directory"]);
  assert.deepEqual(await root.find("//run/./"), ["/run", "directory"]);
  assert.deepEqual(await root.find("/file"), ["/file", "file"]);
  assert.deepEqual(await root.find("/a/b/c"), ["/a/b/c", undefined]);
  assert.equal((await Deno.stat(`${root.path}/a/b`)).isDirectory, true);
  await makeTarget(`${root.path}/a/b/c`, "file");
  assert.deepEqual(await root.find("/a/b/c"), ["/a/b/c", "file"]);
  await ensureDirectory(root.path, "/a/d");
  await ensureDirectory(root.path, "/a/d");
  assert.deepEqual(await root.find("/a/d"), ["/a/d", "directory"]);
});

Deno.test("links lead where they lead in the container, and never out of it", async () => {
  await using root = await Root.make();
  await Deno.symlink("/run", `${root.path}/var`);
  await Deno.symlink("../../../../etc", `${root.path}/up`);
  await Deno.symlink("/", `${root.path}/all`);
  await Deno.symlink("run/../file", `${root.path}/alias`);
  assert.deepEqual(await root.find("/var/secrets"), ["/run/secrets", undefined]);
  assert.deepEqual(await root.find("/up/passwd"), ["/etc/passwd", undefined]);
  assert.deepEqual(await root.find("/all/../../file"), ["/file", "file"]);
  assert.deepEqual(await root.find("/alias"), ["/file", "file"]);
  assert.deepEqual(await root.find("/../../run/x"), ["/run/x", undefined]);
});

Deno.test("what can be no place for a mount is refused", async () => {
  await using root = await Root.make();
  await Deno.symlink("loop", `${root.path}/loop`);
  const find = (path: string) => findMountTarget(root.path, path);
  await assertFails(find("/file/x"), "InvalidArgument", /"\/file" is no directory/);
  await assertFails(find("/loop"), "InvalidArgument", /too many links/);
  await assertFails(find("/"), "InvalidArgument", /the container's root/);
  await assertFails(find("/run/.."), "InvalidArgument", /the container's root/);
  await assertFails(find("/x".repeat(600)), "InvalidArgument", /too long/);
  await assertFails(makeTarget(`${root.path}/file`, "directory"), "FailedPrecondition", /file/);
});
