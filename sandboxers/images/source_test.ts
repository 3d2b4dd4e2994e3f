import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { imageArchive, wasmImage } from "../../tests/support/oci_image.ts";
import { readManifest } from "./manifest.ts";
import { findSource } from "./source.ts";
import { temporaryDirectory } from "./testing/memory_image.ts";

const encoder = new TextEncoder();
const nowhere = { containerd: { address: "/nowhere/containerd.sock" } };

Deno.test("what is to be run is told by what is there", async () => {
  await using directory = await temporaryDirectory();
  const at = (name: string) => `${directory.path}/${name}`;
  const disk = (offset: number, magic: readonly number[]) => {
    const bytes = new Uint8Array(4_096);
    bytes.set(magic, offset);
    return bytes;
  };
  await Deno.writeFile(at("module"), encoder.encode("\0asm\x01\0\0\0"));
  await Deno.writeFile(at("erofs"), disk(1_024, [0xe2, 0xe1, 0xf5, 0xe0]));
  await Deno.writeFile(at("ext4"), disk(1_080, [0x53, 0xef]));
  await Deno.writeFile(at("text"), encoder.encode("text"));
  await Deno.writeFile(at("empty"), new Uint8Array());
  await Deno.mkdir(at("rootfs"));
  await Deno.mkdir(at("layout/blobs"), { recursive: true });
  await Deno.writeTextFile(at("layout/index.json"), "{}");
  await Deno.writeFile(at("image"), await imageArchive(wasmImage("a", new Uint8Array(9))));
  const kinds = {
    module: "module",
    erofs: "disk",
    ext4: "disk",
    text: "file",
    empty: "file",
    rootfs: "rootfs",
    layout: "image",
    image: "image",
  };
  for (const [name, kind] of Object.entries(kinds)) {
    assert.equal((await findSource(at(name), nowhere)).kind, kind, name);
  }
});

Deno.test("a compressed archive is read like one that is not, and leaves nothing", async () => {
  await using directory = await temporaryDirectory();
  const archive = await imageArchive(wasmImage("a", new Uint8Array(9)));
  await Deno.writeFile(`${directory.path}/a.tar`, archive);
  await Deno.writeFile(`${directory.path}/a.tar.gz`, gzipSync(archive));
  await Deno.writeFile(`${directory.path}/cut.tar.gz`, gzipSync(archive).subarray(0, 400));
  const digests: string[] = [];
  for (const name of ["a.tar", "a.tar.gz"]) {
    const source = await findSource(`${directory.path}/${name}`, {
      temporaryDirectory: () => Promise.resolve(directory.path),
    });
    assert.ok(source.kind === "image");
    await using content = await source.open();
    digests.push((await readManifest(content)).digest);
  }
  assert.equal(digests[0], digests[1]);
  const cut = await findSource(`${directory.path}/cut.tar.gz`);
  assert.ok(cut.kind === "image");
  await assert.rejects(cut.open(), { code: "InvalidArgument", message: /cut\.tar\.gz/ });
  const left = (await Array.fromAsync(Deno.readDir(directory.path))).map(({ name }) => name);
  assert.deepEqual(left.sort(), ["a.tar", "a.tar.gz", "cut.tar.gz"]);
});

Deno.test("names that are nothing here say what is missing", async () => {
  const cases: [string, string, RegExp][] = [
    ["./none", "NotFound", /cannot read "\.\/none": there is no such file/],
    ["none.tar.gz", "NotFound", /there is no such file/],
    ["some/image:1", "Unavailable", /no such file or directory, and no containerd answers/],
    ["containerd://some/image", "Unavailable", /no containerd answers at "\/nowhere/],
    ["docker://image", "InvalidArgument", /not fetched by docker here.*ctr images pull/],
    ["a b", "InvalidArgument", /expected the name of an image/],
    ["containerd://", "InvalidArgument", /expected the name of an image/],
  ];
  for (const [name, code, message] of cases) {
    await assert.rejects(findSource(name, nowhere), { code, message });
  }
});
