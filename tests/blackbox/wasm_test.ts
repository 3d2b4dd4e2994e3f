import assert from "node:assert/strict";
import { GUESTS_BUILD_DIR } from "../guests/build.ts";
import type { Bed } from "../support/bed.ts";
import { blackBoxSuite } from "./suite.ts";
import { WASM_IMAGE, wasmTarget } from "./wasm_target.ts";

const { handler } = wasmTarget;

/** The image with files that are no modules, or none that can run here. */
const BROKEN_IMAGE = "quasaur.test/broken:1";

/** `\0asm`, the first bytes of modules and components alike. */
const MAGIC = [0x00, 0x61, 0x73, 0x6d];

/** A module whose `_start` calls an import `mystery` from `env`, as bytes. */
const UNKNOWN_IMPORT = [
  ...[...MAGIC, 1, 0, 0, 0],
  ...[1, 4, 1, 0x60, 0, 0], // type 0: () -> ()
  ...[2, 15, 1, 3, 0x65, 0x6e, 0x76, 7, 0x6d, 0x79, 0x73, 0x74, 0x65, 0x72, 0x79, 0, 0], // import
  ...[3, 2, 1, 0], // function 1 of type 0
  ...[7, 10, 1, 6, 0x5f, 0x73, 0x74, 0x61, 0x72, 0x74, 0, 1], // export "_start"
  ...[10, 6, 1, 4, 0, 0x10, 0, 0x0b], // call 0
];

/** Files that must be refused, by name, and what the message must say. */
const BROKEN: readonly (readonly [string, Uint8Array<ArrayBuffer>, RegExp])[] = [
  ["empty.wasm", new Uint8Array(), /the file is empty.*empty\.wasm/],
  [
    "script.wasm",
    new TextEncoder().encode("#!/bin/sh\n"),
    /it does not start like one.*script\.wasm/,
  ],
  [
    "component.wasm",
    new Uint8Array([...MAGIC, 0x0d, 0, 1, 0]),
    /it is a component.*component\.wasm/,
  ],
  ["import.wasm", new Uint8Array(UNKNOWN_IMPORT), /mystery.*import\.wasm/],
];

/** Makes the image with the broken modules. */
async function importBroken(bed: Bed): Promise<void> {
  const hello = await Deno.readFile(`${GUESTS_BUILD_DIR}/hello.wasm`);
  const truncated = ["truncated.wasm", hello.slice(0, hello.length / 2)] as const;
  const files = [...BROKEN, truncated].map(([path, data]) => ({
    kind: "file" as const,
    path,
    data,
    mode: 0o755,
  }));
  const entrypoint = ["/none"];
  await bed.containerd.importImage({ reference: BROKEN_IMAGE, files, entrypoint });
}

const test = blackBoxSuite({
  ...wasmTarget,
  importImages: async (bed) => {
    await wasmTarget.importImages(bed);
    await importBroken(bed);
  },
});

for (
  const [name, , message] of [
    ...BROKEN,
    ["truncated.wasm", null, /truncated or damaged.*truncated\.wasm/] as const,
  ]
) {
  test(`${name} is refused with a message that says why`, async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.createContainer({ image: BROKEN_IMAGE, command: [`/${name}`] });
    await assert.rejects(container.start(), message);
    assert.equal(await container.state(), "EXITED");
    const hello = { name: "hello", image: WASM_IMAGE, command: ["/hello.wasm"] };
    assert.equal((await pod.runContainer(hello)).exitCode, 0);
  });
}

for (const kind of ["unreachable", "divide", "memory", "call"]) {
  test(`a trap (${kind}) ends the container as a crash does, and says so`, async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const options = { image: WASM_IMAGE, command: ["/trap.wasm"], args: [kind] };
    const { exitCode, reason, stdout, stderr } = await pod.runContainer(options);
    assert.equal(exitCode, 134);
    assert.equal(reason, "Error");
    assert.deepEqual(stdout, ["before"]);
    assert.match(stderr.join("\n"), /wasm trap: /);
  });
}

test("a container gets no more memory than its limit", async ({ cri }) => {
  await using pod = await cri.runPod({ handler });
  const { exitCode, stdout } = await pod.runContainer({
    image: WASM_IMAGE,
    command: ["/memory.wasm"],
    args: ["64"],
    resources: { memoryLimitInBytes: 16n << 20n },
  });
  assert.equal(exitCode, 0);
  const [, taken] = /^took (\d+) MiB$/.exec(stdout[0] ?? "") ?? [];
  assert.ok(Number(taken) > 8 && Number(taken) <= 16, stdout.join("; "));
});
