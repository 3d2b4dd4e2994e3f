import assert from "node:assert/strict";
import { copyFile, linkOrCopy } from "./link_or_copy.ts";

const SIZE = 2 ** 30;

/** A directory with a file that is nearly all hole. */
class Place implements AsyncDisposable {
  private constructor(readonly directory: string) {}

  static async make(): Promise<Place> {
    const place = new Place(await Deno.makeTempDir({ prefix: "quasaur-link-" }));
    await Deno.writeTextFile(place.path("image"), "content");
    await Deno.truncate(place.path("image"), SIZE);
    return place;
  }

  path(name: string): string {
    return `${this.directory}/${name}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}

const forever = new AbortController().signal;

Deno.test("a file gets a second name, which stays when the first goes", async () => {
  await using place = await Place.make();
  await linkOrCopy(place.path("image"), place.path("second"), forever);
  const { ino } = await Deno.stat(place.path("image"));
  assert.equal((await Deno.stat(place.path("second"))).ino, ino);
  await Deno.remove(place.path("image"));
  assert.equal((await Deno.stat(place.path("second"))).size, SIZE);
});

Deno.test("a copy has its holes, and does not change with the file", async () => {
  await using place = await Place.make();
  await copyFile(place.path("image"), place.path("copy"), forever);
  await Deno.writeTextFile(place.path("image"), "changed");
  const { size, blocks, mode } = await Deno.stat(place.path("copy"));
  assert.equal(size, SIZE);
  assert.ok((blocks ?? 0) * 512 < 2 ** 20, `it takes ${blocks} blocks`);
  assert.equal((mode ?? 0) & 0o777, 0o440);
  using file = await Deno.open(place.path("copy"));
  const head = new Uint8Array(7);
  await file.read(head);
  assert.equal(new TextDecoder().decode(head), "content");
});

Deno.test("a file that is not there is named, and nothing is left", async () => {
  await using place = await Place.make();
  await assert.rejects(linkOrCopy(place.path("none"), place.path("second"), forever), {
    code: "NotFound",
    message: /^cannot link ".*none" to ".*second"/,
  });
  await assert.rejects(copyFile(place.path("none"), place.path("copy"), forever), {
    message: /none/,
  });
  const given = AbortSignal.abort();
  await assert.rejects(copyFile(place.path("image"), place.path("copy"), given), {
    code: "Cancelled",
  });
  const names = (await Array.fromAsync(Deno.readDir(place.directory))).map(({ name }) => name);
  assert.deepEqual(names, ["image"]);
});
