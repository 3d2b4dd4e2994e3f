/**
 * Images as stock containerd brings them to the wasm sandboxer: pulled from a registry through CRI,
 * and run. docs/wasm.md says what comes of which; these tests hold it.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { GuestName } from "./guests/build.ts";
import { GUESTS_BUILD_DIR } from "./guests/build.ts";
import { type BedContext, bedTests } from "./support/bed_tests.ts";
import { type Cri, images } from "./support/cri.ts";
import {
  archive,
  type ArtifactFormat,
  artifactLayout,
  type ImageDescription,
  type ImageLayout,
  imageLayout,
  indexLayout,
  OCI_ARCHITECTURE,
  type Platform,
  wasmImage,
} from "./support/oci_image.ts";
import { Registry } from "./support/registry.ts";
import type { TarEntry } from "./support/tar.ts";

const HANDLER = "quasaur-wasm";
const PULL_TIMEOUT_MS = 30_000;
const HELLO = ["hello from wasm"];

/** The platforms that build tools give WebAssembly images. */
const WASI: Platform = { os: "wasi", architecture: "wasm" };
const WASIP1: Platform = { os: "wasip1", architecture: "wasm" };
const MACHINE: Platform = { os: "linux", architecture: OCI_ARCHITECTURE };

const test = bedTests({ kinds: ["wasm"] });

function guest(name: GuestName): Promise<Uint8Array<ArrayBuffer>> {
  return Deno.readFile(`${GUESTS_BUILD_DIR}/${name}.wasm`);
}

/** An image with the guest `hello` for a platform. */
async function helloFor(
  platform: Platform,
  more: Partial<ImageDescription> = {},
): Promise<ImageLayout> {
  return await imageLayout(wasmImage("", await guest("hello"), more), platform);
}

/** Pulls an image as kubelet does. */
async function pull(cri: Cri, image: string): Promise<string> {
  await cri.client.call(images.pullImage, { image: { image } }, { timeoutMs: PULL_TIMEOUT_MS });
  return image;
}

/** Puts an image into a registry and pulls it. */
async function pullLayout(
  { cri }: BedContext,
  layout: ImageLayout,
): Promise<AsyncDisposable & { readonly image: string; readonly registry: Registry }> {
  await using opened = new AsyncDisposableStack();
  const registry = opened.use(new Registry());
  const image = await pull(cri, registry.add("image", layout));
  const kept = opened.move();
  return { image, registry, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Runs an image and expects the greeting of the guest `hello`. */
async function expectHello(
  { cri }: BedContext,
  image: string,
  more: { readonly annotations?: Record<string, string> } = {},
): Promise<void> {
  await using pod = await cri.runPod({ handler: HANDLER, ...more });
  assert.deepEqual((await pod.runContainer({ image })).stdout, HELLO);
}

test("an ordinary image with a module as its entrypoint runs", async (context) => {
  await using pulled = await pullLayout(context, await helloFor(MACHINE));
  await expectHello(context, pulled.image);
});

for (const platform of [WASI, WASIP1]) {
  const name = `${platform.os}/${platform.architecture}`;
  test(`an image that was built for ${name} alone runs`, async (context) => {
    await using pulled = await pullLayout(context, await helloFor(platform));
    await expectHello(context, pulled.image);
  });

  test(`an index with an image for ${name} and no other is not pulled`, async ({ cri }) => {
    await using registry = new Registry();
    const image = await helloFor(platform);
    const reference = registry.add("image", await indexLayout("", [[platform, image]]));
    await assert.rejects(pull(cri, reference), /no match for platform in manifest/);
  });

  test(`the image for ${name} in an index runs by its digest`, async (context) => {
    await using registry = new Registry();
    const image = await helloFor(platform);
    const reference = registry.add("image", await indexLayout("", [[platform, image]]));
    const byDigest = `${reference.replace(/:1$/, "")}@${image.target.digest}`;
    await pull(context.cri, byDigest);
    await expectHello(context, byDigest);
  });
}

test("of an index with an image for this machine that one is taken", async (context) => {
  const module = await guest("args");
  const forMachine = await imageLayout(wasmImage("", module, { cmd: ["machine"] }), MACHINE);
  const forWasi = await imageLayout(wasmImage("", module, { cmd: ["wasi"] }), WASI);
  const index = await indexLayout("", [[WASI, forWasi], [MACHINE, forMachine]]);
  await using pulled = await pullLayout(context, index);
  await using pod = await context.cri.runPod({ handler: HANDLER });
  const { stdout } = await pod.runContainer({ image: pulled.image });
  assert.ok(stdout.includes("arg machine"), stdout.join("\n"));
});

/** How far a module as an artifact comes, by who has packed it. */
const ARTIFACTS: Readonly<Record<ArtifactFormat, "created" | "pulled">> = {
  runwasi: "created",
  cncf: "pulled",
  "wasm-to-oci": "pulled",
};

for (const [format, step] of Object.entries(ARTIFACTS)) {
  test(`an artifact of ${format} is ${step}, and says why it does not run`, async (context) => {
    const layout = await artifactLayout({
      reference: "",
      format: format as ArtifactFormat,
      module: await guest("hello"),
    });
    await using pulled = await pullLayout(context, layout);
    const { image } = pulled;
    await using pod = await context.cri.runPod({ handler: HANDLER });
    if (step === "pulled") {
      await assert.rejects(pod.createContainer({ image }), /no command specified/);
    }
    const command = { image, ...(step === "pulled" ? { command: ["/app.wasm"] } : {}) };
    const container = await pod.createContainer({ name: "second", ...command });
    await assert.rejects(
      container.start(),
      /cannot find the program.*containerd does not unpack WebAssembly artifacts/,
    );
  });
}

/** What containerd would have to be told to make a file system of an artifact. */
const UNPACKING = {
  runwasi: {
    config_type: "application/vnd.oci.image.config.v1+json",
    layer_types: ["application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"],
  },
  cncf: {
    config_type: "application/vnd.wasm.config.v0+json",
    layer_types: ["application/wasm"],
  },
} as const;

/** The configuration: the layers are layers, and a program turns each into a tar archive. */
function unpackConfiguration(format: keyof typeof UNPACKING): string {
  const { config_type, layer_types } = UNPACKING[format];
  return `
[stream_processors."dev.quasaur.wasm"]
  accepts = ${JSON.stringify(layer_types)}
  returns = "application/vnd.oci.image.layer.v1.tar"
  path = "/bin/cat"
[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
  platform = "linux/${OCI_ARCHITECTURE}"
  snapshotter = "overlayfs"
  differ = "walking"
  config_type = "${config_type}"
  layer_types = ${JSON.stringify(layer_types)}
`;
}

for (const format of ["runwasi", "cncf"] as const) {
  test(`no configuration unpacks an artifact of ${format}: it lists no layers`, async ({ bed }) => {
    const { containerd, directory } = bed;
    const path = `${directory}/config.toml`;
    const before = await Deno.readTextFile(path);
    const reference = `quasaur.test/${format}:1`;
    const layout = await artifactLayout({ reference, format, module: await guest("hello") });
    await Deno.writeFile(`${directory}/artifact.tar`, archive(layout));
    try {
      await Deno.writeTextFile(path, before + unpackConfiguration(format));
      await containerd.restart();
      await assert.rejects(
        containerd.ctr("images", "import", "--all-platforms", `${directory}/artifact.tar`),
        /number of layers and diffIDs don't match: 1 != 0/,
      );
    } finally {
      await Deno.writeTextFile(path, before);
      await containerd.restart();
    }
  });
}

for (
  const [name, value] of [
    ["module.wasm.image/variant", "compat"],
    ["module.wasm.image/variant", "compat-smart"],
    ["run.oci.handler", "wasm"],
  ] as const
) {
  test(`a pod with ${name}=${value} runs`, async (context) => {
    await using pulled = await pullLayout(context, await helloFor(MACHINE));
    await expectHello(context, pulled.image, { annotations: { [name]: value } });
  });
}

test("a pod whose annotation asks for another runtime is refused", async ({ cri }) => {
  const annotations = { "run.oci.handler": "krun" };
  await assert.rejects(
    cri.runPod({ handler: HANDLER, annotations }),
    /annotation "run.oci.handler" is "krun": a wasm sandbox accepts "wasm", "wasm-smart", "wasmedge"/,
  );
});

/** Entrypoints that cannot run, and what the message says. */
const REFUSED: readonly (readonly [string, () => Promise<Uint8Array<ArrayBuffer>>, RegExp])[] = [
  ["a native program", () => Deno.readFile("/bin/true"), /native Linux program.*\(wasip1\)/],
  ["a script", () => bytes("#!/bin/sh\n"), /does not start like one, but like a script/],
  ["WebAssembly text", () => bytes("(module)"), /but like WebAssembly text \(\.wat\)/],
  ["a component", () => bytes("\0asm\x0d\0\x01\0"), /is a component \(WASI preview 2\)/],
];

function bytes(text: string): Promise<Uint8Array<ArrayBuffer>> {
  return Promise.resolve(new TextEncoder().encode(text));
}

test("an entrypoint that is no module is refused by what it is", async (context) => {
  const files = await Promise.all(
    REFUSED.map(async ([, data], i): Promise<TarEntry> => {
      return { kind: "file", path: `bad${i}`, data: await data(), mode: 0o755 };
    }),
  );
  await using pulled = await pullLayout(context, await helloFor(MACHINE, { files }));
  const { image } = pulled;
  await using pod = await context.cri.runPod({ handler: HANDLER });
  for (const [i, [what, , words]] of REFUSED.entries()) {
    const container = await pod.createContainer({ name: `bad${i}`, image, command: [`/bad${i}`] });
    await assert.rejects(container.start(), words, what);
  }
});

test("native code inside of a module is not executed", async (context) => {
  // As WasmEdge's "universal" output has it: a custom section of that name. This one is no code.
  const name = [...new TextEncoder().encode("wasmedge")];
  const section = [0, 1 + name.length + 4, name.length, ...name, 0xff, 0xff, 0xff, 0xff];
  const module = new Uint8Array([...await guest("hello"), ...section]);
  await using pulled = await pullLayout(
    context,
    await imageLayout(wasmImage("", module), MACHINE),
  );
  await expectHello(context, pulled.image);
});
