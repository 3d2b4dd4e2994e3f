import assert from "node:assert/strict";
import { imageArchive, wasmImage } from "../../tests/support/oci_image.ts";
import type { TarEntry } from "../../tests/support/tar.ts";
import { fullName } from "../../sandboxers/images/containerd.ts";
import { layoutArchive, layoutDirectory } from "../../sandboxers/images/layout.ts";
import { findModules } from "./modules.ts";
import { type LayoutOptions, writeLayout } from "./testing/layout.ts";

/** Bytes that begin like a module. */
function module(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`\0asm\x01\0\0\0${text}`);
}

/** A file of a layer. */
function file(path: string, data: Uint8Array = module(path)): TarEntry {
  return { kind: "file", path, data };
}

/** Paths and texts of the modules that are found in an image. */
async function find(options: LayoutOptions, all = false): Promise<Record<string, string>> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-layout-" });
  try {
    await writeLayout(directory, options);
    await using content = layoutDirectory(directory);
    const found = await findModules(content, all);
    return Object.fromEntries(
      found.map(({ path, bytes }) => [path, new TextDecoder().decode(bytes.subarray(8))]),
    );
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("the module that an image starts is found, however its layers are compressed", async () => {
  for (const format of ["tar", "tar+gzip", "tar+zstd"] as const) {
    const layers = [[file("app.wasm"), file("other.wasm"), file("readme", new Uint8Array(2_000))]];
    const config = { Entrypoint: ["/app.wasm"], Cmd: ["-v"] };
    assert.deepEqual(await find({ layers, config, format }), { "/app.wasm": "app.wasm" });
  }
});

Deno.test("the program is looked for as the sandboxer looks for it", async () => {
  const layers = [
    [
      file("bin/tool"),
      file("srv/app.wasm"),
      file("srv/plugin.wasm"),
      { kind: "symlink", path: "start", target: "srv/link" },
      { kind: "symlink", path: "srv/link", target: "/srv/../srv/app.wasm" },
    ] as const,
  ];
  const cases: [Record<string, unknown>, string[]][] = [
    [{ Entrypoint: ["tool"] }, ["/bin/tool"]],
    [{ Cmd: ["app.wasm"], WorkingDir: "/srv" }, ["/srv/app.wasm"]],
    [{ Entrypoint: ["app.wasm"], Env: ["PATH=/x:/srv"] }, ["/srv/app.wasm"]],
    [{ Entrypoint: ["./app.wasm"], WorkingDir: "/srv" }, ["/srv/app.wasm"]],
    [{ Entrypoint: ["/start"] }, ["/srv/app.wasm"]],
    [{ Entrypoint: ["/start"], Cmd: ["/srv/plugin.wasm", "/none.wasm"] }, [
      "/srv/app.wasm",
      "/srv/plugin.wasm",
    ]],
  ];
  for (const [config, paths] of cases) {
    assert.deepEqual(Object.keys(await find({ layers, config })), paths, JSON.stringify(config));
  }
});

Deno.test("--all finds every .wasm file, once", async () => {
  const layers = [
    [
      file("a.wasm"),
      file("b.wasm"),
      file("c"),
      file("text.wasm", new TextEncoder().encode("no module")),
      { kind: "symlink", path: "d.wasm", target: "a.wasm" },
    ] as const,
  ];
  const found = await find({ layers, config: { Entrypoint: ["/d.wasm"] } }, true);
  assert.deepEqual(Object.keys(found), ["/a.wasm", "/b.wasm"]);
});

Deno.test("an upper layer replaces, removes and hides what lies below", async () => {
  const layers = [
    [file("same.wasm"), file("gone.wasm"), file("d/x.wasm"), file("e/y.wasm"), file("f/z.wasm")],
    [
      file("same.wasm", module("new")),
      file(".wh.gone.wasm", new Uint8Array()),
      file("d/new.wasm"),
      file("d/.wh..wh..opq", new Uint8Array()),
      file(".wh.e", new Uint8Array()),
      file("f", new Uint8Array()),
    ],
    [{ kind: "symlink", path: "g", target: "d" } as const],
    [file("g/below.wasm")],
  ];
  assert.deepEqual(await find({ layers, config: { Cmd: ["/same.wasm"] } }, true), {
    "/same.wasm": "new",
    "/d/below.wasm": "g/below.wasm",
    "/d/new.wasm": "d/new.wasm",
  });
});

Deno.test("paths that lead out of an image are left out", async () => {
  const layers = [
    [
      file("../../out.wasm"),
      file("in.wasm"),
      { kind: "symlink", path: "loop", target: "loop" },
      { kind: "symlink", path: "up", target: "../../../in.wasm" },
    ] as const,
  ];
  const found = await find(
    { layers, config: { Entrypoint: ["/up"], Cmd: ["/loop/a.wasm"] } },
    true,
  );
  assert.deepEqual(Object.keys(found), ["/in.wasm"]);
});

Deno.test("of an index the manifest for this machine is taken, or one for wasm", async () => {
  const ours = `linux/${Deno.build.arch === "aarch64" ? "arm64" : "amd64"}`;
  const layers = [[file("app.wasm")]];
  const config = { Entrypoint: ["/app.wasm"] };
  for (
    const platforms of [["linux/s390x", ours], ["linux/s390x", "wasip1/wasm"], ["linux/s390x"]]
  ) {
    assert.deepEqual(Object.keys(await find({ layers, config, platforms })), ["/app.wasm"]);
  }
  await assert.rejects(find({ layers, config, platforms: ["linux/s390x", "windows/amd64"] }), {
    message: /it is for linux\/s390x, windows\/amd64: expected linux\//,
  });
});

Deno.test("an image without a module is refused, and told where there are some", async () => {
  const cases: [LayoutOptions, RegExp][] = [
    [{ layers: [[file("a", new Uint8Array(9))]], config: { Cmd: ["/a"] } }, /no file of it is one/],
    [
      { layers: [[file("a.wasm")]], config: { Cmd: ["/bin/sh"] } },
      /has 1 in other files: see --all/,
    ],
    [{ layers: [[file("a.wasm"), file("b.wasm")]] }, /it starts nothing by itself/],
  ];
  for (const [options, message] of cases) {
    await assert.rejects(find(options), { code: "InvalidArgument", message });
  }
});

Deno.test("a damaged layout is refused with a reason", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-layout-" });
  const read = async () => {
    await using content = layoutDirectory(directory);
    await findModules(content, false);
  };
  try {
    await assert.rejects(read(), /it has no index.json: expected an OCI image layout/);
    await Deno.writeTextFile(`${directory}/index.json`, "[");
    await assert.rejects(read(), /index.json is no JSON object/);
    const layers = [[file("app.wasm", module("x".repeat(5_000)))]];
    await writeLayout(directory, { layers, config: { Cmd: ["/app.wasm"] }, format: "tar" });
    for await (const { name } of Deno.readDir(`${directory}/blobs/sha256`)) {
      const path = `${directory}/blobs/sha256/${name}`;
      const data = await Deno.readFile(path);
      if (data.length < 5_000) continue;
      await Deno.writeFile(path, data.with(3_000, 1));
      await assert.rejects(read(), /content of sha256:\w+ is damaged: it is sha256:/);
      await Deno.remove(path);
      await assert.rejects(read(), { code: "NotFound", message: /sha256:\w+ is missing/ });
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("the archive of a layout is read like its directory", async () => {
  const path = await Deno.makeTempFile({ suffix: ".tar" });
  try {
    const image = wasmImage("quasaur.test/archive:1", module("app"));
    await Deno.writeFile(path, await imageArchive(image));
    await using content = await layoutArchive(path);
    const found = await findModules(content, false);
    assert.deepEqual(found, [{ path: "/app.wasm", bytes: module("app") }]);
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("short names of images stand for docker.io's", () => {
  const names: [string, string][] = [
    ["nginx", "docker.io/library/nginx:latest"],
    ["nginx:1", "docker.io/library/nginx:1"],
    ["shop/cart", "docker.io/shop/cart:latest"],
    ["localhost/cart", "localhost/cart:latest"],
    ["registry:5000/cart", "registry:5000/cart:latest"],
    ["registry.example/shop/cart:2", "registry.example/shop/cart:2"],
    ["registry.example/cart@sha256:00", "registry.example/cart@sha256:00"],
  ];
  for (const [short, full] of names) assert.equal(fullName(short), full);
});
