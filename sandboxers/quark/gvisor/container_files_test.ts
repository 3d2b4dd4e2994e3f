import assert from "node:assert/strict";
import type { BindMount } from "../../host/mounter.ts";
import { type JsonObject, objectsOf } from "../../oci/json.ts";
import { ContainerFiles, unmountContainers } from "./container_files.ts";

/** Mounts nothing, and remembers what it was asked for. */
class FakeMounter {
  readonly mounted = new Map<string, BindMount>();

  bind(mounts: readonly BindMount[]): Promise<void> {
    for (const mount of mounts) this.mounted.set(mount.target, mount);
    return Promise.resolve();
  }

  unmountAll(targets: readonly string[]): Promise<void> {
    for (const target of targets) this.mounted.delete(target);
    return Promise.resolve();
  }
}

/** A pod's directory, for one test. */
async function withPod(
  work: (mounter: FakeMounter, directory: string) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-pod-" });
  try {
    await work(new FakeMounter(), directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const bind = (destination: string, option: string): JsonObject => ({
  destination,
  type: "bind",
  source: `/srv${destination}`,
  options: ["rbind", option],
});

Deno.test("what a container may only read is read-only for the host's kernel too", () =>
  withPod(async (mounter, directory) => {
    const files = new ContainerFiles(directory, "c1", mounter);
    const mounts = [bind("/ro", "ro"), bind("/rw", "rw"), { destination: "/tmp", type: "tmpfs" }];
    const config = await files.protect({ mounts });
    const [readonly, ...others] = objectsOf(config, "mounts");
    assert.deepEqual(others, mounts.slice(1));
    const [mount, ...more] = mounter.mounted.values();
    assert.deepEqual(more, []);
    assert.deepEqual(mount, {
      source: "/srv/ro",
      target: readonly?.["source"],
      readonly: true,
      recursive: true,
    });
    await files.remove();
    assert.equal(mounter.mounted.size, 0);
  }));

Deno.test("a container with nothing read-only mounts nothing", () =>
  withPod(async (mounter, directory) => {
    const config = { mounts: [bind("/rw", "rw")] };
    assert.equal(await new ContainerFiles(directory, "c1", mounter).protect(config), config);
    assert.equal(mounter.mounted.size, 0);
  }));

Deno.test("what containers of a pod have mounted is unmounted, whoever mounted it", () =>
  withPod(async (mounter, directory) => {
    for (const id of ["c1", "c2"]) {
      await new ContainerFiles(directory, id, mounter).protect({ mounts: [bind("/ro", "ro")] });
    }
    assert.equal(mounter.mounted.size, 2);
    await unmountContainers(directory, mounter);
    assert.equal(mounter.mounted.size, 0);
    await unmountContainers(`${directory}/nothing`, mounter);
  }));

Deno.test("that a container is paused is known to the next sandboxer", () =>
  withPod(async (mounter, directory) => {
    const files = new ContainerFiles(directory, "c1", mounter);
    await files.write({});
    assert.equal(await files.isPaused(), false);
    await files.notePaused();
    assert.equal(await new ContainerFiles(directory, "c1", mounter).isPaused(), true);
    await files.noteResumed();
    await files.noteResumed();
    assert.equal(await files.isPaused(), false);
  }));
