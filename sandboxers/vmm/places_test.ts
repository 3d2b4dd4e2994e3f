import assert from "node:assert/strict";
import { MachinePlaces } from "./places.ts";

async function withDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-places-" });
  try {
    await body(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("each machine has a directory and a user of its own", () =>
  withDirectory(async (directory) => {
    const places = new MachinePlaces({ directory: `${directory}/machines`, firstUser: 700_000 });
    const first = await places.make("");
    const second = await places.make("/pod", "/run/x.sock");
    assert.notEqual(first.directory, second.directory);
    assert.notEqual(first.user?.uid, second.user?.uid);
    assert.equal(first.user?.gid, 700_000);
    const { uid, mode } = await Deno.stat(first.directory);
    assert.equal(uid, first.user?.uid);
    assert.equal((mode ?? 0) & 0o777, 0o700);
    await places.free(first);
    await places.free(first);
    await assert.rejects(Deno.stat(first.directory), Deno.errors.NotFound);
  }));

Deno.test("the user of a machine that was taken over is not given away again", () =>
  withDirectory(async (directory) => {
    const places = new MachinePlaces({ directory, firstUser: 700_000 });
    places.keep({
      id: "old",
      directory: `${directory}/old`,
      user: { uid: 700_001, gid: 700_000 },
      cgroup: "",
      sharedTreeSocket: undefined,
    });
    assert.equal((await places.make("")).user?.uid, 700_002);
  }));

Deno.test("what no machine lives in is swept away", () =>
  withDirectory(async (directory) => {
    const places = new MachinePlaces({ directory, firstUser: undefined });
    const used = await places.make("");
    const left = await places.make("");
    assert.equal(used.user, undefined);
    await places.sweep(new Set([used.directory]));
    await Deno.stat(used.directory);
    await assert.rejects(Deno.stat(left.directory), Deno.errors.NotFound);
  }));
