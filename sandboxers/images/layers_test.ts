import assert from "node:assert/strict";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { DEFAULT_HOST_LAUNCHER_PATH } from "../host/launcher_file.ts";
import { unpackLayers, type UnpackOptions } from "./layers.ts";
import { readManifest } from "./manifest.ts";
import { NO_ATTRIBUTES } from "./tar.ts";
import {
  layer,
  type MemberOptions,
  MemoryImage,
  type MemoryImageOptions,
  temporaryDirectory,
} from "./testing/memory_image.ts";
import { Unpacker } from "./unpacker.ts";

const isRoot = Deno.uid() === 0;

/** Unpacks an image into a directory of its own, with another beside it that nobody may touch. */
async function unpack(
  { layers, ...image }: Omit<MemoryImageOptions, "layers"> & {
    readonly layers: readonly (readonly MemberOptions[])[];
  },
  look: (root: string, victim: string) => Promise<void> | void = () => undefined,
  options: Partial<UnpackOptions> = {},
): Promise<void> {
  await using directory = await temporaryDirectory();
  const root = `${directory.path}/root`;
  const victim = `${directory.path}/victim`;
  await Deno.mkdir(root);
  await Deno.mkdir(victim);
  await Deno.writeTextFile(`${victim}/secret`, "untouched");
  await Deno.chmod(victim, 0o750);
  const content = new MemoryImage({ ...image, layers: layers.map(layer) });
  const manifest = await readManifest(content);
  try {
    const signal = new AbortController().signal;
    await unpackLayers(content, manifest, root, { signal, ...options });
    await look(root, victim);
  } finally {
    assert.equal(await Deno.readTextFile(`${victim}/secret`), "untouched");
    assert.equal((await Deno.stat(victim)).mode ?? 0 & 0o777, 0o40750);
    assert.deepEqual((await Array.fromAsync(Deno.readDir(victim))).map(({ name }) => name), [
      "secret",
    ]);
  }
}

/** The text of a file, without following it out. */
async function textOf(path: string): Promise<string> {
  assert.ok((await Deno.lstat(path)).isFile, path);
  return await Deno.readTextFile(path);
}

async function names(path: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(path))).map(({ name }) => name).sort();
}

async function isMissing(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => false, () => true);
}

const directory = (path: string, mode = 0o755): MemberOptions => ({ type: "5", path, mode });
const symlink = (path: string, target: string): MemberOptions => ({ type: "2", path, target });
const whiteout = (path: string): MemberOptions => ({ path, data: "" });

Deno.test("files come with their modes, times, links and directories", async () => {
  const members: MemberOptions[] = [
    { type: "5", path: "./", mode: 0o711, mtime: 5 },
    { type: "5", path: "bin/", mode: 0o1777, mtime: 1_000 },
    { path: "./bin/tool", data: "tool", mode: 0o4755, mtime: 2_000, pax: { mtime: "2000.5" } },
    { path: "deep/er/without/parents", data: "deep" },
    symlink("bin/link", "tool"),
    symlink("dangling", "../../nowhere"),
    { type: "1", path: "hard", target: "./bin/tool" },
    { type: "6", path: "fifo", mode: 0o600 },
    { path: "with ümlaut", data: "x".repeat(300_000) },
    { path: "empty" },
  ];
  await unpack({ layers: [members] }, async (root) => {
    const tool = await Deno.lstat(`${root}/bin/tool`);
    assert.equal(tool.mode, 0o104755);
    assert.equal(tool.mtime?.getTime(), 2_000_500);
    assert.equal(tool.nlink, 2);
    assert.equal((await Deno.lstat(`${root}/hard`)).ino, tool.ino);
    const bin = await Deno.lstat(`${root}/bin`);
    assert.equal(bin.mode, 0o41777);
    assert.equal(bin.mtime?.getTime(), 1_000_000, "what was made in it came later");
    assert.equal((await Deno.lstat(root)).mode, 0o40711);
    assert.equal((await Deno.lstat(root)).mtime?.getTime(), 5_000);
    assert.equal(await Deno.readLink(`${root}/bin/link`), "tool");
    assert.equal(await Deno.readLink(`${root}/dangling`), "../../nowhere");
    assert.equal(await textOf(`${root}/deep/er/without/parents`), "deep");
    assert.equal((await textOf(`${root}/with ümlaut`)).length, 300_000);
    assert.equal((await Deno.lstat(`${root}/empty`)).size, 0);
    assert.equal((await Deno.lstat(`${root}/fifo`)).isFifo, true);
  });
});

Deno.test({
  name: "root gives files their owners, and makes harmless devices only",
  ignore: !isRoot,
  fn: async () => {
    const members: MemberOptions[] = [
      { path: "file", owner: [1000, 2000], mode: 0o2755 },
      { ...symlink("link", "file"), owner: [7, 8] },
      { path: "many", pax: { uid: "3000000", gid: "4000000" } },
      { type: "3", path: "null", device: [1, 3], mode: 0o666 },
      { type: "3", path: "whiteout", device: [0, 0] },
      { type: "4", path: "disk", device: [8, 0] },
    ];
    await unpack({ layers: [members] }, async (root) => {
      const owner = async (name: string) => {
        const { uid, gid } = await Deno.lstat(`${root}/${name}`);
        return [uid, gid];
      };
      assert.deepEqual(await owner("file"), [1000, 2000]);
      assert.equal((await Deno.lstat(`${root}/file`)).mode, 0o102755);
      assert.deepEqual(await owner("link"), [7, 8]);
      assert.deepEqual(await owner("many"), [3_000_000, 4_000_000]);
      assert.deepEqual(await names(root), ["file", "link", "many", "null"]);
      assert.equal((await Deno.lstat(`${root}/null`)).isCharDevice, true);
    });
  },
});

Deno.test("layers are read however they are compressed, also in several parts", async () => {
  const parts = (bytes: Uint8Array) => {
    const middle = bytes.length >> 1;
    return new Uint8Array([
      ...gzipSync(bytes.subarray(0, middle)),
      ...gzipSync(bytes.subarray(middle)),
    ]);
  };
  for (const store of [gzipSync, zstdCompressSync, parts, (bytes: Uint8Array) => bytes]) {
    await unpack({ layers: [[{ path: "a", data: "b" }]], store }, async (root) => {
      assert.equal(await textOf(`${root}/a`), "b");
    });
  }
});

Deno.test("an upper layer replaces, removes and hides what lies below, wherever it says so", async () => {
  const layers: MemberOptions[][] = [
    [
      ...["same", "gone", "d/old", "d/sub/old", "e/old", "f/old", "h/keep"].map((path) => ({
        path,
        data: "lower",
      })),
      symlink("link", "same"),
    ],
    [
      { path: "same", data: "upper" },
      whiteout(".wh.gone"),
      whiteout(".wh.never-there"),
      whiteout("no/such/.wh.file"),
      { path: "d/new", data: "upper" },
      { path: "d/sub/new", data: "upper" },
      whiteout("d/.wh..wh..opq"),
      whiteout(".wh.e"),
      { path: "e/again", data: "upper" },
      { path: "f", data: "no directory any more" },
      { path: "link", data: "no link any more" },
      whiteout("h/.wh..wh.aufs"),
      directory("h", 0o700),
    ],
  ];
  await unpack({ layers }, async (root) => {
    assert.deepEqual(
      await names(root),
      ["d", "e", "f", "h", "link", "same"].concat(
        (await names(root)).includes("no") ? ["no"] : [],
      ).sort(),
    );
    assert.equal(await textOf(`${root}/same`), "upper");
    assert.deepEqual(await names(`${root}/d`), ["new", "sub"]);
    assert.deepEqual(await names(`${root}/d/sub`), ["new"]);
    assert.deepEqual(await names(`${root}/e`), ["again"]);
    assert.equal(await textOf(`${root}/f`), "no directory any more");
    assert.equal(await textOf(`${root}/link`), "no link any more");
    assert.deepEqual(await names(`${root}/h`), ["keep"]);
    assert.equal((await Deno.lstat(`${root}/h`)).mode, 0o40700);
  });
});

Deno.test("links of a layer lead nowhere out of it, whatever is done through them", async () => {
  await using outside = await temporaryDirectory();
  await Deno.writeTextFile(`${outside.path}/secret`, "untouched");
  const absolute = outside.path;
  const relative = `../../../../../../../..${outside.path}`;
  for (const target of [absolute, relative]) {
    const layers: MemberOptions[][] = [
      [symlink("out", target), symlink("to-file", `${target}/secret`), directory("place")],
      [
        { path: "out/evil", data: "inside" },
        { path: "to-file", data: "replaced" },
        { type: "1", path: "hard", target: "out/evil" },
        directory("out/sub"),
        symlink("place", target),
        { path: "place/second", data: "inside" },
      ],
      [whiteout("out/.wh.secret"), whiteout("place/.wh..wh..opq"), { path: "out/third" }],
    ];
    await unpack({ layers }, async (root) => {
      assert.equal(await textOf(`${root}/hard`), "inside");
      assert.equal(await textOf(`${root}/to-file`), "replaced");
      assert.equal(await textOf(`${root}${absolute}/third`), "");
      assert.ok(await isMissing(`${root}${absolute}/evil`), "hidden by the third layer");
    });
    assert.deepEqual(await names(outside.path), ["secret"]);
    assert.equal(await Deno.readTextFile(`${outside.path}/secret`), "untouched");
  }
});

Deno.test("a hard link to a file of the host is refused", async () => {
  await using outside = await temporaryDirectory();
  await Deno.writeTextFile(`${outside.path}/secret`, "untouched");
  const layers = [[
    symlink("out", outside.path),
    { type: "1", path: "stolen", target: "out/secret" },
  ]];
  await assert.rejects(unpack({ layers }), { message: /cannot make "stolen"/ });
});

Deno.test("paths that lead out are refused, and so is what no layer has", async () => {
  const cases: [MemberOptions, RegExp][] = [
    [{ path: "../evil" }, /path "\.\.\/evil" leads out of it/],
    [{ path: "a/../../evil" }, /leads out of it/],
    [{ path: "x", pax: { path: "/../evil" } }, /leads out of it/],
    [{ type: "1", path: "h", target: "../victim/secret" }, /link target .* leads out of it/],
    [{ type: "1", path: "h", target: "" }, /cannot make "h"/],
    [{ type: "2", path: "l", target: "" }, /link "l" leads nowhere/],
    [{ path: "a/.wh." }, /removes nothing that has a name/],
    [{ path: "a/.wh..." }, /removes nothing that has a name/],
    [{ path: "a/.wh.." }, /removes nothing that has a name/],
    [{ type: "7x", path: "c" }, /./],
    [{ type: "Z", path: "strange" }, /"strange" is of a kind that layers do not have/],
    [{ type: "S", path: "sparse" }, /holes/],
    [{ path: "x", pax: { "GNU.sparse.major": "1" } }, /holes/],
    [{ path: "x", pax: { size: "-1" } }, /has no size/],
    [{ path: "x", pax: { uid: "-1" } }, /no owner or mode that makes sense/],
    [{ path: "x", pax: { path: "a\0b" } }, /has a NUL/],
    [{ path: "", data: "root is no file" }, /root is no directory/],
    [{ path: "d", pax: { path: "d/".repeat(201) } }, /too long/],
    [{ path: "d", pax: { path: "d".repeat(4_000) } }, /too long/],
    [{ path: "d", pax: { path: "d".repeat(300) } }, /cannot make "ddd.*: ENAMETOOLONG/],
  ];
  for (const [member, message] of cases) {
    if (member.type === "7x") continue;
    await assert.rejects(unpack({ layers: [[member]] }), { code: "InvalidArgument", message });
  }
});

Deno.test("links cannot make paths that are too deep to remove", async () => {
  const step = "d/".repeat(190);
  const layers = [[
    { path: "x", pax: { path: `${step}file` } },
    { type: "2", path: "l", target: "x", pax: { linkpath: step.slice(0, -1) } },
    { path: "x", pax: { path: `l/${step}file` } },
  ]];
  await assert.rejects(unpack({ layers }), { message: /ENAMETOOLONG/ });
});

Deno.test("an image that is too large is refused before it fills the disk", async () => {
  const many = Array.from({ length: 50 }, (_, i) => ({ path: `f${i}` }));
  const limits = { bytesMax: 1_000_000, entriesMax: 1_000 };
  const cases: [MemberOptions[], typeof limits, RegExp][] = [
    [many, { ...limits, entriesMax: 49 }, /more than 49 files/],
    [[{ path: "zeros", data: new Uint8Array(2_000_000) }], limits, /more than 1000000 bytes/],
  ];
  for (const [members, limit, message] of cases) {
    const code = "ResourceExhausted";
    await assert.rejects(unpack({ layers: [members] }, undefined, { limits: limit }), {
      code,
      message,
    });
  }
  // Zeros without end behind the archive.
  const store = (bytes: Uint8Array) => gzipSync(new Uint8Array([...bytes, ...new Uint8Array(2e6)]));
  await assert.rejects(unpack({ layers: [[]], store }, undefined, { limits }), {
    message: /more than 1000000 bytes/,
  });
});

Deno.test("an image of many directories with long paths takes little memory", async () => {
  await using directory = await temporaryDirectory();
  const launcherPath = `${directory.path}/launcher`;
  const script = `#!/bin/sh\nulimit -v 110000\nexec "${DEFAULT_HOST_LAUNCHER_PATH}" "$@"\n`;
  await Deno.writeTextFile(launcherPath, script, { mode: 0o755 });
  await Deno.mkdir(`${directory.path}/root`);
  const path = Array.from({ length: 14 }, () => "d".repeat(240)).join("/");
  const { signal } = new AbortController();
  await using unpacker = new Unpacker(`${directory.path}/root`, signal, launcherPath);
  const attributes = { ...NO_ATTRIBUTES, mode: 0o755 };
  for (let i = 0; i < 35_000; i++) {
    await unpacker.record({ kind: "directory", path, attributes });
  }
  await unpacker.finish();
});

Deno.test("content that is not what its digest says is refused", async () => {
  const layers = [layer([{ path: "a", data: "b" }])];
  const damages: [Partial<MemoryImageOptions>, (image: MemoryImage) => void, RegExp][] = [
    [{}, (image) => change(image, (bytes) => bytes.fill(1, 20, 30)), /damaged|incorrect|invalid/],
    [
      { store: (bytes) => bytes },
      (image) => change(image, (bytes) => bytes.fill(0x78, 512, 513)),
      /content of sha256:\w+ is damaged/,
    ],
    [{}, (image) => change(image, (bytes) => bytes.subarray(0, bytes.length - 9)), /./],
    [{}, (image) => change(image, (bytes) => new Uint8Array([...bytes, 0])), /longer than/],
    [{ diffIds: [`sha256:${"0".repeat(64)}`] }, () => undefined, /its configuration says/],
    [{ layerType: "text/plain" }, () => undefined, /of type "text\/plain" are unknown/],
  ];
  for (const [options, damage, message] of damages) {
    await using directory = await temporaryDirectory();
    const image = new MemoryImage({ layers, ...options });
    const manifest = await readManifest(image);
    damage(image);
    const signal = new AbortController().signal;
    await assert.rejects(unpackLayers(image, manifest, directory.path, { signal }), { message });
  }
});

/** Changes the first layer of an image, whose digest stays. */
function change(image: MemoryImage, how: (bytes: Uint8Array) => Uint8Array): void {
  const [digest, bytes] = [...image.blobs][0] ?? ["", new Uint8Array()];
  image.blobs.set(digest, new Uint8Array(how(bytes.slice())));
}

Deno.test("a layer that is a module by itself becomes a file", async () => {
  await using directory = await temporaryDirectory();
  const layerType = "application/vnd.wasm.content.layer.v1+wasm";
  const bytes = new TextEncoder().encode("\0asm\x01\0\0\0");
  const config = { Entrypoint: ["app.wasm"] };
  const store = (plain: Uint8Array) => plain;
  const image = new MemoryImage({ layers: [bytes], layerType, config, store, diffIds: [] });
  const signal = new AbortController().signal;
  await unpackLayers(image, await readManifest(image), directory.path, { signal });
  assert.deepEqual(await names(directory.path), ["app.wasm"]);
  assert.deepEqual(await Deno.readFile(`${directory.path}/app.wasm`), bytes);
});

Deno.test("unpacking tells how far it is, and ends when it is given up", async () => {
  await using directory = await temporaryDirectory();
  const data = crypto.getRandomValues(new Uint8Array(60_000));
  const image = new MemoryImage({
    layers: [layer([{ path: "a", data }]), layer([{ path: "b", data }])],
  });
  const manifest = await readManifest(image);
  const done: number[] = [];
  let all = 0;
  await unpackLayers(image, manifest, directory.path, {
    signal: new AbortController().signal,
    onProgress: ({ doneBytes, allBytes }) => {
      done.push(doneBytes);
      all = allBytes;
    },
  });
  assert.deepEqual(done, done.toSorted((a, b) => a - b));
  assert.equal(done.at(-1), all);
  const controller = new AbortController();
  const given = unpackLayers(image, manifest, directory.path, {
    signal: controller.signal,
    onProgress: () => controller.abort(),
  });
  await assert.rejects(given, { code: "Cancelled" });
});
