import assert from "node:assert/strict";
import { hiddenPaths } from "./hidden_paths.ts";

Deno.test("paths to hide and to protect become mounts, where there is something", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-hidden-" });
  const [rootfs, empty] = [`${directory}/rootfs`, `${directory}/empty`];
  try {
    await Deno.mkdir(`${rootfs}/some/dir`, { recursive: true });
    await Deno.writeTextFile(`${rootfs}/some/note`, "secret");
    await Deno.symlink("some", `${rootfs}/link`);
    const mountsOf = (linux: Record<string, string[]>) =>
      hiddenPaths({ mounts: [{ destination: "/data/" }], linux }, { rootfs, empty });
    const own = ["/proc/kcore", "/sys/firmware", "/dev/x", "/data/x", "/missing", "/some/note/x"];
    assert.deepEqual(await mountsOf({ maskedPaths: own, readonlyPaths: ["/proc/sys", "/"] }), []);
    await assert.rejects(Deno.stat(empty), Deno.errors.NotFound);
    const mounts = await mountsOf({
      maskedPaths: ["/some/note", "//some/./dir/"],
      readonlyPaths: ["/some", "/some/dir"],
    });
    assert.deepEqual(mounts, [
      { destination: "/some", type: "bind", source: `${rootfs}/some`, options: ["rbind", "ro"] },
      { destination: "/some/note", type: "bind", source: empty, options: ["rbind", "ro"] },
      { destination: "/some/dir", type: "tmpfs", options: ["ro"] },
    ]);
    assert.equal((await Deno.stat(empty)).size, 0);
    for (const path of ["/link/note", "/some/../note", "note"]) {
      await assert.rejects(mountsOf({ maskedPaths: [path] }), { code: "FailedPrecondition" }, path);
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
